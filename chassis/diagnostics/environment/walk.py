"""The checks of the environment, as the checks that a service runs and serves."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.diagnostics.checks import Check, Place, Scope, Step
from chassis.diagnostics.environment.checking import Environment, EnvironmentCheck, run_checks
from chassis.diagnostics.findings import Severity


class EnvironmentWalk:
    """Looks at one thing around the process, in one step. A run for one learner passes over it.

    Args:
        checks: the check, after those that open what it asks.
    """

    def __init__(self, environment: Environment, checks: Sequence[EnvironmentCheck]) -> None:
        self._environment = environment
        self._checks = checks

    async def step(
        self, check: Check, scope: Scope, _after: Place | None, *, limit: int, deadline: float
    ) -> Step:
        """See `Walk`. Facts that are as they must be are no findings."""
        del limit, deadline  # the checks of the environment have limits of their own
        if scope.user_id:
            return Step([], 0, None)
        seen = await run_checks(self._environment, self._checks)
        found = [
            finding
            for finding in seen
            if finding.check == check.check_id and finding.severity > Severity.INFO
        ]
        return Step(found, 1, None)


def served(environment: Environment, checks: Sequence[EnvironmentCheck]) -> list[Check]:
    """These checks, for a service that runs."""
    applicable = [check for check in checks if check.applies(environment)]
    openers = {check.opens: check for check in applicable if check.opens is not None}
    return [
        Check(
            check_id=check.id,
            severity=check.severity,
            meaning=check.means,
            advice=check.action,
            walk=EnvironmentWalk(
                environment, [*([] if check.needs is None else [openers[check.needs]]), check]
            ),
        )
        for check in applicable
    ]
