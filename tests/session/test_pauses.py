"""A pause stops the clock of a session, within a budget, and nothing but the database's clock ends it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from chassis.errors import Reason
from tests.session.world import GRACE, TIMES, Session, World, body, reasons

MINUTE = timedelta(minutes=1)


async def begun(world: World, **test: Any) -> tuple[str, str]:
    user = await world.learner()
    session = await world.started(user, await world.test(**({"time_limit_seconds": 600} | test)), "start")
    return user, session.session_id


def moment(timestamp: Any) -> datetime:
    at: datetime = timestamp.ToDatetime()
    return at


async def test_a_pause_makes_the_deadline_later_by_its_length(world: World) -> None:
    user, session = await begun(world)
    for n in range(2):
        before = await world.get(user, session)
        paused = (await world.one(world.pause(user, session, f"p{n}"))).session
        assert paused.state == Session.PAUSED
        assert moment(paused.pause_ends_at) - moment(paused.started_at) < TIMES.pause_budget + MINUTE
        await world.later(session, 9 * MINUTE)
        item = world.resume(user, session, f"r{n}")
        first = (await world.send([item]))[0]
        resumed = body(item, first).session
        assert (resumed.state, resumed.HasField("pause_ends_at")) == (Session.ACTIVE, False)
        gained = moment(resumed.deadline_at) - moment(before.deadline_at) + 9 * MINUTE
        assert timedelta(0) <= gained - 9 * MINUTE < MINUTE
        replayed = (await world.send([item]))[0]
        assert (replayed.replayed, replayed.payload()) == (True, first.payload())
    await world.one(world.answer(user, session, "a", "q1", "right 1"))
    (row,) = await world.sessions(user)
    started, deadline, seconds = row["started_at"], row["deadline_at"], row["paused_seconds"]
    assert abs(deadline - started - 10 * MINUTE - timedelta(seconds=seconds)) < timedelta(milliseconds=1)


async def test_a_paused_session_takes_no_answer_and_can_end(world: World) -> None:
    user, session = await begun(world)
    await world.one(world.answer(user, session, "a1", "q1", "right 1"))
    await world.one(world.pause(user, session, "p"))
    outcomes = await world.send([world.answer(user, session, f"a{n}", "q2", "right 2") for n in (2, 3)])
    assert reasons(outcomes) == [Reason.ILLEGAL_TRANSITION] * 2
    assert outcomes[0].metadata == {"from": "PAUSED", "to": "ACTIVE"}
    again = await world.send([world.pause(user, session, "p2")])
    assert again[0].metadata == {"from": "PAUSED", "to": "PAUSED"}
    done = (await world.one(world.complete(user, session, "c"))).session
    assert (done.state, done.answered) == (Session.COMPLETED, 1)
    for request, to in ((world.pause, "PAUSED"), (world.resume, "ACTIVE")):
        (refusal,) = await world.send([request(user, session, "too late")])
        assert (refusal.reason, refusal.metadata) == (
            Reason.ILLEGAL_TRANSITION,
            {"from": "COMPLETED", "to": to},
        )


async def test_a_session_under_way_cannot_be_resumed(world: World) -> None:
    user, session = await begun(world)
    (refusal,) = await world.send([world.resume(user, session, "r")])
    assert (refusal.reason, refusal.metadata) == (
        Reason.ILLEGAL_TRANSITION,
        {"from": "ACTIVE", "to": "ACTIVE"},
    )


async def test_the_clock_goes_on_by_itself_when_the_pause_budget_is_used_up(world: World) -> None:
    user, session = await begun(world)
    before = moment((await world.get(user, session)).deadline_at)
    await world.one(world.pause(user, session, "p"))
    by = TIMES.pause_budget + MINUTE
    await world.later(session, by)
    seen = await world.get(user, session)
    assert (seen.state, seen.HasField("pause_ends_at")) == (Session.ACTIVE, False)
    assert moment(seen.deadline_at) == before + TIMES.pause_budget - by
    assert (await world.started(user, seen.test_id, "again")).state == Session.ACTIVE
    await world.one(world.answer(user, session, "a", "q1", "right 1"))
    (refusal,) = await world.send([world.pause(user, session, "no more")])
    assert (refusal.reason, refusal.metadata) == (
        Reason.ILLEGAL_TRANSITION,
        {"from": "ACTIVE", "to": "PAUSED"},
    )
    (row,) = await world.sessions(user)
    assert row["paused_seconds"] == TIMES.pause_budget.total_seconds()


@pytest.mark.parametrize("swept", [False, True])
async def test_a_session_expires_in_its_pause_when_budget_and_time_are_used_up(
    world: World, swept: bool
) -> None:
    user, session = await begun(world)
    await world.one(world.answer(user, session, "a", "q1", "right 1"))
    await world.one(world.pause(user, session, "p"))
    await world.later(session, TIMES.pause_budget + 10 * MINUTE)
    if swept:
        await world.parts.sweep.close_overdue()
    seen = await world.get(user, session)
    assert seen.state == Session.ACTIVE, "the grace is still to come"
    await world.later(session, GRACE)
    if swept:
        assert await world.parts.sweep.close_overdue() == 1
    seen = await world.get(user, session)
    assert (seen.state, seen.close_reason, seen.passed) == (Session.EXPIRED, "timed_out", True)
    (refusal,) = await world.send([world.resume(user, session, "r")])
    assert refusal.metadata == {"from": "EXPIRED", "to": "ACTIVE"}


async def test_a_session_without_a_deadline_can_pause_too(world: World) -> None:
    user, session = await begun(world, time_limit_seconds=None)
    paused = (await world.one(world.pause(user, session, "p"))).session
    assert (paused.HasField("deadline_at"), paused.HasField("pause_ends_at")) == (False, True)
    assert (await world.one(world.resume(user, session, "r"))).session.state == Session.ACTIVE


async def test_answers_are_taken_until_the_grace_is_over(world: World) -> None:
    user, session = await begun(world)
    await world.later(session, 10 * MINUTE)
    await world.one(world.answer(user, session, "a", "q1", "right 1"))
    await world.later(session, GRACE)
    (refusal,) = await world.send([world.answer(user, session, "b", "q1", "right 1")])
    assert refusal.reason is Reason.DEADLINE_PASSED
