"""Starts that run out of time after they have asked for a hold: their learners are not locked out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from chassis.context import Context
from chassis.errors import Reason, ServiceError
from chassis.postgres import Database, LockTimeout
from chassis.postgres.outbox import OutboxEvent
from session_service.domain.holds import HoldRequest, HoldState, SubjectTaken
from session_service.operations import create_sessions, resolve_holds
from session_service.store.starts import StartStore
from session_service.subscription_client import SubscriptionClient
from tests.session.gates import Gate, GatedSubscription
from tests.session.world import CREATE, Session, World, body, reasons
from tests.support.postgres_proxy import Loss, PostgresProxy


async def late(*_arguments: Any, **_options: Any) -> set[tuple[str, str]]:
    """In place of the statement that starts sessions: nothing is written."""
    raise ServiceError(Reason.DEADLINE_EXCEEDED)


@pytest.mark.usefixtures("no_grace")
async def test_a_start_whose_write_ran_out_of_time_gives_its_unit_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, test, other = await world.learner(limit=1), await world.test(), await world.test()

    with monkeypatch.context() as patch:
        patch.setattr(StartStore, "insert_sessions", late)
        assert reasons(await world.send([world.start(user, test, "k")])) == [Reason.DEADLINE_EXCEEDED]
    assert await world.units(user) == (1, 0)
    await world.parts.lost.resolve_due()
    assert await world.units(user) == (0, 0)
    assert await world.keys(user) == {"k": "aborted"}
    items = [world.start(user, test, "k"), world.start(user, other, "k2")]
    assert reasons(await world.send(items)) == [Reason.REQUEST_ABORTED, None]


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job does not wait for the client to come back."""
    monkeypatch.setattr(resolve_holds, "RETRY_GRACE_SECONDS", 0.0)


async def test_a_start_that_ran_out_of_time_can_be_sent_again_with_its_key(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, test = await world.learner(limit=1), await world.test()
    with monkeypatch.context() as patch:
        patch.setattr(StartStore, "insert_sessions", late)
        assert reasons(await world.send([world.start(user, test, "k")])) == [Reason.DEADLINE_EXCEEDED]
    await world.parts.lost.resolve_due()
    assert (await world.started(user, test, "k")).attempt == 1
    assert world.parts.lost.of_learners({user}) == []
    assert await world.units(user) == (1, 0)


@pytest.mark.parametrize("same_test", [True, False])
async def test_a_start_that_ran_out_of_time_is_not_in_the_way_of_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch, same_test: bool
) -> None:
    monkeypatch.setattr(create_sessions, "PAUSES_SECONDS_MAX", 0.0)
    user, test, other = await world.learner(limit=1), await world.test(), await world.test()
    with monkeypatch.context() as patch:
        patch.setattr(StartStore, "insert_sessions", late)
        assert reasons(await world.send([world.start(user, test, "k")])) == [Reason.DEADLINE_EXCEEDED]
    session = await world.started(user, test if same_test else other, "new key")
    assert (session.attempt, session.resumed) == (1, False)
    assert await world.keys(user) == {"k": "aborted", "new key": "completed"}
    assert await world.units(user) == (1, 0)


@pytest.mark.usefixtures("no_grace")
@pytest.mark.parametrize("placed", [True, False])
async def test_a_start_that_is_cancelled_gives_its_unit_back(world: World, placed: bool) -> None:
    user, test = await world.learner(limit=1), await world.test()
    subscription = GatedSubscription(world.subscription)
    gate = subscription.after if placed else subscription.before
    gate.close()
    parts = world.assemble(subscription=subscription)
    running = asyncio.create_task(world.send([world.start(user, test, "k")], parts))
    await gate.reached()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await parts.lost.resolve_due()
    assert await world.units(user) == (0, 0)
    assert await world.keys(user) == {"k": "aborted"}
    assert (await world.started(user, test, "new key")).attempt == 1
    assert await world.units(user) == (1, 0)


@pytest.mark.usefixtures("no_grace")
async def test_a_start_that_is_cancelled_in_its_commit_is_decided_by_its_key(world: World) -> None:
    """The write goes on without its caller: whichever comes first, the learner pays for what exists."""
    for number in range(5):
        user, test = await world.learner(limit=1), await world.test()
        parts = world.assemble()
        running = asyncio.create_task(world.send([world.start(user, test, "k")], parts))
        for _ in range(number * 3):
            await asyncio.sleep(0)
        while await world.units(user) != (1, 0):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait({running})
        await parts.lost.resolve_due()
        sessions = await world.sessions(user)
        assert await world.units(user) == (len(sessions), 0)
        expected = "completed" if sessions else "aborted"
        assert await world.keys(user) == {"k": expected}


