"""The rules of identity checks without a database: moments, answers, hashes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import Reason, ServiceError
from session_service.domain.identity import IdentityRules, next_check, normalized_answer
from session_service.domain.tests import Definition, Kind
from session_service.operations.answer_hashing import (
    ENROLLING_MAX,
    OWASP_COST,
    WAITING_PER_LEARNER_MAX,
    AnswerHashing,
    ScryptCost,
)

CHEAP = ScryptCost(n=16, r=1, p=1)
RULES = IdentityRules(answer_seconds=60, interval_seconds=600)


def definition(checks: int, **fields: Any) -> Definition:
    settings: dict[str, Any] = {
        "title": "", "kind": Kind.COMPLIANCE, "difficulty": "", "question_count": 1,
        "time_limit_seconds": None, "max_attempts": None, "credit_cost": 0,
        "counts_toward_daily_limit": False, "pass_score": None, "specialization": None, "xp": None,
        "min_engaged_seconds": None, "identity_checks": checks,
    }  # fmt: skip
    return Definition(**(settings | fields))


@given(
    st.integers(1, 20),
    st.integers(0, 19),
    st.floats(0, 1, exclude_max=True),
    st.none() | st.integers(1, 10**6),
    st.none() | st.integers(0, 10**6),
)
def test_each_check_comes_in_its_part_of_the_time(
    checks: int, passed: int, chance: float, limit: int | None, engaged: int | None
) -> None:
    test = definition(checks, time_limit_seconds=limit, min_engaged_seconds=engaged)
    times = next_check(test, RULES, passed=passed, chance=chance)
    if passed >= checks:
        assert times is None
        return
    assert times is not None
    horizon = min(checks * 600, limit or 10**9, engaged or 10**9)
    part = horizon / checks
    assert passed * part - 1e-6 <= times.due_seconds <= (passed + 1) * part + 1e-6
    assert times.lapse_seconds == times.due_seconds + 60
    late = next_check(test, RULES, passed=passed, chance=chance, after_seconds=2e6)
    assert late is not None
    assert late.due_seconds == 2e6


@given(st.text(max_size=50))
def test_a_normalized_answer_stays_as_it_is(text: str) -> None:
    once = normalized_answer(text)
    assert normalized_answer(once) == once
    assert normalized_answer(f" \t{text.upper().lower()}\n") == normalized_answer(text.upper().lower())


@pytest.mark.parametrize(
    ("typed", "kept"),
    [("  Rex\u00a0 the\tDog ", "rex the dog"), ("STRASSE", "strasse"), ("Straße", "strasse"), ("ﬁn", "fin")],
)
def test_what_looks_the_same_is_the_same_answer(typed: str, kept: str) -> None:
    assert normalized_answer(typed) == kept


async def test_a_stored_hash_is_compared_with_its_own_cost() -> None:
    (old,) = await AnswerHashing(cost=CHEAP).hash_answers("user", ["answer"])
    hashing = AnswerHashing(cost=OWASP_COST)
    (new,) = await hashing.hash_answers("user", ["answer"])
    assert (old.cost, new.cost) == ("scrypt:16:1:1", "scrypt:16384:8:5")
    assert [await hashing.matches("user", "answer", each) for each in (old, new)] == [True, True]
    assert [await hashing.matches("user", "other", each) for each in (old, new)] == [False, False]


async def test_hashes_wait_in_bounded_places_that_become_free_again() -> None:
    hashing = AnswerHashing(cost=CHEAP)

    async def enroll(learner: str) -> bool:
        try:
            await hashing.hash_answers(learner, ["x"] * WAITING_PER_LEARNER_MAX)
        except ServiceError as refusal:
            return refusal.reason is not Reason.OVERLOADED
        return True

    for _ in range(3):
        done = await asyncio.gather(*(enroll(f"learner {n}") for n in range(6)))
        assert done.count(True) == ENROLLING_MAX // WAITING_PER_LEARNER_MAX
        await asyncio.sleep(0)  # the threads' last notices are in the loop's queue
        while hashing._waiting:
            await asyncio.sleep(0)


async def test_enrollments_leave_places_for_answers_to_checks() -> None:
    hashing = AnswerHashing(cost=CHEAP)
    (stored,) = await hashing.hash_answers("learner", ["x"])
    enrolling = [
        asyncio.create_task(hashing.hash_answers(f"rude {n}", ["x"] * WAITING_PER_LEARNER_MAX))
        for n in range(6)
    ]
    await asyncio.sleep(0)
    assert await hashing.matches("learner", "x", stored)
    await asyncio.gather(*enrolling, return_exceptions=True)
