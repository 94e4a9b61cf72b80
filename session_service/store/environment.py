"""What session_service needs in its database before a learner can do anything."""

from __future__ import annotations

from chassis.diagnostics.environment import EnvironmentCheck, sql_check
from chassis.diagnostics.findings import Severity

ENVIRONMENT_CHECKS: tuple[EnvironmentCheck, ...] = (
    sql_check(
        "environment.tests",
        severity=Severity.MEDIUM,
        means="There is nothing that a learner could start.",
        action="PUT /v1/tests/{testId}, then `homeroom import questions`.",
        sql="SELECT EXISTS (SELECT FROM tests WHERE revision > 0) AS well",
        observed="there is no test",
        expected="at least one test",
    ),
)
