"""Background work on holds: those of starts that ran out of time, and every old one, once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import timedelta

from chassis.process.background import AT_ONCE
from chassis.telemetry.logs import get_logger
from session_service.domain.holds import HoldName, HoldPosition, OpenHold
from session_service.operations.hold_resolution import STEP_SECONDS_MAX, HoldResolver
from session_service.store.holds import HoldStore
from session_service.subscription_client import HoldPage, SubscriptionClient

HOLDS_PER_PAGE = 500
# Longer than a placement can take from its clock to its commit, and than two databases' clocks can differ.
SETTLING = timedelta(seconds=15)
LOST_STARTS_MAX = 10_000
LOST_STARTS_PER_ROUND = 100
LOOKS_AT_LOST_START_MAX = 3

log = get_logger(__name__)


class LostStarts:
    """The starts that ran out of time after they had asked for a hold: nobody waits for their session.

    A job resolves their holds as soon as it can. What does not fit in here, or fails again and again, is left
    to the janitor.
    """

    def __init__(self, *, resolver: HoldResolver) -> None:
        self._resolver = resolver
        self._waiting: deque[tuple[OpenHold, int]] = deque()
        self._wakes: list[Callable[[], object]] = []

    def at_wake(self, act: Callable[[], object]) -> None:
        """Do this when a start is lost: make the job run now."""
        self._wakes.append(act)

    def add(self, holds: Iterable[OpenHold]) -> None:
        """Resolve these holds in the background."""
        for hold in holds:
            if len(self._waiting) >= LOST_STARTS_MAX:
                log.warning("lost_start_left_to_janitor", waiting=len(self._waiting))
                break
            self._waiting.append((hold, 1))
        for act in self._wakes:
            act()

    async def resolve_some(self) -> float | None:
        """One round of the job; AT_ONCE while more of them wait."""
        some = [self._waiting.popleft() for _ in range(min(LOST_STARTS_PER_ROUND, len(self._waiting)))]
        if not some:
            return None
        looks = {hold.name: look for hold, look in some}
        try:
            postponed = (await self._resolver.resolve([hold for hold, _ in some])).postponed
        except BaseException:
            self._again([hold for hold, _ in some], looks)
            raise
        self._again(postponed, looks)
        return AT_ONCE if self._waiting and not postponed else None

    def _again(self, holds: Iterable[OpenHold], looks: dict[HoldName, int]) -> None:
        for hold in holds:
            look = looks[hold.name] + 1
            if look <= LOOKS_AT_LOST_START_MAX:
                self._waiting.append((hold, look))


class HoldJanitor:
    """Looks at each open hold once, when it is old enough; any number of replicas may do so.

    The database keeps up to where it has looked (the watermark). A hold of a live session needs no second
    look: what ends the session resolves its hold through the outbox. A hold that could not be resolved is
    kept in a table, and looked at again.

    Args:
        method: the RPC whose holds these are.
        hold_age_seconds: holds younger than this are left to their starts.
    """

    def __init__(
        self,
        *,
        holds: HoldStore,
        resolver: HoldResolver,
        subscription: SubscriptionClient,
        method: str,
        hold_age_seconds: float,
    ) -> None:
        self._holds = holds
        self._resolver = resolver
        self._subscription = subscription
        self._method = method
        self._hold_age_seconds = hold_age_seconds

    async def resolve_holds(self) -> None:
        """Look again at the postponed holds, then at all that have become old enough since the last round."""
        await self._look_again()
        after = await self._holds.read_watermark(self._method, deadline=_deadline())
        more = True
        while more:
            page = await self._page(after)
            more = page.more
            if not page.holds:
                return
            resolution = await self._resolver.resolve(page.holds)
            after = page.holds[-1].position
            await self._holds.advance_watermark(
                self._method,
                after,
                settling=SETTLING,
                postponed=resolution.postponed,
                deadline=_deadline(),
            )

    async def _page(self, after: HoldPosition | None) -> HoldPage:
        return await self._subscription.list_open_holds(
            self._method,
            older_than_seconds=self._hold_age_seconds,
            page_size=HOLDS_PER_PAGE,
            after=after,
        )

    async def _look_again(self) -> None:
        due = await self._holds.due_postponed(self._method, HOLDS_PER_PAGE, deadline=_deadline())
        if not due:
            return
        postponed = (await self._resolver.resolve(due)).postponed
        settled = {hold.name for hold in due} - {hold.name for hold in postponed}
        await self._holds.settle_postponed(settled, postponed, deadline=_deadline())


def _deadline() -> float:
    return time.monotonic() + STEP_SECONDS_MAX
