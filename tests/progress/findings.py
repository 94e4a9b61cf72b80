"""What the checks of progress_service find in a store at rest: nothing, whatever the service did."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

from chassis.diagnostics.checks import Scope
from chassis.diagnostics.findings import Finding
from chassis.diagnostics.walking import CheckWalk
from chassis.postgres import Database
from progress_service.operations.comparison import StoreComparison
from progress_service.operations.diagnosis import checks

# These need the licenses, or find events that a test has left undelivered.
_ELSEWHERE = ("mismatch", "license", "outbox")


async def findings_of(database: Database, *, settled: bool = False) -> list[Finding]:
    """All findings about this store alone. If it is `settled`, nothing is too young to be one."""
    found: list[Finding] = []
    for check in checks(database, stores=cast("StoreComparison", Any)):
        if any(word in check.check_id for word in _ELSEWHERE):
            continue
        walk = CheckWalk(replace(check, age=timedelta(0)) if settled else check, Scope())
        async for findings, progress in walk.steps():
            assert not progress.problem, progress
            found += findings
    return found
