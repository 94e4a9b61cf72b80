"""Any order, duplication or delay of the same results gives the same state."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from progress_service.domain.statistics import SessionResult, UserId, Verdict
from progress_service.domain.streaks import Run, streak_days
from tests.progress.conftest import Progress
from tests.progress.results import completed, learner, verdicts_of

LEARNERS = 3
SESSIONS = 5
FIRST_DAY = datetime(2026, 3, 27, tzinfo=UTC)


@st.composite
def session_results(draw: st.DrawFn) -> list[SessionResult]:
    """Different sessions of a few learners; the names of the learners are numbers."""
    sessions = draw(
        st.lists(
            st.tuples(st.integers(0, LEARNERS - 1), st.integers(0, SESSIONS - 1)),
            min_size=1,
            max_size=10,
            unique=True,
        )
    )
    return [draw(_result(str(user), f"s{session}")) for user, session in sessions]


@st.composite
def _result(draw: st.DrawFn, user_id: str, session_id: str) -> SessionResult:
    is_completed = draw(st.booleans())
    answers = draw(st.integers(0, 20))
    return completed(
        user_id,
        session_id,
        completed=is_completed,
        answers=answers,
        answered=draw(st.integers(0, answers)),
        total=draw(st.sampled_from([0, 20])),
        correct=draw(st.integers(0, answers)),
        xp=draw(st.integers(0, 50)) if is_completed else 0,
        closed_at=FIRST_DAY + draw(st.timedeltas(timedelta(0), timedelta(days=6))),
    )


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[SessionResult], list[list[SessionResult]]]:
    """The results, and batches that tell each of them at least once, in any order."""
    results = draw(session_results())
    again = draw(st.lists(st.sampled_from(results), max_size=10))
    told = draw(st.permutations(results + again))
    cuts = sorted(draw(st.lists(st.integers(0, len(told)), max_size=4)))
    bounds = list(zip([0, *cuts], [*cuts, len(told)], strict=True))
    return results, [told[start:end] for start, end in bounds if start < end]


def renamed(result: SessionResult, names: dict[str, UserId]) -> SessionResult:
    return completed(
        names[result.user_id],
        result.session_id,
        **{
            field: getattr(result, field)
            for field in ("completed", "answers", "answered", "total", "correct", "xp", "closed_at")
        },
    )


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(delivery=deliveries(), at_once=st.booleans())
async def test_any_order_and_duplication_of_results_gives_the_same_state(
    progress: Progress, delivery: tuple[list[SessionResult], list[list[SessionResult]]], at_once: bool
) -> None:
    names = {str(number): learner(f"l{number}") for number in range(LEARNERS)}
    results = [renamed(result, names) for result in delivery[0]]
    batches = [[renamed(result, names) for result in batch] for batch in delivery[1]]

    if at_once:
        told = await asyncio.gather(*(progress.deliver(*batch) for batch in batches))
    else:
        told = [await progress.deliver(*batch) for batch in batches]

    verdicts = [verdict for outcomes in told for verdict in verdicts_of(outcomes)]
    assert verdicts.count(Verdict.RECORDED) == len(results)
    assert Verdict.CONTRADICTED not in verdicts
    for user_id in names.values():
        await assert_state(progress, user_id, [result for result in results if result.user_id == user_id])
    assert await progress.discrepancies() == []


async def assert_state(progress: Progress, user_id: UserId, results: list[SessionResult]) -> None:
    results = [result for result in results if result.answered or not result.total]
    today = (FIRST_DAY + timedelta(days=6)).date()
    stats = await progress.stats(user_id, today=today)
    totals = stats.statistics
    assert totals.completed_sessions == sum(result.completed for result in results)
    assert totals.questions_answered == sum(result.answered for result in results)
    assert totals.answers == sum(result.answers for result in results)
    assert totals.correct == sum(result.correct for result in results)
    assert totals.xp == sum(result.xp for result in results)
    assert totals.version == len(results)
    days = {result.closed_at.date() for result in results if result.completed}
    assert {row["day"] for row in await progress.rows("activity_days", [user_id])} == days
    assert {row["operation_id"]: row["amount"] for row in await progress.rows("xp_entries", [user_id])} == {
        result.xp_operation_id: result.xp for result in results if result.xp
    }
    last = max(days, default=None)
    first = last
    while first is not None and first - timedelta(days=1) in days:
        first -= timedelta(days=1)
    run = Run(first, last) if first is not None and last is not None else None
    assert stats.streak_days == streak_days(run, today=today)
