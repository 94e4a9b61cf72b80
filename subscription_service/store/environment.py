"""What subscription_service needs in its database before a learner can do anything."""

from __future__ import annotations

from chassis.diagnostics.environment import EnvironmentCheck, sql_check
from chassis.diagnostics.findings import Severity

ENVIRONMENT_CHECKS: tuple[EnvironmentCheck, ...] = (
    sql_check(
        "environment.default_plan",
        severity=Severity.CRITICAL,
        means="No account can be created, and nobody without an active subscription can start a test.",
        action="UPDATE plans SET is_default = true WHERE plan_id = 'free', as the owner of the table.",
        sql="SELECT EXISTS (SELECT FROM plans WHERE is_default) AS well",
        observed="there is no default plan",
        expected="one plan that is the default",
    ),
    sql_check(
        "environment.accounts",
        severity=Severity.MEDIUM,
        means="Nobody can learn here yet.",
        action="Create accounts with PUT /v1/accounts/{userId}.",
        sql="SELECT EXISTS (SELECT FROM accounts WHERE status = 'active') AS well",
        observed="there is no active account",
        expected="at least one account",
    ),
)
