"""Answers are decided without locks, and written only where nothing has changed since they were decided."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from chassis.batch import Item
from session_service.store import changes
from session_service.store.changes import ChangeFacts, ChangeStore
from tests.session.world import World, body, reasons
from tests.support.waiting import eventually

Meanwhile = Callable[[], Awaitable[Any]]


@pytest.fixture
def after_the_read(monkeypatch: pytest.MonkeyPatch) -> Callable[[Meanwhile], None]:
    """Makes something happen between the first read of a batch and its write."""
    read_facts = ChangeStore.read_facts

    def arrange(happen: Meanwhile) -> None:
        left = [happen]

        async def read_and_let_happen(
            self: ChangeStore, items: Sequence[Item[Any]], *, deadline: float
        ) -> list[ChangeFacts]:
            facts = await read_facts(self, items, deadline=deadline)
            if left:
                await left.pop()()
            return facts

        monkeypatch.setattr(ChangeStore, "read_facts", read_and_let_happen)

    return arrange


async def begun(world: World) -> tuple[str, str]:
    user = await world.learner()
    return user, (await world.started(user, await world.test(questions=2), "k")).session_id


async def test_an_answer_that_was_overtaken_by_another_counts_on_top_of_it(
    world: World, after_the_read: Callable[[Meanwhile], None]
) -> None:
    (rude, rude_session), (polite, polite_session) = await begun(world), await begun(world)
    after_the_read(lambda: world.one(world.answer(rude, rude_session, "tab 2", "q1", "wrong")))
    first, second = items = [
        world.answer(rude, rude_session, "tab 1", "q1", "right 1"),
        world.answer(polite, polite_session, "a", "q1", "right 1"),
    ]
    outcomes = await world.send(items)
    assert reasons(outcomes) == [None, None]
    assert (body(first, outcomes[0]).attempts, body(second, outcomes[1]).attempts) == (2, 1)


async def test_an_answer_that_was_overtaken_by_the_end_of_its_session_is_refused(
    world: World, after_the_read: Callable[[Meanwhile], None]
) -> None:
    user, session = await begun(world)
    after_the_read(lambda: world.one(world.abandon(user, session, "leave")))
    outcomes = await world.send([world.answer(user, session, "a", "q1", "right 1")])
    assert [reason.name for reason in reasons(outcomes) if reason] == ["SESSION_CLOSED"]
    assert await world.truth.fetchval("SELECT count(*) FROM answers WHERE user_id = $1", user) == 0


async def test_an_answer_whose_twin_was_faster_is_its_replay(
    world: World, after_the_read: Callable[[Meanwhile], None]
) -> None:
    user, session = await begun(world)
    item = world.answer(user, session, "a", "q1", "right 1")
    after_the_read(lambda: world.one(item))
    (outcome,) = await world.send([item])
    assert (body(item, outcome).attempts, outcome.replayed) == (1, True)
    assert await world.truth.fetchval("SELECT count(*) FROM answers WHERE user_id = $1", user) == 1


async def test_a_heartbeat_between_reading_and_writing_costs_nothing_but_time(
    world: World, after_the_read: Callable[[Meanwhile], None]
) -> None:
    user, session = await begun(world)
    touched = "UPDATE sessions SET engaged_seconds = 7 WHERE user_id = $1"
    after_the_read(lambda: world.truth.execute(touched, user))
    assert reasons(await world.send([world.answer(user, session, "a", "q1", "right 1")])) == [None]
    row = await world.truth.fetchrow(
        "SELECT engaged_seconds, answered FROM sessions WHERE user_id = $1", user
    )
    assert row is not None
    assert tuple(row) == (7.0, 1)


async def test_an_answer_that_is_overtaken_after_its_statement_has_begun_counts_on_top_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statement's snapshot still has the session as it was, but the row that it locks is a newer one."""
    user, session = await begun(world)
    timeout = "SELECT set_config("
    assert timeout in changes._WRITE_ANSWERS
    gated = changes._WRITE_ANSWERS.replace(
        timeout, "SELECT pg_advisory_xact_lock_shared(9)::text || set_config("
    )
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    async with world.truth.transaction():
        await world.truth.execute("SELECT pg_advisory_xact_lock(9)")
        with monkeypatch.context() as patch:
            patch.setattr(changes, "_WRITE_ANSWERS", gated)
            first = asyncio.create_task(world.send([world.answer(user, session, "tab 1", "q1", "right 1")]))
            await eventually(lambda: world.truth.fetchval(waiting))
        overtaking = world.answer(user, session, "tab 2", "q1", "wrong")
        assert (await world.one(overtaking)).attempts == 1
    (outcome,) = await first
    assert body(overtaking, outcome).attempts == 2
    assert await world.truth.fetchval("SELECT count(*) FROM answers WHERE user_id = $1", user) == 2
