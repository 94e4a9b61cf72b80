"""A step of a check costs what its rows cost, however many learners there are."""

from __future__ import annotations

from typing import Any, cast

import asyncpg

from bench.scale.plans import WatchedDatabase, explain, scans_of_whole_tables
from bench.scale.progress_population import build
from chassis.diagnostics.checks import Scope
from chassis.diagnostics.walking import CheckWalk
from homeroom.embedded.provisioning import ServiceDatabase
from progress_service.operations.comparison import StoreComparison
from progress_service.operations.diagnosis import checks
from tests.diagnostics.progress_school import TABLES

COMPLETIONS = 40_000
# The store that the bench makes has entries of the ledger with other ids than the service gives them.
OTHER_IDS = {"progress.unpaid_result", "progress.unpaid_lesson"}


async def test_no_check_reads_a_table_of_learners_from_end_to_end_or_finds_anything(
    progress_database: ServiceDatabase,
) -> None:
    truth = await asyncpg.connect(progress_database.superuser)
    learners = await build(truth, COMPLETIONS)
    await truth.close()
    database = cast("WatchedDatabase", await WatchedDatabase.connect(progress_database.service, maximum=1))
    try:
        found = set()
        for check in checks(database, stores=cast("StoreComparison", Any)):
            if "mismatch" in check.check_id or "license" in check.check_id:
                continue
            async for findings, progress in CheckWalk(check, Scope()).steps():
                assert not progress.problem, progress
                found |= {finding.check for finding in findings}
            print(f"{progress.check:36} {progress.walked:8} rows {progress.seconds:8.2f} s")
        plans = await explain(database)
    finally:
        await database.close()
    assert learners == COMPLETIONS // 20
    assert found <= OTHER_IDS
    # How constraints are verified is the matter of the check of all services.
    ours = {name: plan for name, plan in plans.items() if "walked.tableoid" not in name}
    assert len(ours) > 20
    assert scans_of_whole_tables(ours, set(TABLES) - {"outbox"}) == []  # it is empty
