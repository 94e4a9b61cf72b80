"""Plans: what a subscription entitles to."""

from __future__ import annotations

from dataclasses import dataclass

from chassis.frozen import quick


@dataclass(frozen=True, slots=True)
class Plan:
    """`daily_test_limit` None means unlimited; `monthly_credits` lapse at the end of their UTC month."""

    plan_id: str
    name: str
    daily_test_limit: int | None
    monthly_credits: int
    features: tuple[str, ...]


@quick
@dataclass(frozen=True, slots=True)
class Limits:
    """What a learner may take: tests on this day (None: any number), and credits in this month."""

    daily_test_limit: int | None
    monthly_credits: int
