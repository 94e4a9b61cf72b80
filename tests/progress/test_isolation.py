"""A result that cannot be recorded, or a learner who is locked, changes nothing for the neighbours."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chassis.batch import Item
from chassis.errors import Reason, ServiceError
from chassis.rpc.servicing import UnaryHandler
from progress_service.domain.statistics import Recording, SessionResult, Verdict
from progress_service.servicer.statistics import handlers
from protos.progress.v1 import progress_pb2
from tests.progress.conftest import Progress, asked
from tests.progress.results import completed, learner

NEIGHBOURS = 63

POISON = {
    "more right answers than answers": {"answers": 1, "answered": 1, "correct": 2},
    "a NUL in a text": {"test_id": "physics\0"},
    "a number that its column cannot hold": {"answers": 2**31, "correct": 1},
    "more answers than a session may have": {"answers": 100_000_001, "correct": 1},
    "more XP than a session may earn": {"xp": 1_000_001},
    "a time before the first one allowed": {"closed_at": datetime(1999, 12, 31, tzinfo=UTC)},
    "the first time not allowed any more": {"closed_at": datetime(2100, 1, 1, tzinfo=UTC)},
    "an empty test id": {"test_id": ""},
    "XP without a completion": {"completed": False, "passed": False, "xp": 5},
}


def recorded(outcomes: list[Recording | ServiceError]) -> int:
    return sum(isinstance(each, Recording) and each.verdict is Verdict.RECORDED for each in outcomes)


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON.keys())
async def test_a_poisonous_result_fails_alone(progress: Progress, poison: dict[str, object]) -> None:
    guilty = learner("guilty")
    await progress.tell(completed(guilty, "before"))
    batch: list[SessionResult] = [completed(learner(), "s1") for _ in range(NEIGHBOURS - 1)]
    batch.insert(30, completed(guilty, "poison", **poison))
    batch.append(completed(guilty, "after"))

    outcomes = await progress.tell(*batch)

    failure = outcomes.pop(30)
    assert isinstance(failure, ServiceError)
    assert failure.reason is Reason.INVALID_ARGUMENT
    assert recorded(outcomes) == NEIGHBOURS
    assert (await progress.stats(guilty)).statistics.completed_sessions == 2
    assert await progress.discrepancies() == []


async def test_a_learner_id_that_cannot_be_stored_fails_alone(progress: Progress) -> None:
    neighbour = learner()
    outcomes = await progress.tell(completed("a\0b", "s1"), completed(neighbour, "s1"))
    assert isinstance(outcomes[0], ServiceError)
    assert outcomes[0].reason is Reason.INVALID_ARGUMENT
    assert outcomes[1] == Recording(Verdict.RECORDED, 1)


async def test_stats_of_a_learner_who_cannot_exist_are_refused_alone(progress: Progress) -> None:
    neighbour = learner()
    await progress.tell(completed(neighbour, "s1"))
    get_stats, _ = handlers(results=progress.results, statistics=progress.statistics)
    assert isinstance(get_stats, UnaryHandler)
    items = [
        Item(asked(None).context._replace(user_id=user_id), progress_pb2.GetStatsRequest())
        for user_id in ("a\0b", neighbour)
    ]

    refused, answered = await get_stats.answer(items)

    assert isinstance(refused, ServiceError)
    assert refused.reason is Reason.INVALID_ARGUMENT
    assert progress_pb2.GetStatsResponse.FromString(answered.payload()).stats.completed_sessions == 1


async def test_a_transaction_that_is_about_to_add_a_learner_delays_nobody_but_that_learner(
    progress: Progress,
) -> None:
    new = learner("new")
    batch = [completed(learner(), "s1") for _ in range(4)]
    batch.insert(2, completed(new, "s1"))
    async with progress.truth.transaction():
        await progress.truth.execute("INSERT INTO learner_statistics (user_id) VALUES ($1)", new)
        failure = (outcomes := await progress.tell(*batch)).pop(2)
    assert isinstance(failure, ServiceError)
    assert failure.reason is Reason.UNAVAILABLE
    assert recorded(outcomes) == 4
    assert recorded(await progress.tell(batch[2])) == 1


async def test_a_locked_learner_is_told_to_come_back_and_the_neighbours_are_recorded(
    progress: Progress,
) -> None:
    locked = learner("locked")
    await progress.tell(completed(locked, "s1"))
    batch = [completed(learner(), "s1") for _ in range(NEIGHBOURS)]
    batch.insert(7, completed(locked, "s2"))

    async with progress.truth.transaction():
        await progress.truth.execute("SELECT 1 FROM learner_statistics WHERE user_id = $1 FOR UPDATE", locked)
        outcomes = await progress.tell(*batch)

    failure = outcomes.pop(7)
    assert isinstance(failure, ServiceError)
    assert failure.reason is Reason.UNAVAILABLE
    assert failure.retry_after_seconds is not None
    assert recorded(outcomes) == NEIGHBOURS
    assert recorded(await progress.tell(completed(locked, "s2"))) == 1


async def test_neighbours_of_a_locked_learner_are_committed_while_it_is_still_locked(
    progress: Progress,
) -> None:
    locked, neighbour = learner("locked"), learner()
    await progress.tell(completed(locked, "s1"))
    async with progress.truth.transaction():
        await progress.truth.execute("SELECT 1 FROM learner_statistics WHERE user_id = $1 FOR UPDATE", locked)
        telling = asyncio.create_task(progress.tell(completed(locked, "s2"), completed(neighbour, "s1")))
        give_up_at = time.monotonic() + 10
        while (await progress.stats(neighbour)).statistics.version == 0:
            assert time.monotonic() < give_up_at
            await asyncio.sleep(0.005)
    outcomes = await telling
    assert outcomes[1] == Recording(Verdict.RECORDED, 1)


async def test_neighbours_of_a_learner_whose_rows_somebody_is_about_to_write_are_recorded(
    progress: Progress,
) -> None:
    batch = [completed(learner(), "s1") for _ in range(4)]
    await progress.tell(*(completed(result.user_id, "s0") for result in batch))
    before = replace(batch[2], closed_at=batch[2].closed_at - timedelta(days=3))
    async with progress.truth.transaction():
        # No row of the learner is locked, but the insert has to wait for the end of this one.
        await progress.truth.execute(
            "INSERT INTO activity_days (user_id, day) VALUES ($1, $2)", before.user_id, before.activity_day
        )
        batch[2] = before
        failure = (outcomes := await progress.tell(*batch)).pop(2)
    assert isinstance(failure, ServiceError)
    assert failure.reason is Reason.UNAVAILABLE
    assert recorded(outcomes) == 3
    assert recorded(await progress.tell(before)) == 1


async def test_all_results_of_a_locked_learner_wait_together_and_not_one_after_the_other(
    progress: Progress,
) -> None:
    locked = learner("locked")
    await progress.tell(completed(locked, "s0"))
    batch = [completed(locked, f"s{number}") for number in range(1, 100)]
    async with progress.truth.transaction():
        await progress.truth.execute("SELECT 1 FROM learner_statistics WHERE user_id = $1 FOR UPDATE", locked)
        # One by one they would wait for longer than the deadline.
        outcomes = await progress.tell(*batch)
    assert {each.reason for each in outcomes if isinstance(each, ServiceError)} == {Reason.UNAVAILABLE}
    assert recorded(await progress.tell(*batch)) == 99
    assert (await progress.stats(locked)).statistics.version == 100


async def test_a_batch_that_waits_for_a_learner_records_when_the_lock_is_given_back(
    progress: Progress,
) -> None:
    locked = learner("locked")
    await progress.tell(completed(locked, "s1"))
    batch = [completed(locked, "s2"), completed(locked, "s3"), completed(locked, "s2")]
    transaction = progress.truth.transaction()
    await transaction.start()
    await progress.truth.execute("SELECT 1 FROM learner_statistics WHERE user_id = $1 FOR UPDATE", locked)
    telling = asyncio.create_task(progress.tell(*batch))
    give_up_at = time.monotonic() + 10
    while not telling.done() and not await progress.truth.fetchval(
        """
        SELECT count(*)
          FROM pg_stat_activity
         WHERE wait_event_type = 'Lock' AND datname = current_database()
        """
    ):
        assert time.monotonic() < give_up_at
    await transaction.rollback()
    outcomes = await telling
    if isinstance(outcomes[0], ServiceError):  # a slow machine: the lock timeout came before the rollback
        assert {each.reason for each in outcomes if isinstance(each, ServiceError)} == {Reason.UNAVAILABLE}
        outcomes = await progress.tell(*batch)
    assert outcomes == [
        Recording(Verdict.RECORDED, 2),
        Recording(Verdict.RECORDED, 3),
        Recording(Verdict.REPEATED, 3),
    ]
