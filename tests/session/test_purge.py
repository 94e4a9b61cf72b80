"""The records of ended sessions are deleted when their time is over: in small steps, and no others."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from chassis.process.background import AT_ONCE
from session_service.domain.timing import Retention
from session_service.store import purges
from tests.session.test_timeline import kinds, timeline
from tests.session.world import World

KEPT = Retention(answers=timedelta(days=100), timeline=timedelta(days=10))


@pytest.fixture
def world(fresh_world: World) -> World:
    """A world of its own: a purge takes whatever is old enough."""
    return fresh_world


async def ended(world: World, user: str, *, days_ago: int, answers: int = 2) -> str:
    """A session that ended so many days ago, with a refused answer in its timeline."""
    test = await world.test()
    session = (await world.started(user, test, f"s {test}")).session_id
    for n in range(answers):
        await world.one(world.answer(user, session, f"a {test} {n}", "q1", "right 1"))
    await world.one(world.complete(user, session, f"c {test}"))
    await world.send([world.answer(user, session, f"late {test}", "q2", "x")])
    await world.truth.execute(
        "UPDATE sessions SET closed_at = closed_at - make_interval(days => $2),"
        " submitted_at = submitted_at - make_interval(days => $2) WHERE session_id = $1::uuid",
        session,
        days_ago,
    )
    return str(session)


async def purged(world: World, parts: Any | None = None) -> int:
    """Run the job until it has nothing to do; returns how many rounds that took."""
    purge = (parts or world.assemble(retention=KEPT)).purge
    for round_ in range(1, 1000):
        if await purge.purge() != AT_ONCE:
            return round_
    raise AssertionError


async def rows(world: World, session: str) -> tuple[int, int]:
    """Answers and events of a session."""
    count = "SELECT count(*) FROM {} WHERE session_id = $1::uuid"
    answers, events = [
        await world.truth.fetchval(count.format(table), session) for table in ("answers", "session_events")
    ]
    return answers, events


async def test_answers_and_events_go_after_their_own_time_and_the_session_stays(world: World) -> None:
    user = await world.learner()
    young, middle, old = [await ended(world, user, days_ago=days) for days in (9, 11, 101)]
    assert await purged(world) == 1
    assert [await rows(world, session) for session in (young, middle, old)] == [(2, 2), (2, 0), (0, 0)]
    read = await world.get(user, old)
    assert (read.answered, read.HasField("score")) == (1, True)
    assert kinds(await timeline(world, user, old)) == ["STARTED", "COMPLETED"]
    assert kinds(await timeline(world, user, middle)) == ["STARTED", "ANSWERED", "ANSWERED", "COMPLETED"]
    assert await purged(world) == 1, "nothing is left to do"


async def test_a_live_session_keeps_everything_however_old_it_is(world: World) -> None:
    user, test = await world.learner(), await world.test()
    session = (await world.started(user, test, "s")).session_id
    await world.one(world.answer(user, session, "a", "q1", "right 1"))
    await world.one(world.pause(user, session, "p"))
    for table, column in (("sessions", "started_at"), ("answers", "answered_at")):
        await world.truth.execute(
            f"UPDATE {table} SET {column} = {column} - interval '1000 days' WHERE session_id = $1::uuid",  # noqa: S608 - our own names
            session,
        )
    await purged(world)
    assert await rows(world, session) == (1, 1)


async def test_a_purge_goes_in_small_steps_and_two_replicas_share_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purges, "ROWS_PER_PURGE", 3)
    monkeypatch.setattr(purges, "SESSIONS_PER_PURGE", 2)
    user = await world.learner()
    sessions = [await ended(world, user, days_ago=200 + n, answers=n) for n in range(8)]
    live = await ended(world, user, days_ago=0)
    replicas = [world.assemble(retention=KEPT) for _ in range(2)]
    steps = await asyncio.gather(*(purged(world, parts) for parts in replicas))
    await purged(world)
    assert sum(steps) > 5
    assert {await rows(world, session) for session in sessions} == {(0, 0)}
    assert await rows(world, live) == (2, 2)


async def test_a_purge_goes_along_its_index(world: World) -> None:
    async with world.truth.transaction():
        await world.truth.execute("SET LOCAL enable_seqscan = off")
        plan = await world.truth.fetch(
            f"EXPLAIN {purges._LIST_ENDED}", timedelta(days=1), *purges._BEGINNING, 100
        )
    text = "\n".join(row[0] for row in plan)
    assert "sessions_ended_by_time" in text
    assert "Sort" not in text
