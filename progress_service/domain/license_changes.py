"""Changes of licenses, as subscription_service tells them."""

from __future__ import annotations

from dataclasses import dataclass

from progress_service.domain.statistics import UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseChange:
    """A license after a change. `sequence` is its place among all changes of all licenses.

    `advanced` says that somebody raised the license by hand. Every other change was ordered from here.
    """

    sequence: int
    user_id: UserId
    specialization: str
    level: int
    max_level: int
    epoch: int
    advanced: bool
