"""What a learner sees of their sessions, and what other learners do not see."""

from __future__ import annotations

import json
import time
import uuid
from datetime import timedelta
from typing import Any

import pytest

from chassis.batch import Item
from chassis.errors import Reason
from protos.session.v1 import sessions_pb2
from session_service.domain.sessions import ListRequest
from session_service.domain.states import SessionState
from session_service.store.session_lists import statement_of
from tests.session.world import GRACE, SESSIONS, Session, World, reasons


def get(world: World, user: str, session: str) -> Item[Any]:
    request = sessions_pb2.GetSessionRequest(session_id=session)
    return world.item(f"/{SESSIONS}/GetSession", request, user=user)


async def listed(world: World, user: str, **fields: Any) -> Any:
    request = sessions_pb2.ListSessionsRequest(**fields)
    return await world.one(world.item(f"/{SESSIONS}/ListSessions", request, user=user))


async def test_another_learners_session_does_not_exist(world: World) -> None:
    owner, other = await world.learner(), await world.learner()
    session = (await world.started(owner, await world.test(), "k")).session_id
    outcomes = await world.send(
        [get(world, owner, session), get(world, other, session), get(world, owner, session.upper())]
    )
    assert reasons(outcomes) == [None, Reason.NOT_FOUND, Reason.NOT_FOUND]
    outcomes = await world.send([world.complete(other, session, "c"), world.complete(owner, session, "c")])
    assert reasons(outcomes) == [Reason.NOT_FOUND, None]


async def test_what_was_answered_can_be_read_through_another_replica(world: World) -> None:
    user, test = await world.learner(), await world.test()
    elsewhere = world.assemble()
    session = await world.started(user, test, "k")
    assert (await world.one(get(world, user, session.session_id), elsewhere)).session == session


async def test_sessions_are_listed_newest_first_in_pages_without_their_questions(world: World) -> None:
    user = await world.learner()
    tests = [await world.test() for _ in range(5)]
    started = [(await world.started(user, test, f"k-{test}")).session_id for test in tests]
    await world.started(await world.learner(), tests[0], "somebody else's")
    newest_first = list(reversed(started))
    first = await listed(world, user, page_size=2)
    assert [session.session_id for session in first.sessions] == newest_first[:2]
    assert not any(session.questions for session in first.sessions)
    assert first.sessions[0].total == 3
    second = await listed(world, user, page_size=2, page_token=first.next_page_token)
    third = await listed(world, user, page_size=2, page_token=second.next_page_token)
    assert [session.session_id for session in [*second.sessions, *third.sessions]] == newest_first[2:]
    assert third.next_page_token == ""


async def test_sessions_are_listed_by_state_and_by_test(world: World) -> None:
    user, test, other = await world.learner(), await world.test(), await world.test()
    done = (await world.started(user, test, "k1")).session_id
    await world.one(world.complete(user, done, "c"))
    live = (await world.started(user, test, "k2")).session_id
    elsewhere = (await world.started(user, other, "k3")).session_id

    async def found(**fields: Any) -> list[str]:
        return [session.session_id for session in (await listed(world, user, **fields)).sessions]

    assert await found() == [elsewhere, live, done]
    assert await found(state=Session.ACTIVE) == [elsewhere, live]
    assert await found(state=Session.ACTIVE, test_id=test) == [live]
    assert await found(state=Session.COMPLETED) == [done]
    assert await found(test_id=test) == [live, done]
    assert await found(state=Session.EXPIRED) == []
    request = sessions_pb2.ListSessionsRequest(test_id="\0")
    outcomes = await world.send([world.item(f"/{SESSIONS}/ListSessions", request, user=user)])
    assert reasons(outcomes) == [Reason.INVALID_ARGUMENT]


@pytest.mark.parametrize("token", ["x", "\0", "00000000"])
async def test_a_page_token_that_we_never_gave_is_refused(world: World, token: str) -> None:
    request = sessions_pb2.ListSessionsRequest(page_token=token)
    (refusal,) = await world.send([world.item(f"/{SESSIONS}/ListSessions", request, user="someone")])
    assert refusal.reason is Reason.INVALID_ARGUMENT
    assert refusal.violations[0].field == "pageToken"


