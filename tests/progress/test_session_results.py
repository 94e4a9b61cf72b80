"""A session's result counts once, and says what became of it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import timedelta

import pytest

from chassis.batch import Item
from chassis.rpc.servicing import UnaryHandler
from progress_service.domain.statistics import (
    Recording,
    SessionId,
    SessionResult,
    Statistics,
    Verdict,
    decide,
)
from progress_service.servicer.statistics import handlers
from progress_service.store.results import RESULT_COLUMNS
from protos.progress.v1 import progress_pb2
from tests.progress.conftest import Progress, asked
from tests.progress.results import MIDDAY, abandoned, completed, learner, verdicts_of

RECORDED, REPEATED, CONTRADICTED = Verdict.RECORDED, Verdict.REPEATED, Verdict.CONTRADICTED


async def test_a_learner_of_whom_nothing_was_recorded_has_zeros(progress: Progress) -> None:
    nobody = learner("nobody")
    stats = await progress.stats(nobody)
    assert stats.statistics == Statistics(user_id=nobody)
    assert stats.streak_days == 0


async def test_a_completed_session_counts_toward_every_total(progress: Progress) -> None:
    ada = learner("ada")
    assert await progress.tell(completed(ada, "s1", answered=3, answers=5, correct=2, xp=10)) == [
        Recording(RECORDED, 1)
    ]
    totals = (await progress.stats(ada)).statistics
    assert totals.updated_at is not None
    assert replace(totals, updated_at=None) == Statistics(
        user_id=ada, completed_sessions=1, questions_answered=3, answers=5, correct=2, xp=10, version=1
    )


async def test_an_abandoned_session_counts_its_answers_but_is_no_completion(progress: Progress) -> None:
    ada = learner("ada")
    await progress.tell(abandoned(ada, "s1", answered=1, answers=2, correct=1))
    stats = await progress.stats(ada, today=MIDDAY.date())
    assert (stats.statistics.completed_sessions, stats.statistics.answers, stats.statistics.xp) == (0, 2, 0)
    assert stats.streak_days == 0
    assert await progress.discrepancies() == []


async def test_telling_again_changes_nothing(progress: Progress) -> None:
    ada = learner("ada")
    await progress.tell(completed(ada, "s1"))
    before = await progress.stats(ada)
    assert await progress.tell(completed(ada, "s1")) == [Recording(REPEATED, 1)]
    assert await progress.stats(ada) == before


async def test_of_two_truths_about_a_session_the_first_stays_and_the_other_is_counted_as_a_fault(
    progress: Progress,
) -> None:
    ada = learner("ada")
    await progress.tell(completed(ada, "s1", xp=10))
    before = await progress.stats(ada)
    assert await progress.tell(completed(ada, "s1", xp=11)) == [Recording(CONTRADICTED, 1)]
    assert await progress.stats(ada) == before
    page = progress.metrics.render()
    assert b'\nhomeroom_session_results_total{verdict="contradicted"} 1.0' in page
    assert b"homeroom_homeroom" not in page


async def test_results_of_one_learner_in_one_batch_behave_as_if_told_one_after_the_other(
    progress: Progress,
) -> None:
    ada, bob = learner("ada"), learner("bob")
    recordings = await progress.tell(
        completed(ada, "s1", correct=1),
        completed(bob, "s1"),
        completed(ada, "s2", correct=2),
        completed(ada, "s1", correct=1),
        completed(ada, "s1", correct=0),
        completed(ada, "s3", correct=3),
    )
    assert recordings == [
        Recording(RECORDED, 1),
        Recording(RECORDED, 1),
        Recording(RECORDED, 2),
        Recording(REPEATED, 2),
        Recording(CONTRADICTED, 2),
        Recording(RECORDED, 3),
    ]
    totals = (await progress.stats(ada)).statistics
    assert (totals.completed_sessions, totals.correct, totals.version) == (3, 6, 3)


async def test_a_session_of_another_learner_with_the_same_id_is_another_session(progress: Progress) -> None:
    ada, bob = learner("ada"), learner("bob")
    await progress.tell(completed(ada, "s1"))
    assert await progress.tell(completed(bob, "s1")) == [Recording(RECORDED, 1)]


async def test_xp_is_one_ledger_entry_per_session_under_an_id_that_the_session_determines(
    progress: Progress,
) -> None:
    ada = learner("ada")
    earning, worthless = completed(ada, "s1", xp=10), completed(ada, "s2", xp=0)
    await progress.tell(earning, worthless)
    (entry,) = await progress.rows("xp_entries", [ada])
    assert entry["operation_id"] == earning.xp_operation_id == completed(ada, "s1", xp=7).xp_operation_id
    assert isinstance(entry["operation_id"], uuid.UUID)
    assert (entry["amount"], entry["specialization"], entry["earned_at"]) == (10, "physics", MIDDAY)


@pytest.mark.parametrize("make", [completed, abandoned])
async def test_a_session_with_questions_and_no_answer_changes_no_statistics(
    progress: Progress, make: Callable[..., SessionResult]
) -> None:
    ada = learner("ada")
    await progress.tell(completed(ada, "s1", closed_at=MIDDAY - timedelta(days=1)))
    before = await progress.stats(ada, today=MIDDAY.date())
    unanswered = make(ada, "s2", total=4, answered=0, answers=0, correct=0)

    assert await progress.tell(unanswered) == [Recording(RECORDED, 1)]
    assert await progress.tell(unanswered, unanswered) == [Recording(REPEATED, 1)] * 2
    assert await progress.tell(replace(unanswered, answered=1, answers=1)) == [Recording(CONTRADICTED, 1)]

    assert await progress.stats(ada, today=MIDDAY.date()) == before
    assert await progress.discrepancies() == []


async def test_a_session_without_questions_counts_though_nothing_was_answered(progress: Progress) -> None:
    ada = learner("ada")
    await progress.tell(completed(ada, "s1", total=0, answered=0, answers=0, correct=0, xp=10))
    totals = (await progress.stats(ada)).statistics
    assert (totals.completed_sessions, totals.xp, totals.version) == (1, 10, 1)


async def test_totals_beyond_32_bits_stay_exact_and_are_shown_as_the_largest_number_of_the_contract(
    progress: Progress,
) -> None:
    ada, bob = learner("ada"), learner("bob")
    rich = [
        completed(ada, f"s{number}", xp=1_000_000, answers=100_000_000, answered=100_000_000, correct=1)
        for number in range(2148)
    ]
    verdicts = verdicts_of(await progress.tell(*rich, completed(bob, "s1")))
    assert set(verdicts) == {RECORDED}
    stats = await progress.stats(ada)
    assert (stats.statistics.xp, stats.statistics.answers) == (2_148_000_000, 214_800_000_000)
    assert await progress.discrepancies() == []

    get_stats, _ = handlers(results=progress.results, statistics=progress.statistics)
    assert isinstance(get_stats, UnaryHandler)
    items = [
        Item(asked(None).context._replace(user_id=user_id), progress_pb2.GetStatsRequest())
        for user_id in (ada, bob)
    ]
    shown, neighbour = [
        progress_pb2.GetStatsResponse.FromString(outcome.payload()).stats
        for outcome in await get_stats.answer(items)
    ]
    assert (shown.xp, shown.answers, shown.questions_answered) == (2**31 - 1,) * 3
    assert shown.completed_sessions == 2148
    assert (neighbour.xp, neighbour.completed_sessions) == (10, 1)


def test_the_columns_of_the_store_are_the_fields_of_the_domain() -> None:
    assert RESULT_COLUMNS.split(", ") == [field.name for field in fields(SessionResult)]


async def test_fifty_who_tell_the_same_results_at_once_count_them_once(progress: Progress) -> None:
    ada, bob = learner("ada"), learner("bob")
    batches = [[completed(ada, "s1"), completed(bob, "s1"), completed(ada, "s2")] for _ in range(50)]
    told = await asyncio.gather(*(progress.tell(*batch) for batch in batches))
    for place in range(3):
        verdicts = verdicts_of([outcomes[place] for outcomes in told])
        assert verdicts.count(RECORDED) == 1
        assert verdicts.count(REPEATED) == 49
    assert (await progress.stats(ada)).statistics.version == 2
    assert (await progress.stats(bob)).statistics.version == 1
    assert await progress.discrepancies() == []


@pytest.mark.parametrize(
    ("total", "damage"),
    [
        ("version", "UPDATE learner_statistics SET version = version + 1"),
        ("completed_sessions", "UPDATE learner_statistics SET completed_sessions = 0"),
        ("questions_answered", "UPDATE learner_statistics SET questions_answered = 99"),
        ("answers", "UPDATE learner_statistics SET answers = 99"),
        ("correct", "UPDATE learner_statistics SET correct = 0"),
        ("xp", "UPDATE learner_statistics SET xp = 0"),
        ("xp_entries", "UPDATE xp_entries SET amount = amount + 1"),
        ("activity_days", "DELETE FROM activity_days"),
        ("version", "DELETE FROM learner_statistics"),
        ("version", "DELETE FROM session_results"),
    ],
)
async def test_a_total_that_disagrees_with_its_ledger_is_found(
    progress: Progress, total: str, damage: str
) -> None:
    ada = learner("ada")
    await progress.tell(completed(ada, "s1"))
    assert await progress.discrepancies() == []
    await progress.truth.execute(damage)
    found = await progress.discrepancies()
    assert (ada, total) in {(each.user_id, each.total) for each in found}


def test_one_batch_is_decided_without_asking_the_database_to_refuse_repetitions() -> None:
    ada, s1 = learner("ada"), SessionId("s1")
    first, again, other = completed(ada, s1), completed(ada, s1), completed(ada, s1, xp=11)
    decision = decide([first, again, other], versions={ada: 0}, recorded={})
    assert [recording.verdict for recording in decision.recordings] == [RECORDED, REPEATED, CONTRADICTED]
    assert decision.new_results == [first]
    assert [recording.version for recording in decision.recordings] == [1, 1, 1]


def test_what_was_recorded_before_leaves_nothing_to_write() -> None:
    ada = learner("ada")
    known = completed(ada, "s1")
    decision = decide([known], versions={ada: 7}, recorded={known.key: known})
    assert decision.recordings == [Recording(REPEATED, 7)]
    assert decision.new_results == []
