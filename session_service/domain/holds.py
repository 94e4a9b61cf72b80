"""The hold that a start places on the learner's units, as subscription_service sees it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from chassis.frozen import quick
from session_service.domain.ids import HoldId
from session_service.domain.tests import Definition


class HoldState(StrEnum):
    OPEN = "open"
    COMMITTED = "committed"
    RELEASED = "released"


@quick
@dataclass(frozen=True, slots=True)
class HoldRequest:
    """What a start takes. A request for zero units still checks that the account is active."""

    user_id: str
    hold_id: HoldId
    tests: int
    credits: int
    subject: str
    method: str
    key: str


class HoldName(NamedTuple):
    """What names a hold in both services."""

    user_id: str
    hold_id: HoldId


class HoldPosition(NamedTuple):
    """Where a hold is among the open holds, which are ordered by these three."""

    placed_at: datetime
    user_id: str
    hold_id: HoldId


@dataclass(frozen=True, slots=True)
class OpenHold:
    """A hold that may still be unresolved, and the request that asked for it."""

    user_id: str
    hold_id: HoldId
    method: str
    key: str
    placed_at: datetime

    @property
    def name(self) -> HoldName:
        return HoldName(self.user_id, self.hold_id)

    @property
    def position(self) -> HoldPosition:
        return HoldPosition(self.placed_at, self.user_id, self.hold_id)


@dataclass(frozen=True, slots=True)
class SubjectTaken:
    """The outcome of a placement that took nothing: another open hold of the learner has the subject.

    `rival` is that hold, if subscription_service names it.
    """

    rival: OpenHold | None


def subject_test(subject: str) -> str:
    """The test that a hold's subject is about."""
    return subject.rpartition("#")[0]


def hold_request(
    definition: Definition,
    *,
    user_id: str,
    hold_id: HoldId,
    test_id: str,
    attempt: int,
    method: str,
    key: str,
) -> HoldRequest:
    """What the `attempt`-th session of a test takes.

    A learner has at most one open hold per subject. So two starts of one test under two keys take one unit.
    """
    return HoldRequest(
        user_id=user_id,
        hold_id=hold_id,
        tests=1 if definition.counts_toward_daily_limit else 0,
        credits=definition.credit_cost,
        subject=f"{test_id}#{attempt}",
        method=method,
        key=key,
    )
