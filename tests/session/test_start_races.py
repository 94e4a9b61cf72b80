"""Starts against each other, against the janitor and against the clock: each race decided both ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from chassis.batch import Item, Reply
from chassis.context import Context
from chassis.errors import Reason, ServiceError
from chassis.postgres import Connection
from session_service.domain.holds import HoldRequest, HoldState, SubjectTaken
from session_service.operations import create_sessions
from session_service.store import starts
from session_service.subscription_client import RELEASE_TOPIC
from tests.session.gates import Gate, GatedHolds, GatedSubscription
from tests.session.world import CREATE, Session, World, body, reasons
from tests.support.waiting import eventually


async def slow_start(
    world: World, user: str, test: str, key: str, *, before: bool = False
) -> tuple[Item[Any], asyncio.Task[list[Any]], Gate]:
    """A start that stands still before or after its hold is placed; and the gate that lets it go on."""
    subscription = GatedSubscription(world.subscription)
    gate = subscription.before if before else subscription.after
    gate.close()
    item = world.start(user, test, key)
    running = asyncio.create_task(world.send([item], world.assemble(subscription=subscription)))
    await gate.reached()
    return item, running, gate


async def finish(item: Any, running: asyncio.Task[list[Any]], gate: Gate) -> Any:
    gate.open()
    (outcome,) = await running
    return outcome if isinstance(outcome, ServiceError) else body(item, outcome).session


async def test_the_janitor_is_faster_than_a_slow_start(world: World) -> None:
    user, test = await world.learner(limit=1), await world.test()
    item, running, gate = await slow_start(world, user, test, "slow")
    await world.parts.janitor.resolve_holds()
    assert await world.keys(user) == {"slow": "aborted"}
    assert await world.units(user) == (0, 0)
    refusal = await finish(item, running, gate)
    assert refusal.reason is Reason.REQUEST_ABORTED
    assert await world.sessions(user) == []
    assert reasons(await world.send([item])) == [Reason.REQUEST_ABORTED], "and so it stays"
    assert (await world.started(user, test, "new key")).attempt == 1
    assert await world.units(user) == (1, 0)


async def test_a_slow_start_is_faster_than_the_janitor(world: World) -> None:
    user, test = await world.learner(limit=1), await world.test()
    item, starting, gate = await slow_start(world, user, test, "slow")
    janitor = world.assemble().janitor
    keys = janitor._resolver._holds = GatedHolds(janitor._resolver._holds)
    keys.gate.close()
    cleaning = asyncio.create_task(janitor.resolve_holds())
    await keys.gate.reached()  # it has found no session, and is about to abort the key
    session = await finish(item, starting, gate)
    keys.gate.open()
    await cleaning
    assert session.state == Session.ACTIVE
    assert await world.keys(user) == {"slow": "completed"}
    assert list((await world.holds(user)).values()) == ["open"]
    assert await world.units(user) == (1, 0)


async def test_a_start_in_the_middle_of_its_commit_is_left_alone_by_the_janitor(world: World) -> None:
    user, test = await world.learner(limit=1), await world.test()
    _, running, gate = await slow_start(world, user, test, "slow")
    claiming = world.truth.transaction()
    await claiming.start()
    await world.truth.execute(
        "INSERT INTO idempotency_keys (user_id, method, key, state, fingerprint, response)"
        " VALUES ($1, $2, 'slow', 'completed', '', '')",
        user,
        CREATE,
    )
    await world.parts.janitor.resolve_holds()
    assert list((await world.holds(user)).values()) == ["open"]
    await claiming.rollback()
    gate.open()
    assert isinstance((await running)[0], Reply)


async def test_a_janitor_that_dies_between_abort_and_release_is_made_up_for(world: World) -> None:
    user, test = await world.learner(limit=1), await world.test()
    item, running, gate = await slow_start(world, user, test, "lost")
    page = await world.subscription.list_open_holds(CREATE, older_than_seconds=0, page_size=1000, after=None)
    decision = await world.parts.janitor._resolver.decide(
        [hold for hold in page.holds if hold.user_id == user]
    )
    assert len(decision.released) == 1
    assert (await finish(item, running, gate)).reason is Reason.REQUEST_ABORTED
    assert await world.units(user) == (1, 0)
    await world.parts.janitor.resolve_holds()
    assert await world.units(user) == (0, 0)


async def test_two_janitors_at_once_do_no_more_than_one(world: World) -> None:
    test = await world.test()
    users = [await world.learner(limit=1) for _ in range(5)]
    slow = [await slow_start(world, user, test, "slow") for user in users]
    await asyncio.gather(*(world.assemble().janitor.resolve_holds() for _ in range(3)))
    for user, (item, running, gate) in zip(users, slow, strict=True):
        assert (await finish(item, running, gate)).reason is Reason.REQUEST_ABORTED
        assert await world.units(user) == (0, 0)


async def test_a_start_that_finds_the_hold_of_another_one_resumes_its_session(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(create_sessions, "PAUSES_SECONDS_MAX", 60.0)
    user, test = await world.learner(limit=1), await world.test()
    first_item, first, gate = await slow_start(world, user, test, "tab 1")
    watching = GatedSubscription(world.subscription)
    second_item = world.start(user, test, "tab 2")
    second = asyncio.create_task(world.send([second_item], world.assemble(subscription=watching)))
    await watching.after.reached(3)  # it has asked three times, and was told to look again
    session = await finish(first_item, first, gate)
    (outcome,) = await second
    resumed = body(second_item, outcome).session
    assert resumed.resumed
    assert resumed.session_id == session.session_id
    assert len(await world.holds(user)) == 1


async def test_the_same_request_twice_in_two_processes_shares_its_hold(world: World) -> None:
    user, test = await world.learner(limit=1), await world.test()
    item, running, gate = await slow_start(world, user, test, "k")
    (faster,) = await world.send([item])
    gate.open()
    (slower,) = await running
    assert faster.payload() == slower.payload()
    assert (faster.replayed, slower.replayed) == (False, True)
    assert await world.units(user) == (1, 0)


async def test_a_key_whose_hold_is_another_tests_cannot_start_a_dearer_one_with_it(world: World) -> None:
    user = await world.learner(limit=1)
    free, dear = await world.test(counts_toward_daily_limit=False), await world.test()
    item, running, gate = await slow_start(world, user, free, "k")
    outcomes = await world.send([world.start(user, dear, "k"), world.start(user, dear, "other key")])
    assert reasons(outcomes) == [Reason.IDEMPOTENCY_KEY_REUSED, None]
    assert await world.units(user) == (1, 0)
    assert (await finish(item, running, gate)).test_id == free
    assert len(await world.sessions(user)) == 2


async def test_a_start_that_was_overtaken_by_a_whole_session_is_the_next_session(world: World) -> None:
    user, test = await world.learner(), await world.test()
    item, running, gate = await slow_start(world, user, test, "slow", before=True)
    other = await world.started(user, test, "fast")
    await world.one(world.abandon(user, other.session_id, "a"))
    await world.deliver()
    session = await finish(item, running, gate)
    assert session.session_id != other.session_id
    assert (session.attempt, session.resumed) == (1, False), "nobody answered the one before"
    assert await world.units(user) == (1, 0)


async def test_a_start_that_loses_after_it_has_paid_gives_its_unit_back(world: World) -> None:
    user, test = await world.learner(), await world.test()
    item, running, gate = await slow_start(world, user, test, "slow", before=True)
    gone = await world.started(user, test, "one")
    await world.one(world.abandon(user, gone.session_id, "a"))
    await world.deliver()  # its subject is free again, so that the slow one gets a hold of its own
    live = await world.started(user, test, "two")
    session = await finish(item, running, gate)
    assert (session.session_id, session.resumed) == (live.session_id, True)
    assert await world.events(user) == [RELEASE_TOPIC]
    assert await world.units(user) == (2, 0)
    await world.deliver()
    assert await world.units(user) == (1, 0)
    (again,) = await world.send([item])
    assert again.replayed


async def test_an_overtaken_start_does_not_hurt_its_batch(world: World) -> None:
    test = await world.test()
    users = [await world.learner(limit=1) for _ in range(6)]
    subscription = GatedSubscription(world.subscription)
    subscription.after.close()
    items = [world.start(user, test, "k") for user in users]
    running = asyncio.create_task(world.send(items, world.assemble(subscription=subscription)))
    await subscription.after.reached()
    (overtaking,) = await world.send([items[2]])
    subscription.after.open()
    outcomes = await running
    assert reasons(outcomes) == [None] * 6
    assert [outcome.replayed for outcome in outcomes] == [False, False, True, False, False, False]
    assert outcomes[2].payload() == overtaking.payload()
    for user in users:
        assert len(await world.sessions(user)) == 1
        assert await world.units(user) == (1, 0)


async def test_an_item_that_the_database_never_accepts_fails_alone(fresh_world: World) -> None:
    world = fresh_world
    await world.truth.execute(
        "ALTER TABLE sessions ADD CONSTRAINT sessions_not_poisoned CHECK (title <> 'poison')"
    )
    test = await world.test()
    users = [await world.learner() for _ in range(6)]
    items = [
        world.start(user, test, "k", title="poison" if place == 4 else "fine")
        for place, user in enumerate(users)
    ]
    outcomes = await world.send(items)
    assert reasons(outcomes) == [None, None, None, None, Reason.INVALID_ARGUMENT, None]
    assert await world.keys(users[4]) == {}


@pytest.mark.parametrize("answered", [False, True])
async def test_a_session_whose_time_is_over_makes_room_for_the_next(world: World, answered: bool) -> None:
    user, test = await world.learner(limit=2 if answered else 1), await world.test(time_limit_seconds=60)
    first = await world.started(user, test, "k1")
    if answered:
        await world.one(world.answer(user, first.session_id, "a", "q1", "right 1"))
    await world.overdue(first.session_id)
    items = [world.start(user, test, "k2"), world.start(user, test, "k3")]
    outcomes = await world.send(items)
    fresh, resumed = (body(item, outcome).session for item, outcome in zip(items, outcomes, strict=True))
    assert (fresh.attempt, fresh.resumed) == (2 if answered else 1, False)
    assert (resumed.session_id, resumed.resumed) == (fresh.session_id, True)
    old = await world.get(user, first.session_id)
    assert (old.state, old.close_reason) == (Session.EXPIRED, "timed_out")
    await world.deliver()
    assert await world.units(user) == ((1, 1) if answered else (1, 0))


async def test_with_subscription_service_away_a_start_is_unavailable_and_can_be_repeated(
    world: World,
) -> None:
    user, test = await world.learner(limit=1), await world.test()

    class Away(GatedSubscription):
        async def place_holds(
            self, wanted: Sequence[tuple[HoldRequest, Context]]
        ) -> list[HoldState | SubjectTaken | ServiceError]:
            await super().place_holds(wanted)
            return [ServiceError(Reason.UNAVAILABLE) for _ in wanted]  # the answer was lost

    item = world.start(user, test, "k")
    outcomes = await world.send([item], world.assemble(subscription=Away(world.subscription)))
    assert reasons(outcomes) == [Reason.UNAVAILABLE]
    assert await world.units(user) == (1, 0)
    assert (await world.one(item)).session.attempt == 1
    assert await world.units(user) == (1, 0)


@pytest.mark.parametrize("beside_a_resume", [False, True])
async def test_a_start_claims_its_key_before_it_makes_its_session(
    world: World, monkeypatch: pytest.MonkeyPatch, beside_a_resume: bool
) -> None:
    """Starts have two statements, which would wait for each other in a circle if their orders differed."""
    test, user, other = await world.test(), await world.learner(), await world.learner()
    await world.started(other, test, "its first start")
    for statement in ("_START_SESSIONS", "_START_AND_RESUME"):
        monkeypatch.setattr(starts, statement, getattr(starts, statement).replace("'250ms'", "'20s'"))
    batch = [world.start(user, test, "k")]
    if beside_a_resume:
        batch.append(world.start(other, test, "its second start"))
    claiming, rival = [await asyncpg.connect(world.session_dsn) for _ in range(2)]
    try:
        async with undone(claiming):
            key = "INSERT INTO idempotency_keys (user_id, method, key, state) VALUES ($1, $2, 'k', 'aborted')"
            await claiming.execute(key, user, CREATE)
            starting = asyncio.create_task(world.send(batch))
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"
            await eventually(lambda: world.truth.fetchval(waiting))
            async with undone(rival):
                await rival.execute("SET LOCAL lock_timeout = '1s'")
                await rival.execute(
                    "INSERT INTO sessions SELECT like_it.* FROM sessions, jsonb_populate_record(sessions,"
                    " jsonb_build_object('user_id', $1::text)) AS like_it WHERE sessions.user_id = $2",
                    user,
                    other,
                )
        assert reasons(await starting) == [None] * len(batch)
    finally:
        await claiming.close()
        await rival.close()


@asynccontextmanager
async def undone(connection: Connection) -> AsyncIterator[None]:
    """A transaction that is rolled back."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()
