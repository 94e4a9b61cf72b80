"""Heartbeats, and what becomes of sessions whose page has gone."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import Any

import pytest

from chassis.errors import Reason
from protos.session.v1 import presence_pb2
from session_service.operations import sweep_sessions
from session_service.store import presence
from tests.session.world import TIMES, Session, World, body, reasons

SECOND = timedelta(seconds=1)
INTERVAL = TIMES.heartbeat_interval


async def begun(world: World, **test: Any) -> tuple[str, str]:
    user = await world.learner(limit=1)
    session = await world.started(user, await world.test(**test), "start")
    return user, session.session_id


async def beat(world: World, user: str, session: str, seq: int, *, visible: bool = True) -> Any:
    return await world.one(world.beat(user, session, seq, visible=visible))


def close_to(seconds: float, expected: float) -> bool:
    """The database's clock goes on while a test runs."""
    return expected <= seconds < expected + 5


async def test_engaged_time_grows_while_the_page_is_visible(world: World) -> None:
    user, session = await begun(world, time_limit_seconds=3600)
    first = await beat(world, user, session, 1)
    assert (first.state, first.seq, close_to(first.engaged_seconds, 0)) == (Session.ACTIVE, 1, True)
    assert first.deadline_at == (await world.get(user, session)).deadline_at
    await world.later(session, INTERVAL)
    second = await beat(world, user, session, 2)
    assert close_to(second.engaged_seconds, 15)
    await world.later(session, INTERVAL)
    hidden = await beat(world, user, session, 3, visible=False)
    assert hidden.engaged_seconds == second.engaged_seconds
    await world.later(session, 10 * INTERVAL)
    back = await beat(world, user, session, 4)
    assert back.engaged_seconds == second.engaged_seconds + 30, "at most two intervals for one heartbeat"
    assert (await world.get(user, session)).engaged_seconds == back.engaged_seconds


async def test_a_heartbeat_that_is_late_or_comes_twice_changes_nothing(world: World) -> None:
    user, session = await begun(world)
    await beat(world, user, session, 5)
    await world.later(session, INTERVAL)
    before = (await world.sessions(user))[0]
    for seq in (5, 3, 1):
        told = await beat(world, user, session, seq)
        assert (told.seq, told.engaged_seconds) == (5, before["engaged_seconds"])
    assert (await world.sessions(user))[0] == before


async def test_heartbeats_of_one_batch_are_as_if_they_came_one_after_the_other(world: World) -> None:
    user, session = await begun(world)
    other, theirs = await begun(world)
    await beat(world, user, session, 1)
    await world.later(session, INTERVAL)
    outcomes = await world.send(
        [
            world.beat(user, session, 3),
            world.beat(other, theirs, 1),
            world.beat(user, session, 2, visible=False),
            world.beat(user, session, 4),
            world.beat(other, session, 9),
            world.beat(user, session, 4, visible=False),
        ]
    )
    told = [body(world.beat(user, session, 1), outcomes[place]) for place in (0, 2, 3, 5)]
    assert {each.seq for each in told} == {4}
    assert all(close_to(each.engaged_seconds, 15) for each in told)
    assert reasons(outcomes) == [None, None, None, None, Reason.NOT_FOUND, None]


async def test_a_visible_heartbeat_counts_beside_the_hidden_one_behind_it(world: World) -> None:
    for visible, gained in ((True, 15), (False, 0)):
        user, session = await begun(world)
        await beat(world, user, session, 1)
        await world.later(session, INTERVAL)
        beats = [world.beat(user, session, 2 + n, visible=visible is (n % 2 == 0)) for n in range(7)]
        told = [body(beats[0], outcome) for outcome in await world.send(beats)]
        assert {each.seq for each in told} == {8}
        assert close_to(told[-1].engaged_seconds, gained)


async def test_heartbeats_in_any_order_and_number_never_count_more_than_the_time(world: World) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    user, session = await begun(world)
    passed = 0.0
    for _ in range(15):
        seconds = chance.uniform(0, 40)
        passed += seconds
        await world.later(session, seconds * SECOND)
        beats = [world.beat(user, session, chance.randint(1, 60)) for _ in range(chance.randint(1, 4))]
        await world.send(beats + chance.sample(beats, 1))
    (row,) = await world.sessions(user)
    assert 0 <= row["engaged_seconds"] < passed + 5


async def test_a_pause_adds_no_engaged_time(world: World) -> None:
    user, session = await begun(world)
    await beat(world, user, session, 1)
    await world.one(world.pause(user, session, "p"))
    await world.later(session, 60 * SECOND)
    paused = await beat(world, user, session, 2)
    assert (paused.state, close_to(paused.engaged_seconds, 0)) == (Session.PAUSED, True)
    await world.later(session, 60 * SECOND)
    await world.one(world.resume(user, session, "r"))
    await world.later(session, 10 * SECOND)
    assert close_to((await beat(world, user, session, 3)).engaged_seconds, 10)


