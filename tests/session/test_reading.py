"""What a learner sees of their sessions, and what others do not."""

from __future__ import annotations

from typing import Any

import pytest

from chassis.batch import Item
from chassis.errors import Reason
from protos.session.v1 import sessions_pb2
from tests.session.world import SESSIONS, Session, World, reasons


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
