"""What is told of sessions that have changed: what is newer than the caller knows, and to whom it belongs."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from protos.session.v1 import changes_pb2 as pb
from protos.session.v1 import sessions_pb2
from tests.session.world import World, unique
from tests.support.rules import drop_rules

READ = "/homeroom.session.v1.SessionChangeService/ReadSessionChanges"
State = sessions_pb2.Session


def position(
    user: str, since: Timestamp | None = None, known: Mapping[str, int] | None = None
) -> pb.SessionPosition:
    return pb.SessionPosition(
        user_id=user,
        since=since,
        known=[
            pb.KnownSession(session_id=uuid.UUID(session).bytes, version=version)
            for session, version in (known or {}).items()
        ],
    )


async def read(world: World, *positions: pb.SessionPosition) -> Sequence[Any]:
    request = pb.ReadSessionChangesRequest(learners=positions)
    answer = await world.one(world.item(READ, request, user="", roles=frozenset({"service"})))
    assert len(answer.learners) == len(positions)
    return list(answer.learners)


def told(changes: Any) -> dict[str, tuple[int, int]]:
    return {str(uuid.UUID(bytes=each.session_id)): (each.version, each.state) for each in changes.sessions}


def long_ago() -> Timestamp:
    moment = Timestamp()
    moment.FromDatetime(datetime.now(UTC) - timedelta(hours=3))
    return moment


async def end_long_ago(world: World, user: str) -> None:
    """Gives the learner's sessions ids of two hours ago."""
    await world.truth.execute("DELETE FROM session_events WHERE user_id = $1", user)
    for row in await world.sessions(user):
        older = uuid.UUID(int=row["session_id"].int - (2 * 3600 * 1000 << 80))
        await world.truth.execute(
            "UPDATE sessions SET session_id = $3 WHERE user_id = $1 AND session_id = $2",
            user,
            row["session_id"],
            older,
        )


async def test_a_learner_is_told_each_change_once(world: World) -> None:
    ada, test = await world.learner(), await world.test()
    (before,) = await read(world, position(ada))
    assert told(before) == {}
    session = await world.started(ada, test, unique("k"))
    sid = session.session_id
    (begun,) = await read(world, position(ada, before.as_of))
    assert told(begun) == {sid: (session.version, State.ACTIVE)}
    assert begun.sessions[0].test_id == test
    known = {sid: session.version}
    (same,) = await read(world, position(ada, begun.as_of, known))
    assert told(same) == {}
    await world.one(world.answer(ada, sid, unique("k"), "q1", "right 1"))
    (answered,) = await read(world, position(ada, begun.as_of, known))
    version, state = told(answered)[sid]
    assert (version > session.version, state) == (True, State.ACTIVE)
    await world.one(world.complete(ada, sid, unique("k")))
    (ended,) = await read(world, position(ada, answered.as_of, {sid: version}))
    assert told(ended)[sid][1] == State.COMPLETED


async def test_a_session_that_began_and_ended_in_between_is_told(world: World) -> None:
    ada, test = await world.learner(), await world.test()
    (before,) = await read(world, position(ada))
    session = await world.started(ada, test, unique("k"))
    await world.one(world.abandon(ada, session.session_id, unique("k")))
    (after,) = await read(world, position(ada, before.as_of))
    assert told(after)[session.session_id][1] == State.ABANDONED


async def test_an_old_session_is_told_if_it_lives_or_is_known(world: World) -> None:
    ada = await world.learner()
    live, ended = await world.test(), await world.test()
    await world.started(ada, live, unique("k"))
    second = await world.started(ada, ended, unique("k"))
    await world.one(world.abandon(ada, second.session_id, unique("k")))
    await end_long_ago(world, ada)
    ids = {row["test_id"]: str(row["session_id"]) for row in await world.sessions(ada)}
    (fresh,) = await read(world, position(ada))
    assert set(told(fresh)) == {ids[live]}
    (knowing,) = await read(world, position(ada, fresh.as_of, {ids[ended]: 1}))
    assert set(told(knowing)) == {ids[live], ids[ended]}
    (resuming,) = await read(world, position(ada, long_ago()))
    assert set(told(resuming)) == {ids[live], ids[ended]}


async def test_a_deadline_that_has_passed_is_told_as_the_session_shows_it(world: World) -> None:
    ada, test = await world.learner(), await world.test(time_limit_seconds=60)
    session = await world.started(ada, test, unique("k"))
    await world.truth.execute(
        "UPDATE sessions SET deadline_at = now() - interval '1 hour' WHERE user_id = $1", ada
    )
    (changes,) = await read(world, position(ada))
    assert told(changes)[session.session_id] == (session.version, State.EXPIRED)


async def test_only_so_many_sessions_are_told_the_newest(world: World) -> None:
    ada = await world.learner()
    tests = [await world.test(questions=0) for _ in range(3)]
    for test in tests:
        await world.started(ada, test, unique("k"))
    await world.truth.execute(
        """
        INSERT INTO sessions (user_id, session_id, hold_id, test_id, revision, attempt, state, title, kind,
                              difficulty, total, started_at)
        SELECT user_id, gen_random_uuid(), gen_random_uuid(), 'made-' || n, revision, 1, state, title, kind,
               difficulty, total, started_at
          FROM sessions, generate_series(1, 50) AS n
         WHERE user_id = $1
         LIMIT 100
            ON CONFLICT DO NOTHING
        """,
        ada,
    )
    (changes,) = await read(world, position(ada))
    assert len(changes.sessions) <= 64
    ids = [each.session_id for each in changes.sessions]
    assert ids == sorted(ids)


async def test_nobody_is_told_anothers_sessions(world: World) -> None:
    ada, eve, test = await world.learner(), await world.learner(), await world.test()
    session = await world.started(ada, test, unique("k"))
    theirs, hers = await read(world, position(eve, None, {session.session_id: 1}), position(ada))
    assert told(theirs) == {}
    assert set(told(hers)) == {session.session_id}


async def test_a_learner_who_cannot_be_read_costs_the_others_nothing(fresh_world: World) -> None:
    world = fresh_world
    test = await world.test()
    learners = [await world.learner() for _ in range(9)]
    for user in learners:
        await world.started(user, test, unique("k"))
    poisoned = learners[4]
    await drop_rules(world.truth, "sessions")
    await world.truth.execute("UPDATE sessions SET state = 'odd' WHERE user_id = $1", poisoned)
    answers = await read(world, *map(position, [*learners, "nul\x00in it"]))
    assert [user for user, each in zip([*learners, "nul"], answers, strict=True) if each.failed] == [
        poisoned,
        "nul",
    ]
    assert all(len(each.sessions) == 1 for each in answers if not each.failed)