async def test_after_a_pause_that_ended_by_itself_only_the_time_since_then_counts(world: World) -> None:
    user, session = await begun(world)
    await world.one(world.pause(user, session, "p"))
    await world.later(session, TIMES.pause_budget + 10 * SECOND)
    told = await beat(world, user, session, 1)
    assert (told.state, close_to(told.engaged_seconds, 10)) == (Session.ACTIVE, True)
    await world.later(session, 10 * SECOND)
    assert close_to((await beat(world, user, session, 2)).engaged_seconds, 20)


async def test_a_session_that_has_ended_says_so_and_counts_nothing(world: World) -> None:
    user, session = await begun(world, time_limit_seconds=60)
    await beat(world, user, session, 1)
    await world.later(session, 70 * SECOND)
    late = await beat(world, user, session, 2)
    assert (late.state, late.seq, close_to(late.engaged_seconds, 0)) == (Session.EXPIRED, 1, True)
    await world.parts.sweep.close_overdue()
    assert (await beat(world, user, session, 3)).state == Session.EXPIRED
    assert (await world.one(world.leave(user, session))).state == Session.EXPIRED
    assert (await world.sessions(user))[0]["left_at"] is None


async def test_32_tabs_beat_at_once_beside_a_session_that_is_locked(world: World) -> None:
    user, session = await begun(world)
    stuck, locked = await begun(world)
    async with world.truth.transaction():
        await world.truth.execute("SELECT 1 FROM sessions WHERE user_id = $1 FOR UPDATE", stuck)
        outcomes = await world.send(
            [*(world.beat(user, session, seq) for seq in range(1, 33)), world.beat(stuck, locked, 1)]
        )
    assert reasons(outcomes) == [*[None] * 32, Reason.UNAVAILABLE]
    assert (await beat(world, stuck, locked, 1)).seq == 1


async def test_beats_of_two_replicas_lose_nothing(world: World) -> None:
    user, session = await begun(world)
    await beat(world, user, session, 1)
    await world.later(session, INTERVAL)
    other = world.assemble()
    items = [world.beat(user, session, seq) for seq in range(2, 22)]
    answers = world.answer(user, session, "a", "q1", "right 1")
    await asyncio.gather(
        *(world.send([item], parts) for item, parts in zip(items, [world.parts, other] * 10, strict=True)),
        world.one(answers),
    )
    (row,) = await world.sessions(user)
    assert (row["heartbeat_seq"], row["answered"]) == (21, 1)
    assert close_to(row["engaged_seconds"], 15)


async def test_a_heartbeat_touches_no_index(world: World) -> None:
    user, session = await begun(world)
    await beat(world, user, session, 1)
    row = f'[{{"user_id": "{user}", "session_id": "{session}", "seq": 2, "visible": true}}]'
    async with world.truth.transaction():
        rows, hot = await world.updates()
        await world.truth.fetch(
            presence._RECORD_HEARTBEATS, row, TIMES.grace, 2 * TIMES.heartbeat_interval, TIMES.lease
        )
        assert await world.updates() == (rows + 1, hot + 1)


# --- leases ----------------------------------------------------------------------------------------------


async def swept(world: World) -> None:
    await world.parts.sweep.close_unused()


async def state_of(world: World, user: str) -> tuple[str, str | None]:
    (row,) = await world.sessions(user)
    return row["state"], row["close_reason"]


async def test_an_unanswered_session_whose_page_has_gone_is_given_up(world: World) -> None:
    user, session = await begun(world)
    await beat(world, user, session, 1)
    await world.later(session, TIMES.lease - 5 * SECOND)
    await swept(world)
    assert await state_of(world, user) == ("active", None)
    await world.later(session, 6 * SECOND)
    before = (await world.sessions(user))[0]
    await swept(world)
    assert await state_of(world, user) == ("abandoned", "never_used")
    assert (await world.sessions(user))[0]["closed_at"] == before["seen_at"] + TIMES.lease
    await world.deliver()
    assert await world.units(user) == (0, 0)
    assert (await world.stats(user)).completed_sessions == 0
    assert (await beat(world, user, session, 2)).state == Session.ABANDONED
    assert (await world.started(user, before["test_id"], "again")).resumed is False


async def test_a_heartbeat_in_time_keeps_the_session(world: World) -> None:
    user, session = await begun(world)
    for seq in range(1, 6):
        await beat(world, user, session, seq, visible=seq % 2 == 0)
        await world.later(session, TIMES.lease - 5 * SECOND)
        await swept(world)
    assert await state_of(world, user) == ("active", None)


async def test_a_session_without_heartbeats_or_with_an_answer_has_no_lease(world: World) -> None:
    silent, quiet = await begun(world)
    user, session = await begun(world)
    await beat(world, user, session, 1)
    await world.one(world.answer(user, session, "a", "q1", "right 1"))
    await world.one(world.leave(user, session))
    for each in (quiet, session):
        await world.later(each, 3 * TIMES.lease)
    await swept(world)
    assert await state_of(world, silent) == await state_of(world, user) == ("active", None)
    assert (await world.sessions(user))[0]["lease_check_at"] is None, "nobody has to look again"


