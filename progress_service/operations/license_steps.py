"""Progress against licenses as checks: the three ways to disagree, and the repair that ends them."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.diagnostics.checks import Check, Place, Scope, Step
from chassis.diagnostics.findings import Finding
from progress_service.domain.desyncs import Desync, Key, Kind
from progress_service.domain.statistics import UserId
from progress_service.operations import comparison
from progress_service.operations.comparison import StoreComparison


class LicenseWalk:
    """A walk through both stores in the order of `StoreComparison`, for one way to disagree.

    What both sides have been for the age of the check, with nothing on its way between them, is looked at
    once more: only what is the same then is a finding.
    """

    def __init__(self, stores: StoreComparison, kind: Kind) -> None:
        self._stores = stores
        self._kind = kind

    async def step(
        self, check: Check, scope: Scope, after: Place | None, *, limit: int, deadline: float
    ) -> Step:
        """See `Walk`. Raises ServiceError, and what `Database` raises."""
        compared = comparison.Scope(user_id=scope.user_id)
        behind = Key(after[0], UserId(after[1])) if after else None
        first = await self._stores.compare_next(compared, after=behind, deadline=deadline, limit=limit)
        candidates = self._settled(check, first.desyncs)
        if candidates:
            again = await self._stores.compare_next(compared, after=behind, deadline=deadline, limit=limit)
            confirmed = {each.key: each for each in self._settled(check, again.desyncs)}
            candidates = [
                each
                for each in candidates
                if each.key in confirmed and confirmed[each.key].levels == each.levels
            ]
        reached = None if first.reached is None else tuple(first.reached)
        return Step([_finding(check, each) for each in candidates], first.compared, reached)

    def _settled(self, check: Check, desyncs: Sequence[Desync]) -> list[Desync]:
        age_seconds = check.age.total_seconds()
        return [each for each in desyncs if each.kind is self._kind and each.is_settled(age_seconds)]


def _finding(check: Check, desync: Desync) -> Finding:
    progress, license_ = desync.levels
    evidence = {"kind": desync.kind.value, "licenseLevel": str(license_)}
    if desync.license is not None:
        evidence |= {
            "licenseEpoch": str(desync.license.epoch),
            "licenseAgeSeconds": f"{desync.license.age_seconds:.0f}",
        }
    if desync.progress is not None:
        evidence |= {
            "progressEpoch": str(desync.progress.epoch),
            "progressAgeSeconds": f"{desync.progress.age_seconds:.0f}",
        }
    return Finding(
        check=check.check_id,
        severity=check.severity,
        observed=f"license {license_ or 'none'}, progress {progress or 'none'}",
        expected="the same level on both sides",
        user_id=desync.key.user_id,
        row={"user_id": desync.key.user_id, "specialization": desync.key.specialization},
        evidence=evidence,
    )
