"""What instructors and administrators see of learners' sessions, how they end one, and a test's results."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from chassis.batch import Item
from chassis.errors import Reason
from protos.session.v1 import supervision_pb2
from session_service.progress_client import RESULT_TOPIC
from session_service.subscription_client import COMMIT_TOPIC, RELEASE_TOPIC
from tests.session.test_identity import engaged, enrolling, let_it_come
from tests.session.test_timeline import Kind, kinds, timeline
from tests.session.world import Session, World, body, reasons, unique

SUPERVISION = "homeroom.session.v1.SupervisionService"
TEACHER = frozenset({"instructor"})


def listing(world: World, user: str, **fields: Any) -> Item[Any]:
    request = supervision_pb2.ListAccountSessionsRequest(user_id=user, **fields)
    return world.item(f"/{SUPERVISION}/ListAccountSessions", request, user="teacher", roles=TEACHER)


def closing(world: World, user: str, session: str, key: str, reason: str = "cheated") -> Any:
    request = supervision_pb2.CloseAccountSessionRequest(user_id=user, session_id=session, reason=reason)
    return world.item(f"/{SUPERVISION}/CloseAccountSession", request, user="boss", key=key)


def results(world: World, test: str, **fields: Any) -> Item[Any]:
    request = supervision_pb2.ListTestResultsRequest(test_id=test, **fields)
    return world.item(f"/{SUPERVISION}/ListTestResults", request, user="teacher", roles=TEACHER)


async def begun(world: World, answers: int = 0, **test: Any) -> tuple[str, str]:
    user = await world.learner()
    session = (await world.started(user, await world.test(**test), "start")).session_id
    for n in range(1, answers + 1):
        await world.one(world.answer(user, session, f"a{n}", f"q{n}", f"right {n}"))
    return user, session


async def played(
    world: World, user: str, test: str, number: int, *, right: int, wrong: int = 0, how: str = "complete"
) -> str:
    session: str = (await world.started(user, test, f"s {test} {number}")).session_id
    for n in range(1, right + wrong + 1):
        choice = f"right {n}" if n <= right else "wrong"
        await world.one(world.answer(user, session, f"a {test} {number} {n}", f"q{n}", choice))
    await world.one(getattr(world, how)(user, session, f"e {test} {number}"))
    return session


async def test_a_supervisor_lists_a_learners_sessions_with_filters(world: World) -> None:
    user, test, other = await world.learner(), await world.test(), await world.test()
    done = await played(world, user, test, 1, right=1)
    live = (await world.started(user, test, "live")).session_id
    elsewhere = (await world.started(user, other, "elsewhere")).session_id
    await world.started(await world.learner(), test, "somebody else's")

    async def found(**fields: Any) -> list[str]:
        return [session.session_id for session in (await world.one(listing(world, user, **fields))).sessions]

    assert await found() == [elsewhere, live, done]
    assert await found(state=Session.ACTIVE, test_id=test) == [live]
    assert await found(state=Session.COMPLETED) == [done]
    first = await world.one(listing(world, user, page_size=2))
    await world.started(user, await world.test(), "one more")
    assert await found(page_token=first.next_page_token) == [done]
    bad = await world.send(
        [listing(world, "nul\0"), listing(world, user, test_id="\0"), listing(world, user)]
    )
    assert reasons(bad) == [Reason.INVALID_ARGUMENT, Reason.INVALID_ARGUMENT, None]


async def test_an_answered_session_that_is_closed_for_its_learner_has_its_result(world: World) -> None:
    user, session = await begun(world, answers=2, questions=4, pass_score=0.5, xp=30)
    item = closing(world, user, session, unique("k"), "left the room")
    closed = (await world.one(item)).session
    assert (closed.state, closed.close_reason, closed.score, closed.passed, closed.user_id) == (
        Session.EXPIRED,
        "administrator",
        0.5,
        True,
        user,
    )
    assert len(closed.questions) == 4
    assert await world.get(user, session) == closed
    assert await world.events(user) == [RESULT_TOPIC, COMMIT_TOPIC]
    await world.deliver()
    assert await world.units(user) == (0, 1)
    stats = await world.stats(user)
    assert (stats.completed_sessions, stats.answers, stats.xp) == (1, 2, 30)
    end = (await timeline(world, user, session))[-1]
    assert (end.kind, end.actor_id, end.reason, end.note) == (
        Kind.EXPIRED,
        "boss",
        "administrator",
        "left the room",
    )


@pytest.mark.parametrize(
    ("seconds", "seen", "passed"), [(10, True, False), (400, False, False), (400, True, True)]
)
async def test_a_close_for_its_learner_passes_only_what_could_have_been_handed_in(
    world: World, seconds: float, seen: bool, passed: bool
) -> None:
    user = await world.learner()
    await world.one(enrolling(world, user))
    test = await world.test(identity_checks=1, min_engaged_seconds=300, xp=30)
    session = (await world.started(user, test, "start")).session_id
    await world.one(world.answer(user, session, "a", "q1", "right 1"))
    await engaged(world, session, seconds)
    if not seen:
        await let_it_come(world, session)
    closed = (await world.one(closing(world, user, session, unique("k")))).session
    assert (closed.state, closed.score > 0, closed.passed) == (Session.EXPIRED, True, passed)
    await world.deliver()
    stats = await world.stats(user)
    assert (stats.completed_sessions, stats.xp) == (1, 30 if passed else 0)


async def test_an_unanswered_session_that_is_closed_for_its_learner_gives_its_unit_back(world: World) -> None:
    user, session = await begun(world)
    closed = (await world.one(closing(world, user, session, unique("k")))).session
    assert (closed.state, closed.close_reason, closed.passed) == (Session.ABANDONED, "administrator", False)
    assert await world.units(user) == (0, 0), "no relay has run"
    assert await world.events(user) == [RELEASE_TOPIC]


async def test_a_close_is_replayed_and_a_second_one_is_illegal(world: World) -> None:
    user, session = await begun(world, answers=1)
    other_user, other_session = await begun(world, answers=1)
    key = unique("k")
    item = closing(world, user, session, key)
    (first,) = await world.send([item])
    outcomes = await world.send(
        [
            item,
            closing(world, user, session, key, "another reason"),
            closing(world, other_user, other_session, key),
            closing(world, user, session, unique("k")),
            closing(world, user, other_session, unique("k")),
            closing(world, "nobody", session, unique("k")),
            closing(world, user, session.upper(), unique("k")),
        ]
    )
    assert reasons(outcomes) == [
        None,
        Reason.IDEMPOTENCY_KEY_REUSED,
        Reason.IDEMPOTENCY_KEY_REUSED,
        Reason.ILLEGAL_TRANSITION,
        Reason.NOT_FOUND,
        Reason.NOT_FOUND,
        Reason.NOT_FOUND,
    ]
    assert outcomes[0].replayed
    assert outcomes[0].payload() == first.payload()
    assert outcomes[3].metadata == {"from": "EXPIRED", "to": "EXPIRED"}
    assert (await world.get(other_user, other_session)).state == Session.ACTIVE
    (late,) = await world.send([world.answer(user, session, "late", "q2", "x")])
    assert late.reason is Reason.SESSION_CLOSED


async def test_closing_and_completing_at_once_have_one_winner(world: World) -> None:
    for _ in range(5):
        user, session = await begun(world, answers=1)
        elsewhere = world.assemble()
        found = await asyncio.gather(
            world.send([world.complete(user, session, "c")]),
            world.send([closing(world, user, session, unique("k"))], elsewhere),
        )
        outcomes = [outcome for batch in found for outcome in batch]
        assert sorted(reason is None for reason in reasons(outcomes)) == [False, True]
        told = kinds(await timeline(world, user, session))
        assert told[:2] == ["STARTED", "ANSWERED"]
        assert told[2] in {"COMPLETED", "EXPIRED"}
        assert told[3:] == ["REFUSED"]
        await world.deliver()
        assert await world.units(user) == (0, 1)


async def test_a_close_that_cannot_be_stored_fails_alone(world: World) -> None:
    ready = [await begun(world, answers=1) for _ in range(4)]
    items = [
        closing(world, user, session, unique("k"), "nothing\0ness" if place == 2 else "why")
        for place, (user, session) in enumerate(ready)
    ]
    assert reasons(await world.send(items)) == [None, None, Reason.INVALID_ARGUMENT, None]
    user, session = ready[2]
    assert (await world.get(user, session)).state == Session.ACTIVE


async def test_the_results_of_a_test_come_by_learner_in_pages(world: World) -> None:
    test, other = await world.test(pass_score=0.6), await world.test()
    users = sorted([await world.learner() for _ in range(5)])
    for place, user in enumerate(users):
        await played(world, user, test, 1, right=1, wrong=1)
        if place % 2:
            await played(world, user, test, 2, right=2, how="complete")
        await played(world, user, test, 3, right=0, how="abandon")  # uses no attempt
        await played(world, user, other, 1, right=3)
    idle, live = await world.learner(), await world.learner()
    await played(world, idle, test, 1, right=0)
    session = (await world.started(live, test, "s")).session_id
    await world.one(world.answer(live, session, "a", "q1", "right 1"))
    rows: list[Any] = []
    token = ""
    for _ in range(3):
        page = await world.one(results(world, test, page_size=2, page_token=token))
        rows += page.results
        token = page.next_page_token
    assert token == ""
    assert [row.user_id for row in rows] == users
    assert [(row.attempts, round(row.best_score, 2), row.passed) for row in rows] == [
        (2, 0.67, True) if place % 2 else (1, 0.33, False) for place in range(5)
    ]
    assert all(row.HasField("last_ended_at") for row in rows)


async def test_results_need_a_test(world: World) -> None:
    test = await world.test()
    outcomes = await world.send([results(world, name) for name in ("no-such-test", "\0", test)])
    assert reasons(outcomes) == [Reason.NOT_FOUND, Reason.INVALID_ARGUMENT, None]
    assert not body(results(world, test), outcomes[2]).results


async def explained(world: World, sql: str, *arguments: object) -> str:
    """The plan of a statement as it is on a large table: without a scan of the whole of it."""
    async with world.truth.transaction():
        await world.truth.execute("SET LOCAL enable_seqscan = off")
        rows: Sequence[Any] = await world.truth.fetch(f"EXPLAIN {sql}", *arguments)
    return "\n".join(row[0] for row in rows)


async def test_results_go_along_their_index_in_order(world: World) -> None:
    from session_service.store.results import _LIST_RESULTS  # noqa: PLC0415 - the statement itself is what is tested

    plan = await explained(world, _LIST_RESULTS, "t", "", 50)
    assert "sessions_ended_of_test" in plan
    assert "Sort" not in plan
    (condition,) = [line for line in plan.splitlines() if "Index Cond" in line]
    assert "(ROW(test_id, user_id) > ROW(" in condition, plan
    assert "(test_id <= " in condition, plan
