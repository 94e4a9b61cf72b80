"""A lost answer of the database is not a lost write, and not a second one either."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from chassis.errors import Reason
from chassis.postgres import Database
from session_service.__main__ import Parts
from tests.session.gates import GatedSubscription
from tests.session.world import Session, World, body, reasons
from tests.support.postgres_proxy import Loss, PostgresProxy


@dataclass
class Fragile:
    """A replica whose connections to the database a test can break."""

    parts: Parts
    proxy: PostgresProxy


@pytest.fixture
async def fragile(world: World) -> AsyncIterator[Fragile]:
    async with PostgresProxy(world.session_dsn).running() as proxy:
        database = await Database.connect(proxy.dsn, maximum=4)
        yield Fragile(world.assemble(database=database), proxy)
        await database.close()


@pytest.mark.parametrize("loss", [Loss.REQUEST, Loss.ANSWER])
async def test_starts_whose_commit_was_not_answered_happen_once(
    world: World, fragile: Fragile, loss: Loss
) -> None:
    test = await world.test()
    users = [await world.learner(limit=1) for _ in range(4)]
    title = f"lose the {loss.name}"  # the insert is the first to speak of it
    items = [world.start(user, test, "k", title=title) for user in users]
    fragile.proxy.lose(title.encode(), loss)
    outcomes = await world.send(items, fragile.parts)
    assert fragile.proxy.lost == 1
    assert reasons(outcomes) == [None] * 4
    assert [outcome.replayed for outcome in outcomes] == [False] * 4
    for user, item, outcome in zip(users, items, outcomes, strict=True):
        (row,) = await world.sessions(user)
        assert str(row["session_id"]) == body(item, outcome).session.session_id
        assert await world.units(user) == (1, 0)


async def test_a_start_that_is_never_answered_can_be_retried(world: World, fragile: Fragile) -> None:
    user, test = await world.learner(limit=1), await world.test()
    world.timeout_seconds, patient = 0.6, world.timeout_seconds
    item = world.start(user, test, "k", title="into silence")
    world.timeout_seconds = patient
    fragile.proxy.lose(b"into silence", Loss.SILENCE)
    assert reasons(await world.send([item], fragile.parts)) == [Reason.DEADLINE_EXCEEDED]
    (again,) = await world.send([world.start(user, test, "k", title="into silence")])
    assert again.replayed
    assert len(await world.sessions(user)) == 1
    assert await world.units(user) == (1, 0)


async def test_with_the_database_away_starts_are_unavailable_and_take_nothing(
    world: World, fragile: Fragile
) -> None:
    user, test = await world.learner(limit=1), await world.test()
    fragile.proxy.lose(test.encode(), Loss.REQUEST)
    fragile.proxy.refuse = True
    assert reasons(await world.send([world.start(user, test, "k")], fragile.parts)) == [Reason.UNAVAILABLE]
    assert await world.units(user) == (0, 0)
    fragile.proxy.refuse = False
    assert (await world.one(world.start(user, test, "k"), fragile.parts)).session.attempt == 1


async def test_a_start_whose_database_dies_after_the_hold_finds_its_hold_again(world: World) -> None:
    user, test = await world.learner(limit=1), await world.test()
    subscription = GatedSubscription(world.subscription)
    subscription.after.close()
    async with PostgresProxy(world.session_dsn).running() as proxy:
        database = await Database.connect(proxy.dsn, maximum=4)
        parts = world.assemble(database=database, subscription=subscription)
        item = world.start(user, test, "k", title="the last words")
        running = asyncio.create_task(world.send([item], parts))
        await subscription.after.reached()
        proxy.lose(b"the last words", Loss.REQUEST)
        proxy.refuse = True
        subscription.after.open()
        assert reasons(await running) == [Reason.UNAVAILABLE]
        proxy.refuse = False
        assert (await world.one(item, parts)).session.attempt == 1
        await database.close()
    assert await world.units(user) == (1, 0)
    assert len(await world.holds(user)) == 1


@pytest.mark.parametrize("loss", [Loss.REQUEST, Loss.ANSWER])
async def test_answers_whose_commit_was_not_answered_are_kept_once(
    world: World, fragile: Fragile, loss: Loss
) -> None:
    test = await world.test()
    users = [await world.learner() for _ in range(3)]
    sessions = [(await world.started(user, test, "k")).session_id for user in users]
    items = [
        world.answer(user, session, "a", "q1", "right 1")
        for user, session in zip(users, sessions, strict=True)
    ]
    fragile.proxy.lose(b"right 1", loss)
    outcomes = await world.send(items, fragile.parts)
    assert fragile.proxy.lost == 1
    assert reasons(outcomes) == [None] * 3
    assert [outcome.replayed for outcome in outcomes] == [False] * 3
    for user in users:
        (row,) = await world.sessions(user)
        assert (row["answered"], row["answers_given"], row["version"]) == (1, 1, 2)


@pytest.mark.parametrize("loss", [Loss.REQUEST, Loss.ANSWER])
async def test_a_lost_commit_behind_answers_that_were_written_without_one_repeats_nothing(
    world: World, fragile: Fragile, loss: Loss
) -> None:
    """One answer of a session is written by a statement of its own; two of another need a transaction."""
    test = await world.test()
    one, two = await world.learner(), await world.learner()
    first, second = [(await world.started(user, test, "k")).session_id for user in (one, two)]
    items = [
        world.answer(one, first, "a", "q1", "right 1"),
        world.answer(two, second, "a", "q1", "right 1"),
        world.answer(two, second, "b", "q2", "wrong"),
    ]
    fragile.proxy.lose(b"COMMIT", loss)
    outcomes = await world.send(items, fragile.parts)
    assert fragile.proxy.lost == 1
    assert reasons(outcomes) == [None] * 3
    assert [outcome.replayed for outcome in outcomes] == [False] * 3
    assert [body(item, outcome).answered for item, outcome in zip(items, outcomes, strict=True)] == [1, 1, 2]
    for user, answers in ((one, 1), (two, 2)):
        (row,) = await world.sessions(user)
        assert (row["answered"], row["answers_given"], row["version"]) == (answers, answers, answers + 1)


@pytest.mark.parametrize("loss", [Loss.REQUEST, Loss.ANSWER])
async def test_a_completion_whose_commit_was_not_answered_happens_once(
    world: World, fragile: Fragile, loss: Loss
) -> None:
    user, test = await world.learner(), await world.test()
    session = (await world.started(user, test, "k")).session_id
    await world.one(world.answer(user, session, "a", "q1", "right 1"))
    fragile.proxy.lose(b"COMMIT", loss)
    item = world.complete(user, session, "c")
    (outcome,) = await world.send([item], fragile.parts)
    assert body(item, outcome).session.state == Session.COMPLETED
    assert not outcome.replayed
    await world.deliver()
    assert await world.units(user) == (0, 1)
    assert (await world.stats(user)).completed_sessions == 1