async def test_an_overdue_session_reads_as_expired_before_it_is_closed(world: World) -> None:
    user, test = await world.learner(), await world.test(time_limit_seconds=60)
    session = (await world.started(user, test, "k")).session_id
    live = (await world.started(user, await world.test(), "k2")).session_id
    await world.one(world.answer(user, session, "a", "q1", "right 1"))
    await world.overdue(session)
    seen = await world.get(user, session)
    assert (seen.state, seen.close_reason, seen.passed) == (Session.EXPIRED, "timed_out", True)
    assert seen.closed_at.ToDatetime() == seen.deadline_at.ToDatetime() + GRACE

    async def found(**fields: Any) -> list[str]:
        return [each.session_id for each in (await listed(world, user, **fields)).sessions]

    assert await found(state=Session.EXPIRED) == [session]
    assert await found(state=Session.ACTIVE) == [live]
    assert {each.state for each in (await listed(world, user)).sessions} == {Session.EXPIRED, Session.ACTIVE}
    assert (await world.sessions(user))[0]["state"] == "active", "nobody has closed it yet"
    await world.parts.sweep.close_overdue()
    assert await world.get(user, session) == seen


@pytest.mark.parametrize("method", ["GetSession", "ListSessions"])
async def test_a_read_out_of_time_does_not_hurt_its_batch(world: World, method: str) -> None:
    user, test = await world.learner(), await world.test()
    session = (await world.started(user, test, "k")).session_id
    request = (
        sessions_pb2.GetSessionRequest(session_id=session)
        if method == "GetSession"
        else sessions_pb2.ListSessionsRequest()
    )
    items = [world.item(f"/{SESSIONS}/{method}", request, user=user) for _ in range(3)]
    late = items[1].context._replace(deadline=time.monotonic() - 1)
    outcomes = await world.send([items[0], items[1]._replace(context=late), items[2]])
    assert (reasons(outcomes)[0], reasons(outcomes)[2]) == (None, None)
    assert reasons(outcomes)[1] in {None, Reason.DEADLINE_EXCEEDED}


async def test_a_page_of_large_sessions_ends_at_one_mebibyte(world: World) -> None:
    user = await world.learner()
    await world.truth.execute(
        "INSERT INTO sessions (user_id, session_id, hold_id, test_id, revision, attempt, state, title, kind,"
        " difficulty, metadata, total, started_at)"
        " SELECT $1, gen_random_uuid(), gen_random_uuid(), 'test-' || n, 1, 1, 'active', '', 'practice', '',"
        "        jsonb_build_object('a', repeat('x', 4000)), 0, now()"
        "   FROM generate_series(1, 400) AS n",
        user,
    )
    seen: list[str] = []
    sizes: list[int] = []
    token = ""
    while not seen or token:
        page = await listed(world, user, page_size=500, page_token=token)
        seen += [session.session_id for session in page.sessions]
        sizes.append(page.ByteSize())
        token = page.next_page_token
    assert len(seen) == len(set(seen)) == 400
    assert len(sizes) == 2
    assert max(sizes) < 1024 * 1024 + 1000


@pytest.mark.parametrize(
    ("state", "by_test", "index"),
    [
        (None, False, "sessions_once"),
        (SessionState.COMPLETED, False, "sessions_once"),
        (SessionState.ACTIVE, False, "sessions_one_live_per_test"),
        (SessionState.PAUSED, True, "sessions_one_live_per_test"),
    ],
)
async def test_a_page_far_back_costs_what_the_first_one_costs(
    fresh_world: World, state: SessionState | None, *, by_test: bool, index: str
) -> None:
    """One learner with thousands of sessions: a page reads its own rows, not those before it."""
    truth = fresh_world.truth
    await truth.execute(
        """
        INSERT INTO sessions (user_id, session_id, hold_id, test_id, revision, attempt, state, title, kind,
                              difficulty, total, started_at, submitted_at, closed_at, close_reason)
        SELECT 'much', ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, gen_random_uuid(),
               't' || n % 7, 1, n, CASE WHEN n > 7 THEN 'completed' ELSE 'active' END, '', 'practice', '', 1,
               now(), CASE WHEN n > 7 THEN now() END, CASE WHEN n > 7 THEN now() END,
               CASE WHEN n > 7 THEN 'submitted' END
          FROM generate_series(1, 5000) AS n
        """
    )
    await truth.execute("ANALYZE sessions")
    sql, arguments = statement_of(
        ListRequest("much", state, "t1" if by_test else None),
        before=uuid.UUID("00000000-0000-7000-8000-000000000100"),
        limit=51,
        grace=timedelta(0),
    )
    plan = json.loads(await truth.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", *arguments))
    scan = plan[0]["Plan"]
    while "Plans" in scan:
        (scan,) = scan["Plans"]
    assert scan["Index Name"] == index
    assert scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0) <= 60
