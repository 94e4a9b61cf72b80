"""A check that walks through several tables, one after the other."""

from __future__ import annotations

from collections.abc import Mapping

from chassis.diagnostics.checks import Check, Place, Scope, Step, Walk


class ChainedWalk:
    """Several walks as one. The first part of a place is the name of the walk that is under way."""

    def __init__(self, walks: Mapping[str, Walk]) -> None:
        self._walks = dict(walks)

    async def step(
        self, check: Check, scope: Scope, after: Place | None, *, limit: int, deadline: float
    ) -> Step:
        """See `Walk`."""
        names = list(self._walks)
        name, inner = (after[0], after[1:] or None) if after else (names[0], None)
        step = await self._walks[name].step(check, scope, inner, limit=limit, deadline=deadline)
        if step.reached is not None:
            return Step(step.findings, step.walked, (name, *step.reached))
        at = names.index(name) + 1
        return Step(step.findings, step.walked, (names[at],) if at < len(names) else None)