@pytest.mark.parametrize("beats", [0, 1])
async def test_leaving_shortens_the_lease(world: World, beats: int) -> None:
    user, session = await begun(world)
    for seq in range(1, beats + 1):
        await beat(world, user, session, seq)
    assert (await world.one(world.leave(user, session))).state == Session.ACTIVE
    await world.later(session, TIMES.left_lease - 5 * SECOND)
    await swept(world)
    assert await state_of(world, user) == ("active", None)
    await world.later(session, 6 * SECOND)
    await swept(world)
    assert await state_of(world, user) == ("abandoned", "never_used")


@pytest.mark.parametrize("beats", [0, 1])
@pytest.mark.parametrize("way", ["beat", "start", "pause", "answer"])
async def test_who_comes_back_in_time_finds_the_session_as_it_was(world: World, way: str, beats: int) -> None:
    user, session = await begun(world)
    for seq in range(1, beats + 1):
        await beat(world, user, session, seq)
    await world.one(world.leave(user, session))
    await world.later(session, TIMES.left_lease - 5 * SECOND)
    test = (await world.sessions(user))[0]["test_id"]
    back = {
        "beat": world.beat(user, session, 2),
        "start": world.start(user, test, "back"),
        "pause": world.pause(user, session, "p"),
        "answer": world.answer(user, session, "a", "q1", "right 1"),
    }[way]
    await world.one(back)
    await world.later(session, TIMES.left_lease + SECOND)
    await swept(world)
    assert (await state_of(world, user))[1] is None
    if way == "pause":
        await world.one(world.resume(user, session, "r"))
        await world.later(session, TIMES.left_lease + SECOND)
        await swept(world)
        assert await state_of(world, user) == ("active", None)


async def test_a_pause_protects_from_losing_the_lease(world: World) -> None:
    user, session = await begun(world)
    await beat(world, user, session, 1)
    await world.one(world.pause(user, session, "p"))
    await world.one(world.leave(user, session))
    await world.later(session, TIMES.pause_budget - 5 * SECOND)
    await swept(world)
    assert await state_of(world, user) == ("paused", None)
    await world.later(session, 6 * SECOND)
    await swept(world)
    assert (await state_of(world, user))[0] == "active", "the lease goes on with the clock"
    await world.later(session, TIMES.lease)
    await swept(world)
    assert await state_of(world, user) == ("abandoned", "never_used")


async def test_replicas_sweep_together_and_each_unit_comes_back_once(
    fresh_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = fresh_world
    monkeypatch.setattr(sweep_sessions, "SESSIONS_PER_PAGE", 3)
    test = await world.test()
    users = [await world.learner(limit=1) for _ in range(10)]
    for user in users:
        session = (await world.started(user, test, "k")).session_id
        await beat(world, user, session, 1)
        await world.later(session, TIMES.lease)
    replicas = [world.assemble() for _ in range(3)]
    closed = await asyncio.gather(*(parts.sweep.close_unused() for parts in replicas))
    assert sum(closed) + await world.parts.sweep.close_unused() == len(users)
    await world.deliver()
    for user in users:
        assert await world.units(user) == (0, 0)


async def test_another_learner_s_session_cannot_be_left(world: World) -> None:
    _, session = await begun(world)
    stranger = await world.learner()
    request = presence_pb2.LeaveSessionRequest(session_id="not an id")
    outcomes = await world.send(
        [world.leave(stranger, session), world.item(world.leave(stranger, session).context.method, request)]
    )
    assert reasons(outcomes) == [Reason.NOT_FOUND] * 2


# --- sessions without a deadline -------------------------------------------------------------------------


async def test_a_client_without_heartbeats_that_comes_back_has_no_lease(world: World) -> None:
    user, session = await begun(world)
    await world.one(world.leave(user, session))
    await world.one(world.start(user, (await world.sessions(user))[0]["test_id"], "back"))
    await world.later(session, 3 * TIMES.lease)
    await swept(world)
    assert await state_of(world, user) == ("active", None)


async def test_the_first_heartbeat_after_a_resume_counts_no_pause(world: World) -> None:
    user, session = await begun(world)
    await world.one(world.pause(user, session, "p"))
    await world.later(session, 60 * SECOND)
    await world.one(world.resume(user, session, "r"))
    assert close_to((await beat(world, user, session, 1)).engaged_seconds, 0)


@pytest.mark.parametrize("way", ["start", "pause", "resume"])
async def test_who_comes_back_to_an_answered_session_keeps_it_for_the_idle_time(
    world: World, way: str
) -> None:
    user, session = await begun(world)
    await world.one(world.answer(user, session, "a", "q1", "right 1"))
    await world.later(session, TIMES.idle_allowed - 60 * SECOND)
    if way == "start":
        test = (await world.sessions(user))[0]["test_id"]
        assert (await world.started(user, test, "back")).resumed
    else:
        await world.one(world.pause(user, session, "p"))
    if way == "resume":
        await world.one(world.resume(user, session, "r"))
    await world.later(session, 120 * SECOND)
    await world.parts.sweep.close_idle()
    assert (await state_of(world, user))[1] is None
    await world.later(session, TIMES.pause_budget + TIMES.idle_allowed)
    await world.parts.sweep.close_idle()
    assert await state_of(world, user) == ("expired", "lease_lost")
