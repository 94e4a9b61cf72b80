"""The janitor and the sweeps: what nobody comes back for is put in order, and what is alive is left alone."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from chassis.errors import Reason, ServiceError
from chassis.process.background import Background
from chassis.telemetry.metrics import Metrics
from session_service.__main__ import Parts, add_jobs
from session_service.domain.holds import HoldName, OpenHold
from session_service.domain.ids import hold_id_of
from session_service.operations import resolve_holds, sweep_sessions
from session_service.operations.hold_resolution import Resolution
from session_service.subscription_client import HoldPage, SubscriptionClient
from tests.session.world import CREATE, Session, World, reasons
from tests.support.waiting import eventually

OLD = "1 hour"


async def orphan(world: World, user: str, key: str, *, age: str = "0 seconds") -> str:
    """A hold whose start died before it made a session."""
    hold_id = str(hold_id_of(user, CREATE, key))
    await world.subscription_truth.execute(
        "INSERT INTO holds (user_id, hold_id, state, tests, credits, subject, method, idempotency_key, day,"
        " placed_at) VALUES ($1, $2::uuid, 'open', 1, 0, $3, $4, $5, current_date,"
        " now() - $6::text::interval)",
        user,
        hold_id,
        f"some-test-{uuid.uuid4()}#1",
        CREATE,
        key,
        age,
    )
    await world.subscription_truth.execute(
        "INSERT INTO daily_usage (user_id, day, held, used) VALUES ($1, current_date, 1, 0)"
        " ON CONFLICT (user_id, day) DO UPDATE SET held = daily_usage.held + 1",
        user,
    )
    return hold_id


async def age_holds(world: World) -> None:
    """Let all open holds be older than what the watermark keeps a distance from."""
    await world.subscription_truth.execute(
        "UPDATE holds SET placed_at = placed_at - $1::text::interval WHERE state = 'open'", OLD
    )


def looked_at(parts: Parts) -> list[HoldName]:
    """The holds that the janitor of these parts looks at from now on."""
    names: list[HoldName] = []
    resolver = parts.janitor._resolver
    resolve = resolver.resolve

    async def noting(holds: Sequence[OpenHold]) -> Resolution:
        names.extend(hold.name for hold in holds)
        return await resolve(holds)

    resolver.resolve = noting  # type: ignore[method-assign]  # the test watches it
    return names


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
    patient = world.assemble(hold_age_seconds=60.0)
    await patient.janitor.resolve_holds()
    assert await world.holds(user) == {hold: "open"}
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


async def test_each_old_hold_is_looked_at_once_by_all_replicas_together(
    fresh_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = fresh_world
    monkeypatch.setattr(resolve_holds, "HOLDS_PER_PAGE", 2)
    user = await world.learner()
    for _ in range(5):
        await world.started(user, await world.test(), f"alive {_}")
    await age_holds(world)
    lost = [await orphan(world, user, f"lost {n}", age=OLD) for n in range(3)]
    replicas = [world.parts, world.assemble()]
    looks = [looked_at(parts) for parts in replicas]
    for parts in replicas:
        await parts.janitor.resolve_holds()
    assert [len(names) for names in looks] == [8, 0]
    assert len(set(looks[0])) == 8
    holds = await world.holds(user)
    assert [holds.pop(hold) for hold in lost] == ["released"] * 3
    assert set(holds.values()) == {"open"}, "what ends a live session resolves its hold"
    late = await orphan(world, user, "later", age="30 seconds")
    await replicas[1].janitor.resolve_holds()
    assert [str(name.hold_id) for name in looks[1]] == [late]


async def test_the_watermark_keeps_away_from_holds_that_may_still_be_committed(fresh_world: World) -> None:
    world = fresh_world
    user = await world.learner()
    old = await orphan(world, user, "old", age="20 seconds")
    young = await orphan(world, user, "young")
    await world.parts.janitor.resolve_holds()
    late = await orphan(world, user, "late", age="5 seconds")  # its placement took its time to commit
    await world.parts.janitor.resolve_holds()
    assert await world.holds(user) == {old: "released", young: "released", late: "released"}


async def test_the_watermark_never_moves_back(fresh_world: World) -> None:
    world = fresh_world
    user = await world.learner()
    for n in range(2):
        await orphan(world, user, f"lost {n}", age=f"{100 - n} seconds")
    holds = (
        await world.subscription.list_open_holds(CREATE, older_than_seconds=0, page_size=10, after=None)
    ).holds
    store = world.parts.janitor._holds
    for hold in reversed(holds):
        await store.advance_watermark(
            CREATE,
            hold.position,
            settling=timedelta(0),
            postponed=(),
            deadline=asyncio.get_running_loop().time() + 10,
        )
    watermark = await store.read_watermark(CREATE, deadline=asyncio.get_running_loop().time() + 10)
    assert watermark == holds[1].position


async def test_a_hold_whose_key_is_in_use_is_looked_at_again(fresh_world: World) -> None:
    world = fresh_world
    user, neighbour = await world.learner(), await world.learner()
    hold = await orphan(world, user, "busy", age=OLD)
    other = await orphan(world, neighbour, "lost", age=OLD)
    claiming = world.truth.transaction()
    await claiming.start()
    await world.truth.execute(
        "INSERT INTO idempotency_keys (user_id, method, key, state, fingerprint, response)"
        " VALUES ($1, $2, 'busy', 'completed', '', '')",
        user,
        CREATE,
    )
    await world.parts.janitor.resolve_holds()
    await claiming.rollback()
    assert await world.holds(user) == {hold: "open"}
    assert await world.holds(neighbour) == {other: "released"}
    await world.parts.janitor.resolve_holds()
    assert await world.holds(user) == {hold: "open"}, "its pause has not passed"
    await world.truth.execute("UPDATE postponed_holds SET look_again_at = now()")
    await world.parts.janitor.resolve_holds()
    assert await world.holds(user) == {hold: "released"}
    assert await world.truth.fetchval("SELECT count(*) FROM postponed_holds") == 0


async def test_a_hold_that_subscription_service_does_not_resolve_is_looked_at_again(
    fresh_world: World,
) -> None:
    world = fresh_world
    user = await world.learner()
    hold = await orphan(world, user, "lost", age=OLD)

    class Refusing(SubscriptionClient):
        async def release_holds(self, holds: Sequence[HoldName]) -> list[ServiceError | None]:
            return [ServiceError(Reason.UNAVAILABLE)] * len(holds)

    await world.assemble(subscription=Refusing(upstream=world.upstream)).janitor.resolve_holds()
    assert await world.keys(user) == {"lost": "aborted"}
    assert await world.holds(user) == {hold: "open"}
    await world.truth.execute("UPDATE postponed_holds SET look_again_at = now()")
    await world.parts.janitor.resolve_holds()
    assert await world.holds(user) == {hold: "released"}


async def test_overdue_sessions_are_closed_and_others_are_not(
    fresh_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = fresh_world
    monkeypatch.setattr(sweep_sessions, "SESSIONS_PER_PAGE", 2)
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


@pytest.mark.parametrize("locked", [[0], [4], [0, 1]])
async def test_overdue_sessions_that_are_locked_do_not_end_the_sweep(
    fresh_world: World, monkeypatch: pytest.MonkeyPatch, locked: list[int]
) -> None:
    world = fresh_world
    monkeypatch.setattr(sweep_sessions, "SESSIONS_PER_PAGE", 2)
    test = await world.test(time_limit_seconds=60)
    users = [await world.learner() for _ in range(5)]
    for user in users:
        await world.overdue((await world.started(user, test, "k")).session_id)
    locking = world.truth.transaction()
    await locking.start()
    await world.truth.execute(
        "SELECT 1 FROM sessions WHERE user_id = ANY($1::text[]) FOR UPDATE", [users[n] for n in locked]
    )
    assert await world.parts.sweep.close_overdue() == 5 - len(locked)
    await locking.rollback()
    assert await world.parts.sweep.close_overdue() == len(locked)


async def test_a_session_that_cannot_be_closed_keeps_no_other_from_it(fresh_world: World) -> None:
    world = fresh_world
    test = await world.test(time_limit_seconds=60)
    users = [await world.learner() for _ in range(5)]
    for user in users:
        await world.overdue((await world.started(user, test, "k")).session_id)
    await world.truth.execute(
        "UPDATE sessions SET paused_seconds = 3200000000, state = 'paused',"
        " paused_at = now() - interval '1 day', pause_until = now() - interval '23 hours' WHERE user_id = $1",
        users[2],
    )
    assert await world.parts.sweep.close_overdue() == 4
    assert [(await world.sessions(user))[0]["state"] for user in users] == [
        *("expired", "expired", "paused", "expired", "expired")
    ]
    (outcome,) = await world.send([world.start(users[2], test, "again")])
    assert outcome.reason is Reason.UNAVAILABLE


async def test_sessions_without_a_deadline_end_when_nothing_happens_in_them(
    fresh_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = fresh_world
    monkeypatch.setattr(sweep_sessions, "SESSIONS_PER_PAGE", 2)
    test, timed = await world.test(), await world.test(time_limit_seconds=200_000)
    users = [await world.learner(limit=1) for _ in range(6)]
    unanswered, answered, busy, young, late, in_time = users
    for user in users:
        session = await world.started(user, timed if user == in_time else test, "k")
        if user in {answered, busy, late}:
            await world.one(world.answer(user, session.session_id, "a", "q1", "right 1"))
        if user != young:
            await world.truth.execute(
                "UPDATE sessions SET started_at = started_at - interval '25 hours',"
                " last_answer_at = last_answer_at - $2::text::interval WHERE user_id = $1",
                user,
                "1 hour" if user == busy else "24 hours",
            )
    assert await world.parts.sweep.close_idle() == 3
    await world.deliver()
    for user in users:
        (row,) = await world.sessions(user)
        ended = user in {unanswered, answered, late}
        end = ("abandoned", "never_used") if user == unanswered else ("expired", "lease_lost")
        assert (row["state"], row["close_reason"]) == (end if ended else ("active", None))
        if ended:
            active_at = row["last_answer_at"] or row["started_at"]
            assert row["closed_at"] == active_at + timedelta(hours=24)
        assert await world.units(user) == ((0, int(user != unanswered)) if ended else (1, 0))
    assert await world.parts.sweep.close_idle() == 0
    (refusal,) = await world.send(
        [world.answer(answered, str((await world.sessions(answered))[0]["session_id"]), "b", "q1", "")]
    )
    assert (refusal.reason, refusal.metadata) == (Reason.SESSION_CLOSED, {"state": "EXPIRED"})


async def test_keys_too_old_to_be_retried_are_forgotten_and_their_sessions_are_not(
    fresh_world: World,
) -> None:
    world = fresh_world
    user, test = await world.learner(), await world.test()
    session = await world.started(user, test, "old")
    await world.truth.execute("DELETE FROM idempotency_keys")
    again = await world.started(user, test, "old")
    assert (again.session_id, again.resumed) == (session.session_id, True)
    await world.one(world.abandon(user, session.session_id, "x"))
    await world.truth.execute("DELETE FROM idempotency_keys")
    # Its hold has ended: under this key nothing can be started any more.
    assert reasons(await world.send([world.start(user, test, "old")])) == [Reason.REQUEST_ABORTED]


async def test_jobs_go_on_though_a_round_fails(fresh_world: World) -> None:
    world = fresh_world

    class Away(SubscriptionClient):
        asked = 0

        async def list_open_holds(self, method: str, **options: Any) -> HoldPage:
            Away.asked += 1
            if Away.asked < 3:
                raise ServiceError(Reason.UNAVAILABLE)
            return await world.subscription.list_open_holds(method, **options)

    user, test = await world.learner(), await world.test(time_limit_seconds=60)
    session = (await world.started(user, test, "k")).session_id
    hold = await orphan(world, user, "lost")
    await world.overdue(session)
    parts = world.assemble(subscription=Away(upstream=world.upstream))
    background = Background(metrics=Metrics(service="session_service"))
    add_jobs(background, parts, hold_interval_seconds=0.01, sweep_interval_seconds=0.01)
    background.start()

    async def in_order() -> bool:
        (row,) = await world.sessions(user)
        return row["state"] == "expired" and (await world.holds(user))[hold] == "released"

    await eventually(in_order)
    await background.stop()
    assert Away.asked >= 3
