"""Background work on holds: those of starts that ran out of time, and every old one, once."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from chassis.process.background import AT_ONCE, step_deadline
from chassis.telemetry.logs import get_logger
from session_service.domain.holds import HoldName, HoldPosition, OpenHold
from session_service.operations.hold_resolution import HoldResolver
from session_service.store.holds import HoldStore
from session_service.subscription_client import HoldPage, SubscriptionClient

HOLDS_PER_PAGE = 500
# Longer than a placement takes from its reading of the clock to its commit, and longer than the clocks of two
# databases can differ.
SETTLING = timedelta(seconds=15)
LOST_STARTS_MAX = 10_000
LOST_STARTS_PER_ROUND = 100
LOOKS_AT_LOST_START_MAX = 3
# A client whose gateway was restarted sends its start again within this time, with the same key. If the key
# were aborted earlier, the answer would be REQUEST_ABORTED.
RETRY_GRACE_SECONDS = 10.0

log = get_logger(__name__)


@dataclass(slots=True)
class _Lost:
    hold: OpenHold
    due_at: float  # on the monotonic clock
    looks: int = 0


class LostStarts:
    """The starts that ran out of time after they had asked for a hold.

    A client may send such a start again with its key, and the hold is still good for that. So the hold is
    resolved when the same learner starts something else and meets it, or else by a job, after
    RETRY_GRACE_SECONDS. What does not fit in here, or fails again and again, is left to the janitor.
    """

    def __init__(self, *, resolver: HoldResolver) -> None:
        self._resolver = resolver
        self._lost: dict[HoldName, _Lost] = {}

    def add(self, holds: Iterable[OpenHold]) -> None:
        """Remember these holds, to be resolved later."""
        due_at = time.monotonic() + RETRY_GRACE_SECONDS
        for hold in holds:
            if len(self._lost) >= LOST_STARTS_MAX:
                log.warning("lost_start_left_to_janitor", waiting=len(self._lost))
                return
            self._lost[hold.name] = _Lost(hold, due_at)

    def forget(self, hold: HoldName) -> None:
        """The start of this hold has been sent again: the hold is not lost."""
        self._lost.pop(hold, None)

    def of_learners(self, user_ids: Collection[str]) -> list[OpenHold]:
        """The lost holds of these learners."""
        return [each.hold for each in self._lost.values() if each.hold.user_id in user_ids]

    def is_lost(self, hold: OpenHold) -> bool:
        """Whether nobody is known to wait for the start of this hold."""
        return hold.name in self._lost

    async def resolve(self, holds: Sequence[OpenHold]) -> set[HoldName]:
        """Resolve these holds now; returns those that are resolved."""
        resolution = await self._resolver.resolve(holds)
        postponed = {hold.name for hold in resolution.postponed}
        for hold in holds:
            lost = self._lost.get(hold.name)
            if lost is not None:
                lost.looks += 1
                if hold.name not in postponed or lost.looks >= LOOKS_AT_LOST_START_MAX:
                    del self._lost[hold.name]
        return resolution.resolved

    async def resolve_due(self) -> float | None:
        """One round of the job; AT_ONCE while more of them are due."""
        now = time.monotonic()
        due = [each.hold for each in self._lost.values() if each.due_at <= now]
        if due:
            await self.resolve(due[:LOST_STARTS_PER_ROUND])
        return AT_ONCE if len(due) > LOST_STARTS_PER_ROUND else None


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
        after = await self._holds.read_watermark(self._method, deadline=step_deadline())
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
                deadline=step_deadline(),
            )

    async def _page(self, after: HoldPosition | None) -> HoldPage:
        return await self._subscription.list_open_holds(
            self._method,
            older_than_seconds=self._hold_age_seconds,
            page_size=HOLDS_PER_PAGE,
            after=after,
        )

    async def _look_again(self) -> None:
        due = await self._holds.due_postponed(self._method, HOLDS_PER_PAGE, deadline=step_deadline())
        if not due:
            return
        postponed = (await self._resolver.resolve(due)).postponed
        settled = {hold.name for hold in due} - {hold.name for hold in postponed}
        await self._holds.settle_postponed(settled, postponed, deadline=step_deadline())