@pytest.mark.usefixtures("no_grace")
async def test_a_lost_start_that_was_committed_keeps_its_session(world: World) -> None:
    user, test = await world.learner(limit=1), await world.test()
    async with PostgresProxy(world.session_dsn).running() as proxy:
        database = await Database.connect(proxy.dsn, maximum=4)
        parts = world.assemble(database=database)
        world.timeout_seconds, patient = 0.6, world.timeout_seconds
        item = world.start(user, test, "k", title="into silence")
        world.timeout_seconds = patient
        proxy.lose(b"into silence", Loss.SILENCE)
        assert reasons(await world.send([item], parts)) == [Reason.DEADLINE_EXCEEDED]
        await parts.lost.resolve_due()
        await database.close()
    (again,) = await world.send([world.start(user, test, "k", title="into silence")])
    assert again.replayed
    assert body(item, again).session.state == Session.ACTIVE
    assert await world.units(user) == (1, 0)


@pytest.mark.usefixtures("no_grace")
async def test_a_placement_whose_answer_was_too_late_is_given_back(world: World) -> None:
    user, test = await world.learner(limit=1), await world.test()

    class Late(SubscriptionClient):
        async def place_holds(
            self, wanted: Sequence[tuple[HoldRequest, Context]]
        ) -> list[HoldState | SubjectTaken | ServiceError]:
            await super().place_holds(wanted)
            return [ServiceError(Reason.DEADLINE_EXCEEDED)] * len(wanted)

    parts = world.assemble(subscription=Late(upstream=world.upstream))
    assert reasons(await world.send([world.start(user, test, "k")], parts)) == [Reason.DEADLINE_EXCEEDED]
    assert await world.units(user) == (1, 0)
    await parts.lost.resolve_due()
    assert await world.units(user) == (0, 0)


