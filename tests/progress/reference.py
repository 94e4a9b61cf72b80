"""What a learner should have after a history of results, resets, grants and catalogs, in plain Python."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from progress_service.domain.statistics import SessionResult
from tests.progress.specializations import Standing

Ladder = list[int]
"""The XP that each level requires, from level 1 on."""

STREAKS = {3: "streak-3", 7: "streak-7", 30: "streak-30"}


def level_for(ladder: Ladder, xp: int) -> int:
    return max((level for level, required in enumerate(ladder, start=1) if required <= xp), default=0)


@dataclass
class ReferenceReset:
    epoch: int
    specialization: str
    """Empty for all."""
    at: datetime


@dataclass
class ReferenceLearner:
    """Decides one thing after the other, in the most obvious way."""

    standings: dict[str, Standing] = field(default_factory=dict)
    results: dict[str, SessionResult] = field(default_factory=dict)
    resets: list[ReferenceReset] = field(default_factory=list)
    achievements: set[str] = field(default_factory=set)
    licenses: dict[str, tuple[int, int]] = field(default_factory=lambda: defaultdict(lambda: (0, 0)))
    """Epoch and level that the orders until now, and the grants, amount to."""
    version: int = 0

    def epoch(self, specialization: str, at: datetime | None = None) -> int:
        """The epoch of the specialization at a time; None: now."""
        return max(
            (
                reset.epoch
                for reset in self.resets
                if reset.specialization in ("", specialization) and (at is None or reset.at <= at)
            ),
            default=0,
        )

    def tell(self, results: list[SessionResult], catalog: dict[str, Ladder]) -> None:
        new = []
        for result in results:
            if result.session_id not in self.results:
                self.results[result.session_id] = result
                if result.counts:
                    new.append(result)
        self.version += len(new)
        gains: dict[str, int] = defaultdict(int)
        for result in new:
            name = result.specialization
            if result.xp and name and self.epoch(name, result.closed_at) == self.epoch(name):
                gains[name] += result.xp
        for name, xp in gains.items():
            self.decide(name, catalog, xp=xp)
        if new:
            self.award()

    def decide(self, name: str, catalog: dict[str, Ladder], *, xp: int = 0, granted: int = 0) -> bool:
        """Decide the level anew; whether it rose."""
        known = self.standings.get(name, Standing(0, 0, 0, 0, self.epoch(name)))
        ladder = catalog.get(name, [])
        level = max(known.level, granted, level_for(ladder, known.xp + xp))
        self.standings[name] = Standing(
            xp=known.xp + xp,
            level=level,
            max_level=max(level, len(ladder)),
            granted_level=max(known.granted_level, granted),
            epoch=known.epoch,
        )
        if level:
            self.licenses[name] = max(self.licenses[name], (known.epoch, level))
        return level > known.level

    def grant(self, grants: list[tuple[str, int, int]], catalog: dict[str, Ladder]) -> None:
        """Levels of licenses that were advanced, in this order: specialization, level, epoch."""
        highest: dict[str, int] = defaultdict(int)
        for name, level, epoch in grants:
            known = self.standings.get(name)
            granted_level = 0 if known is None else known.granted_level
            # A license without progress knows of no reset: its level counts in the new epoch.
            late = epoch > self.epoch(name) if known is None else epoch != known.epoch
            if not late and level > granted_level:
                highest[name] = max(highest[name], level)
        self.rise([self.decide(name, catalog, granted=level) for name, level in highest.items()])

    def follow_catalog(self, names: set[str], catalog: dict[str, Ladder]) -> None:
        self.rise([self.decide(name, catalog) for name in sorted(names & set(self.standings))])

    def rise(self, rises: list[bool]) -> None:
        if any(rises):
            self.version += 1
            self.award()

    def reset(self, reset: ReferenceReset, catalog: dict[str, Ladder]) -> None:
        self.resets.append(reset)
        self.version += 1
        for name, known in self.standings.items():
            if reset.specialization in ("", name):
                # Without a catalog, a level that a license has brought begins again at 1.
                level = level_for(catalog[name], 0) if name in catalog else min(known.level, 1)
                max_level = len(catalog[name]) if name in catalog else known.max_level
                self.standings[name] = Standing(0, level, max_level, 0, reset.epoch)
                if level:
                    self.licenses[name] = (reset.epoch, level)

    def award(self) -> None:
        counted = [result for result in self.results.values() if result.counts and result.completed]
        if counted:
            self.achievements.add("first-session")
        if any(each.level >= 2 for each in self.standings.values()):
            self.achievements.add("first-level-up")
        if any(each.level == each.max_level > 1 for each in self.standings.values()):
            self.achievements.add("top-level")
        longest = longest_run({result.closed_at.astimezone(UTC).date() for result in counted})
        self.achievements |= {name for days, name in STREAKS.items() if longest >= days}


def longest_run(days: set[date]) -> int:
    longest = 0
    for day in days:
        length = 1
        while day - timedelta(days=length) in days:
            length += 1
        longest = max(longest, length)
    return longest
