"""Plans: what a subscription entitles to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """`daily_test_limit` None means unlimited; `monthly_credits` lapse at the end of their UTC month."""

    plan_id: str
    name: str
    daily_test_limit: int | None
    monthly_credits: int
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """The part of a plan that decides what a learner may take."""

    daily_test_limit: int | None
    monthly_credits: int