@pytest.mark.usefixtures("no_grace")
async def test_a_lost_start_that_cannot_be_resolved_is_tried_a_few_times_and_left_to_the_janitor(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, test = await world.learner(limit=1), await world.test()

    parts = world.assemble()
    with monkeypatch.context() as patch:
        patch.setattr(StartStore, "insert_sessions", late)
        await world.send([world.start(user, test, "k")], parts)

    async def locked(*_arguments: Any, **_options: Any) -> None:
        raise LockTimeout("in use")

    with monkeypatch.context() as patch:
        patch.setattr(parts.janitor._holds, "abort_keys", locked)
        for _ in range(resolve_holds.LOOKS_AT_LOST_START_MAX + 1):
            await parts.lost.resolve_due()
    await parts.lost.resolve_due()
    assert await world.units(user) == (1, 0)
    await parts.janitor.resolve_holds()
    assert await world.units(user) == (0, 0)


async def left_behind(world: World, user: str, test: str, *, seconds: int) -> None:
    """An open hold for the first attempt at a test, whose start died so long ago."""
    await world.subscription_truth.execute(
        "INSERT INTO holds (user_id, hold_id, state, tests, credits, subject, method, idempotency_key, day,"
        " placed_at) VALUES ($1, gen_random_uuid(), 'open', 0, 0, $2, $3, 'lost', current_date,"
        " now() - make_interval(secs => $4))",
        user,
        f"{test}#1",
        CREATE,
        seconds,
    )


async def test_a_start_that_meets_a_hold_older_than_any_deadline_resolves_it_and_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(create_sessions, "PAUSES_SECONDS_MAX", 0.0)  # it does not wait
    user, neighbour, test = await world.learner(limit=1), await world.learner(), await world.test()
    await left_behind(world, user, test, seconds=61)
    outcomes = await world.send([world.start(user, test, "k"), world.start(neighbour, test, "k")])
    assert reasons(outcomes) == [None, None]
    assert await world.keys(user) == {"lost": "aborted", "k": "completed"}
    assert sorted((await world.holds(user)).values()) == ["open", "released"]
    assert reasons(await world.send([world.start(user, test, "lost")])) == [Reason.REQUEST_ABORTED]


async def test_a_hold_that_a_start_may_still_need_is_left_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(create_sessions, "PAUSES_SECONDS_MAX", 0.01)
    user, test = await world.learner(limit=1), await world.test()
    await left_behind(world, user, test, seconds=50)
    assert reasons(await world.send([world.start(user, test, "k")])) == [Reason.UNAVAILABLE]
    assert await world.keys(user) == {}
    assert list((await world.holds(user)).values()) == ["open"]


async def test_a_hold_left_behind_whose_key_is_in_use_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(create_sessions, "PAUSES_SECONDS_MAX", 0.01)
    user, neighbour, test = await world.learner(limit=1), await world.learner(), await world.test()
    await left_behind(world, user, test, seconds=61)
    claiming = world.truth.transaction()
    await claiming.start()
    await world.truth.execute(
        "INSERT INTO idempotency_keys (user_id, method, key, state, fingerprint, response)"
        " VALUES ($1, $2, 'lost', 'completed', '', '')",
        user,
        CREATE,
    )
    try:
        outcomes = await world.send([world.start(user, test, "k"), world.start(neighbour, test, "k")])
    finally:
        await claiming.rollback()
    assert reasons(outcomes) == [Reason.UNAVAILABLE, None]
    assert reasons(await world.send([world.start(user, test, "k")])) == [None]


async def test_a_resume_that_races_the_end_of_its_session_does_not_answer_with_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, neighbour, test = await world.learner(), await world.learner(), await world.test()
    old = (await world.started(user, test, "k1")).session_id
    insert_sessions, gate = StartStore.insert_sessions, Gate()

    async def gated(*arguments: Any, **options: Any) -> set[tuple[str, str]]:
        await gate.pass_through()
        return await insert_sessions(*arguments, **options)

    monkeypatch.setattr(StartStore, "insert_sessions", gated)
    gate.close()
    items = [world.start(user, test, "k2"), world.start(neighbour, test, "k")]
    resuming = asyncio.create_task(world.send(items))
    await gate.reached()
    await world.one(world.abandon(user, old, "a"))
    gate.open()
    outcomes = await resuming
    session = body(items[0], outcomes[0]).session
    assert (session.resumed, session.attempt, session.state) == (False, 1, Session.ACTIVE)
    assert session.session_id != old
    assert reasons(outcomes) == [None, None]
    assert await world.units(user) == (1, 0)


async def test_a_resume_waits_for_the_end_that_is_being_committed(world: World) -> None:
    user, test = await world.learner(), await world.test()
    old = (await world.started(user, test, "k1")).session_id
    ending = world.truth.transaction()
    await ending.start()
    await world.truth.execute(
        "UPDATE sessions SET state = 'abandoned', closed_at = now(), close_reason = 'abandoned'"
        " WHERE session_id = $1::uuid",
        old,
    )
    item = world.start(user, test, "k2")
    resuming = asyncio.create_task(world.send([item]))

    async def waiting() -> bool:
        return bool(await world.truth.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

    while not await waiting():
        await asyncio.sleep(0)
    await ending.commit()
    session = body(item, (await resuming)[0]).session
    assert (session.resumed, session.attempt) == (False, 1)


async def test_a_start_that_lost_after_it_had_paid_keeps_its_hold_when_the_winner_has_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its release is written together with its resume, or not at all: its hold is then used by itself."""
    user, test = await world.learner(), await world.test()
    subscription = GatedSubscription(world.subscription)
    subscription.before.close()
    item = world.start(user, test, "slow")
    parts = world.assemble(subscription=subscription)
    running = asyncio.create_task(world.send([item], parts))
    await subscription.before.reached()
    gone = await world.started(user, test, "one")
    await world.one(world.abandon(user, gone.session_id, "a"))
    live = await world.started(user, test, "two")
    insert_sessions = StartStore.insert_sessions
    events: list[OutboxEvent] = []

    async def abandoning(
        store: StartStore, sessions: Any, calls: Any, resumes: Any, releases: Any, **options: Any
    ) -> set[tuple[str, str]]:
        if resumes:
            events.extend(releases)
            await world.one(world.abandon(user, live.session_id, "b"))
        return await insert_sessions(store, sessions, calls, resumes, releases, **options)

    monkeypatch.setattr(StartStore, "insert_sessions", abandoning)
    subscription.before.open()
    session = body(item, (await running)[0]).session
    assert len(events) == 1
    assert (session.resumed, session.attempt) == (False, 1)
    await world.deliver()
    assert await world.units(user) == (1, 0)
