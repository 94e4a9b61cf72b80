"""The janitor: what nobody comes back for is put in order, and what is alive is left alone."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest

from chassis.errors import Reason, ServiceError
from session_service import janitor as janitor_module
from session_service.domain.ids import hold_id_of
from session_service.subscription_client import HoldPage, SubscriptionClient
from tests.session.world import CREATE, Session, World, reasons
from tests.support.waiting import eventually


async def orphan(world: World, user: str, key: str) -> str:
    """A hold whose start died before it made a session."""
    hold_id = str(hold_id_of(user, CREATE, key))
    await world.subscription_truth.execute(
        "INSERT INTO holds (user_id, hold_id, state, tests, credits, subject, method, idempotency_key, day,"
        " placed_at) VALUES ($1, $2::uuid, 'open', 1, 0, $3, $4, $5, current_date, now())",
        user,
        hold_id,
        f"some-test-{uuid.uuid4()}#1",
        CREATE,
        key,
    )
    await world.subscription_truth.execute(
        "INSERT INTO daily_usage (user_id, day, held, used) VALUES ($1, current_date, 1, 0)"
        " ON CONFLICT (user_id, day) DO UPDATE SET held = daily_usage.held + 1",
        user,
    )
    return hold_id


async def test_orphaned_holds_are_released_and_live_ones_kept(fresh_world: World) -> None:
    world = fresh_world
    user, test = await world.learner(), await world.test()
    session = await world.started(user, test, "alive")
    lost = [await orphan(world, user, f"lost {n}") for n in range(3)]
    await world.parts.janitor.resolve_holds()
    holds = await world.holds(user)
    assert [holds.pop(hold) for hold in lost] == ["released"] * 3
    assert list(holds.values()) == ["open"]
    assert await world.units(user) == (1, 0)
    keys = await world.keys(user)
    assert keys == {"alive": "completed"} | {f"lost {n}": "aborted" for n in range(3)}
    assert (await world.get(user, session.session_id)).state == Session.ACTIVE
    assert reasons(await world.send([world.start(user, test, "lost 1")])) == [Reason.REQUEST_ABORTED]


async def test_young_holds_are_left_to_their_starts(world: World) -> None:
    user = await world.learner()
    hold = await orphan(world, user, "young")
    world.parts.janitor._hold_age_seconds = 60.0
    await world.parts.janitor.resolve_holds()
    assert await world.holds(user) == {hold: "open"}
    world.parts.janitor._hold_age_seconds = 0.0
    await world.parts.janitor.resolve_holds()
    assert await world.holds(user) == {hold: "released"}


@pytest.mark.parametrize(("answers", "state"), [(0, "released"), (1, "committed")])
async def test_a_hold_whose_session_has_ended_is_resolved_though_its_event_was_lost(
    world: World, answers: int, state: str
) -> None:
    user, test = await world.learner(), await world.test()
    session = (await world.started(user, test, "s")).session_id
    for n in range(answers):
        await world.one(world.answer(user, session, f"a{n}", "q1", "right 1"))
    await world.one(world.abandon(user, session, "x"))
    await world.truth.execute("DELETE FROM outbox")
    await world.parts.janitor.resolve_holds()
    assert list((await world.holds(user)).values()) == [state]


async def test_a_hold_whose_key_was_answered_with_another_session_is_released(world: World) -> None:
    """A start that lost after it had paid, and whose release was lost as well."""
    user, test = await world.learner(), await world.test()
    await world.started(user, test, "winner")
    await world.started(user, test, "loser")
    hold = await orphan(world, user, "loser")
    await world.parts.janitor.resolve_holds()
    assert (await world.holds(user))[hold] == "released"
    assert await world.keys(user) == {"winner": "completed", "loser": "completed"}
    assert await world.units(user) == (1, 0)


async def test_many_holds_are_gone_through_page_by_page_also_over_several_rounds(
    fresh_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = fresh_world
    monkeypatch.setattr(janitor_module, "HOLDS_PER_PAGE", 2)
    user = await world.learner()
    for n in range(5):
        await orphan(world, user, f"lost {n}")
    world.parts.janitor._interval_seconds = 0.0  # a round may take one page
    left = []
    for _ in range(3):
        await world.parts.janitor.resolve_holds()
        left.append(list((await world.holds(user)).values()).count("open"))
    assert left == [3, 1, 0]
    for n in range(5):
        await orphan(world, user, f"lost again {n}")
    world.parts.janitor._interval_seconds = 60.0
    await world.parts.janitor.resolve_holds()
    assert set((await world.holds(user)).values()) == {"released"}


async def test_overdue_sessions_are_closed_and_others_are_not(
    fresh_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = fresh_world
    monkeypatch.setattr(janitor_module, "SESSIONS_PER_SWEEP", 2)
    test = await world.test(time_limit_seconds=60)
    users = [await world.learner() for _ in range(6)]
    sessions = [(await world.started(user, test, "k")).session_id for user in users]
    for session in sessions[:5]:
        await world.overdue(session)
    assert await world.parts.sweep.close_overdue() == 5
    states = [(await world.get(user, session)).state for user, session in zip(users, sessions, strict=True)]
    assert states == [Session.EXPIRED] * 5 + [Session.ACTIVE]
    assert await world.parts.sweep.close_overdue() == 0
    await world.deliver()
    assert [await world.units(user) for user in users] == [(0, 0)] * 5 + [(1, 0)]


async def test_an_overdue_session_that_is_locked_waits_for_the_next_sweep(fresh_world: World) -> None:
    world = fresh_world
    user, test = await world.learner(), await world.test(time_limit_seconds=60)
    session = (await world.started(user, test, "k")).session_id
    await world.overdue(session)
    locking = world.truth.transaction()
    await locking.start()
    await world.truth.execute("SELECT 1 FROM sessions WHERE user_id = $1 FOR UPDATE", user)
    assert await world.parts.sweep.close_overdue() == 0
    await locking.rollback()
    assert await world.parts.sweep.close_overdue() == 1


async def test_keys_too_old_to_be_retried_are_forgotten_and_their_sessions_are_not(
    fresh_world: World,
) -> None:
    world = fresh_world
    user, test = await world.learner(), await world.test()
    session = await world.started(user, test, "old")
    await world.truth.execute("UPDATE idempotency_keys SET created_at = now() - interval '8 days'")
    await world.started(user, await world.test(), "young")
    assert world.parts.janitor._retention == timedelta(days=7)
    assert await world.parts.janitor.purge_keys() == 1
    assert await world.keys(user) == {"young": "completed"}
    again = await world.started(user, test, "old")
    assert (again.session_id, again.resumed) == (session.session_id, True)
    await world.one(world.abandon(user, session.session_id, "x"))
    await world.deliver()
    await world.truth.execute("UPDATE idempotency_keys SET created_at = now() - interval '8 days'")
    await world.parts.janitor.purge_keys()
    # Its hold has had its end: under this key nothing can be started any more.
    assert reasons(await world.send([world.start(user, test, "old")])) == [Reason.REQUEST_ABORTED]


async def test_rounds_go_on_though_a_step_fails(fresh_world: World) -> None:
    world = fresh_world

    class Away(SubscriptionClient):
        asked = 0

        async def list_open_holds(self, method: str, **_: Any) -> HoldPage:
            Away.asked += 1
            if Away.asked < 3:
                raise ServiceError(Reason.UNAVAILABLE)
            return await world.subscription.list_open_holds(
                method, older_than_seconds=0, page_size=10, page_token=""
            )

    user, test = await world.learner(), await world.test(time_limit_seconds=60)
    session = (await world.started(user, test, "k")).session_id
    hold = await orphan(world, user, "lost")
    await world.overdue(session)
    janitor = world.assemble(subscription=Away(upstream=world.upstream)).janitor
    janitor._interval_seconds = 0.01
    janitor.start()

    async def in_order() -> bool:
        expired = (await world.get(user, session)).state == Session.EXPIRED
        return expired and (await world.holds(user))[hold] == "released"

    await eventually(in_order)
    await janitor.stop()
    assert Away.asked >= 3
