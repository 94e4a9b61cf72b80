"""Attempts: numbered without gaps, limited under concurrency; a session that nobody answered uses none."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from typing import Any

import pytest

from chassis.batch import Item
from chassis.errors import Reason, ServiceError
from protos.session.v1 import attempts_pb2
from session_service.domain.sessions import uses_attempt
from session_service.domain.states import SessionState
from session_service.store.session_rows import USES_ATTEMPT
from tests.session.test_domain import begin, edition
from tests.session.world import Session, World, body, reasons

ATTEMPTS = "homeroom.session.v1.AttemptService"


def listing(world: World, user: str, test: str, **fields: Any) -> Item[Any]:
    request = attempts_pb2.ListAttemptsRequest(test_id=test, **fields)
    return world.item(f"/{ATTEMPTS}/ListAttempts", request, user=user)


async def played(world: World, user: str, test: str, number: int, *, answers: int, how: str) -> Any:
    """One session from its start to its end."""
    session = await world.started(user, test, f"start {number}")
    for n in range(1, answers + 1):
        await world.one(world.answer(user, session.session_id, f"{number} {n}", f"q{n}", f"right {n}"))
    return (await world.one(getattr(world, how)(user, session.session_id, f"end {number}"))).session


async def test_a_session_that_nobody_answered_uses_no_attempt_however_it_ends(world: World) -> None:
    user, test = await world.learner(), await world.test(max_attempts=2, time_limit_seconds=60)
    numbers = []
    for number, (answers, how) in enumerate(
        [(0, "abandon"), (0, "complete"), (1, "complete"), (0, "abandon"), (2, "abandon")]
    ):
        numbers.append((await played(world, user, test, number, answers=answers, how=how)).attempt)
    assert numbers == [1, 1, 1, 2, 2]
    (refusal,) = await world.send([world.start(user, test, "too many")])
    assert (refusal.reason, refusal.metadata) == (Reason.ATTEMPTS_EXHAUSTED, {"maxAttempts": 2})
    page = await world.one(listing(world, user, test))
    assert (page.used, page.left, page.max_attempts, page.test_id) == (2, 0, 2, test)
    assert [(each.attempt, each.state) for each in page.attempts] == [
        (2, Session.ABANDONED),
        (1, Session.COMPLETED),
    ]
    assert round(page.best_score, 2) == 0.67


async def test_an_expired_session_uses_an_attempt_if_it_was_answered(world: World) -> None:
    user, test = await world.learner(), await world.test(max_attempts=2, time_limit_seconds=60)
    for number, answers in enumerate((0, 1)):
        session = (await world.started(user, test, f"s{number}")).session_id
        for n in range(answers):
            await world.one(world.answer(user, session, f"a{n}", "q1", "right 1"))
        await world.overdue(session)
        await world.parts.sweep.close_overdue()
    page = await world.one(listing(world, user, test))
    assert (page.used, page.left) == (1, 1)
    assert (await world.started(user, test, "next")).attempt == 2


async def test_an_answered_session_uses_its_attempt_at_once(world: World) -> None:
    user, test = await world.learner(), await world.test(max_attempts=3)
    page = await world.one(listing(world, user, test))
    assert (page.used, page.left, list(page.attempts), page.HasField("best_score")) == (0, 3, [], False)
    session = (await world.started(user, test, "s")).session_id
    assert (await world.one(listing(world, user, test))).used == 0
    await world.one(world.answer(user, session, "a", "q1", "x"))
    page = await world.one(listing(world, user, test))
    assert (page.used, page.left, page.HasField("best_score")) == (1, 2, False)
    assert [(each.session_id, each.HasField("score")) for each in page.attempts] == [(session, False)]


async def test_attempts_are_listed_in_pages_with_their_summary_on_each(world: World) -> None:
    user, test, other = await world.learner(), await world.test(), await world.test()
    for number in range(5):
        await played(world, user, test, number, answers=1, how="complete")
    await played(world, user, other, 9, answers=1, how="complete")
    await played(world, await world.learner(), test, 9, answers=1, how="complete")
    numbers, token = [], ""
    for _ in range(3):
        page = await world.one(listing(world, user, test, page_size=2, page_token=token))
        assert (page.used, page.HasField("left"), page.HasField("max_attempts")) == (5, False, False)
        numbers += [each.attempt for each in page.attempts]
        token = page.next_page_token
    assert (numbers, token) == ([5, 4, 3, 2, 1], "")


async def test_only_a_known_test_has_attempts(world: World) -> None:
    user, test = await world.learner(), await world.test()
    outcomes = await world.send([listing(world, user, name) for name in ("no-such-test", "\0", test)])
    assert reasons(outcomes) == [Reason.NOT_FOUND, Reason.INVALID_ARGUMENT, None]


async def test_many_tabs_never_get_more_attempts_than_there_are(world: World) -> None:
    """Each tab starts, answers and ends again and again; some leave without an answer."""
    user, test = await world.learner(), await world.test(questions=1, max_attempts=5)
    replicas = [world.parts, world.assemble()]

    async def tab(number: int) -> None:
        for n in range(8):
            parts = replicas[(number + n) % 2]
            (outcome,) = await world.send([world.start(user, test, f"s {number} {n}")], parts)
            if isinstance(outcome, ServiceError):
                assert outcome.reason in {Reason.ATTEMPTS_EXHAUSTED, Reason.UNAVAILABLE}, outcome
                continue
            session = body(world.start(user, test, ""), outcome).session.session_id
            if (number + n) % 3:
                await world.send([world.answer(user, session, f"a {number} {n}", "q1", "right 1")], parts)
            how = world.complete if n % 2 else world.abandon
            await world.send([how(user, session, f"e {number} {n}")], parts)

    await asyncio.gather(*map(tab, range(6)))
    rows = await world.sessions(user)
    used = [row["attempts_before"] + 1 for row in sorted(rows, key=lambda r: r["attempt"]) if row["answered"]]
    assert used == list(range(1, len(used) + 1)), "numbers without gaps"
    assert len(used) == 5
    assert [row["attempt"] for row in sorted(rows, key=lambda r: r["attempt"])] == list(
        range(1, len(rows) + 1)
    )


async def test_rows_of_the_earlier_release_are_counted(world: World) -> None:
    user, test = await world.learner(), await world.test(max_attempts=3)
    for number, answers in enumerate((1, 0, 1, 0)):
        await played(world, user, test, number, answers=answers, how="abandon")
    await world.truth.execute("UPDATE sessions SET attempts_before = NULL WHERE user_id = $1", user)
    assert (await world.one(listing(world, user, test))).used == 2
    assert (await played(world, user, test, 5, answers=1, how="complete")).attempt == 3
    assert reasons(await world.send([world.start(user, test, "k6")])) == [Reason.ATTEMPTS_EXHAUSTED]


async def test_the_store_and_the_domain_agree_on_what_uses_an_attempt(world: World) -> None:
    for state, answered, total in itertools.product(SessionState, (0, 1), (0, 2)):
        if answered > total:
            continue
        session = replace(
            begin(edition(total)), state=state, answered=answered, submitted_at=None, closed_at=None
        )
        stored = await world.truth.fetchval(
            f"SELECT {USES_ATTEMPT} FROM (VALUES ($1::text, $2::integer, $3::integer))"  # noqa: S608 - our own text
            " AS sessions (state, answered, total)",
            state.value,
            answered,
            total,
        )
        assert stored == uses_attempt(session), (state, answered, total)


@pytest.mark.parametrize("limit", [1, 2])
async def test_starts_that_race_for_the_last_attempt_get_one_session(world: World, limit: int) -> None:
    user, test = await world.learner(), await world.test(max_attempts=limit)
    for number in range(limit - 1):
        await played(world, user, test, number, answers=1, how="complete")
    items = [world.start(user, test, f"race {n}") for n in range(16)]
    found = await asyncio.gather(*(world.send([item]) for item in items))
    sessions = {body(items[0], outcome).session.session_id for (outcome,) in found}
    assert len(sessions) == 1
    await world.one(world.answer(user, sessions.pop(), "a", "q1", "x"))
    assert (await world.one(listing(world, user, test))).left == 0
