"""A process remembers who has a row of totals; a row that is gone all the same is made again."""

from __future__ import annotations

import time

import pytest

from chassis.postgres import Connection
from progress_service.domain.statistics import Verdict
from progress_service.store import learners
from progress_service.store.learners import LearnerRows
from tests.progress.conftest import Progress
from tests.progress.results import completed, learner, verdicts_of


async def test_a_row_that_somebody_has_deleted_is_made_again(progress: Progress, truth: Connection) -> None:
    ada, bob = learner("ada"), learner("bob")
    assert verdicts_of(await progress.tell(completed(ada, "s1"), completed(bob, "s1"))) == [
        Verdict.RECORDED,
        Verdict.RECORDED,
    ]
    await truth.execute("DELETE FROM learner_statistics WHERE user_id = $1", ada)
    told = await progress.tell(completed(ada, "s2"), completed(bob, "s2"))
    assert verdicts_of(told) == [Verdict.RECORDED, Verdict.RECORDED]
    assert (await progress.stats(ada)).statistics.completed_sessions == 1
    assert (await progress.stats(bob)).statistics.completed_sessions == 2
    # What was lost with the row is a finding, and this is no test of it.
    for table in ("session_results", "xp_entries", "specialization_progress", "activity_days",
                  "learner_achievements", "learner_statistics"):  # fmt: skip
        await truth.execute(f"DELETE FROM {table} WHERE user_id = $1", ada)  # noqa: S608 - named above


async def test_only_so_many_learners_are_remembered(
    progress: Progress, truth: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learners, "KNOWN_MAX", 2)
    rows = LearnerRows(progress.database)
    everybody = [learner() for _ in range(4)]
    for each in everybody:
        await rows.ensure([each], certainly=False, deadline=time.monotonic() + 10)
    await truth.execute("DELETE FROM learner_statistics WHERE user_id = ANY($1::text[])", everybody)
    await rows.ensure(everybody, certainly=False, deadline=time.monotonic() + 10)
    # The last two were remembered, so nothing was done for them; and then it is, for certain.
    assert await count(truth, everybody) == 2
    await rows.ensure(everybody, certainly=True, deadline=time.monotonic() + 10)
    assert await count(truth, everybody) == 4


async def count(truth: Connection, everybody: list[str]) -> int:
    found: int = await truth.fetchval(
        "SELECT count(*) FROM learner_statistics WHERE user_id = ANY($1::text[])", everybody
    )
    return found
