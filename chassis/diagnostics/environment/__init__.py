"""Checks of what a process needs around it: configuration, database, schema, Redis, machine."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.diagnostics.environment.checking import (
    Environment,
    EnvironmentCheck,
    Limits,
    Probe,
    Seen,
    run_checks,
    sql_check,
)
from chassis.diagnostics.environment.registry import ENVIRONMENT_CHECKS
from chassis.diagnostics.findings import Finding

__all__ = [
    "ENVIRONMENT_CHECKS",
    "Environment",
    "EnvironmentCheck",
    "Limits",
    "Probe",
    "Seen",
    "run_environment",
    "sql_check",
]


async def run_environment(
    environment: Environment, checks: Sequence[EnvironmentCheck] = ENVIRONMENT_CHECKS
) -> list[Finding]:
    """What the checks find; INFO for facts that are as they must be.

    It never raises, whatever is wrong, and takes about five seconds at most. A service gives its own checks
    as well: `(*ENVIRONMENT_CHECKS, *its_own)`.
    """
    return await run_checks(environment, checks)
