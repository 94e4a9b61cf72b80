"""Several walks as one: a check that looks for the same fault in several tables."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.diagnostics.checks import Check, Place, Scope, Step, Walk


class ChainedWalk:
    """Walks one after the other. A place begins with the number of the walk that it belongs to."""

    def __init__(self, walks: Sequence[Walk]) -> None:
        self._walks = tuple(walks)

    async def step(
        self, check: Check, scope: Scope, after: Place | None, *, limit: int, deadline: float
    ) -> Step:
        """See `Walk`."""
        at, place = (int(after[0]), after[1:]) if after else (0, ())
        step = await self._walks[at].step(check, scope, place or None, limit=limit, deadline=deadline)
        if step.reached is not None:
            return Step(step.findings, step.walked, (str(at), *step.reached))
        following = (str(at + 1),) if at + 1 < len(self._walks) else None
        return Step(step.findings, step.walked, following)
