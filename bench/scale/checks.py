"""What the checks of session_service cost in a large store in which nothing is wrong."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from bench.scale.session_subject import RETENTION, TIMES
from chassis.diagnostics.checks import Check, Scope
from chassis.diagnostics.walking import CheckWalk
from chassis.postgres import Database
from session_service.operations import neighbour_walks
from session_service.operations.diagnosis import checks
from session_service.store.editions import EditionCache

MIB = 1024
"""KiB, as `ru_maxrss` has them on Linux."""


@dataclass(frozen=True, slots=True)
class CheckCost:
    """What one check took. `memory_mib` is how much the peak of this process grew meanwhile."""

    check: str
    walked: int
    findings: int
    seconds: float
    memory_mib: float
    problem: str


async def measure_checks(database: Database) -> list[CheckCost]:
    """Run each check of the store to its end; those that ask other services are left out."""
    nobody = cast("Any", None)
    every = checks(
        database,
        editions=EditionCache(),
        subscription=nobody,
        progress=nobody,
        times=TIMES,
        retention=RETENTION,
    )
    await _walk(every[0])  # so that the first one does not pay for what is opened once
    return [await _measure(check) for check in _alone(every)]


def _alone(every: Sequence[Check]) -> list[Check]:
    return [check for check in every if type(check.walk).__module__ != neighbour_walks.__name__]


async def _measure(check: Check) -> CheckCost:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    walked, findings, seconds, problem = await _walk(check)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return CheckCost(check.check_id, walked, findings, seconds, (peak - before) / MIB, problem)


async def _walk(check: Check) -> tuple[int, int, float, str]:
    last = None
    async for _, progress in CheckWalk(check, Scope()).steps():
        last = progress
    assert last is not None
    return last.walked, last.findings, last.seconds, last.problem
