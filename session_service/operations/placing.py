"""Places the holds of starts, and removes what stands in their way without reason."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.errors import Reason, ServiceError
from session_service.domain.holds import HoldRequest, HoldState, OpenHold, SubjectTaken
from session_service.operations.hold_resolution import HoldResolver
from session_service.operations.start_rounds import PendingStart, Round
from session_service.store.holds import HoldStore
from session_service.subscription_client import RELEASE_TOPIC, SubscriptionClient

RELEASE_SECONDS_MAX = 1.0

_EXHAUSTED = frozenset({Reason.DAILY_LIMIT_REACHED, Reason.INSUFFICIENT_CREDITS})

Placing = Sequence[tuple[PendingStart, HoldRequest]]


class HoldPlacing:
    """Places holds for the starts of a round.

    Before a learner is refused for too few units, the units that were given back to them and have not arrived
    yet are delivered, and the hold is placed again, once.
    """

    def __init__(self, *, holds: HoldStore, resolver: HoldResolver, subscription: SubscriptionClient) -> None:
        self._holds = holds
        self._resolver = resolver
        self._subscription = subscription

    async def place(self, this_round: Round, *, deadline: float) -> bool:
        """Place the holds that are missing; returns whether some starts must wait for another start."""
        placing = this_round.to_place()
        if not placing:
            return False
        taken = await self._place(this_round, placing)
        exhausted = [each for each in placing if _may_get_units_back(each[0])]
        if exhausted:
            taken += await self._place_after_releases(this_round, exhausted, deadline=deadline)
        return await self._must_wait(this_round, taken)

    async def _place(self, this_round: Round, placing: Placing) -> list[tuple[PendingStart, SubjectTaken]]:
        """Place these holds, and note what became of them; returns those whose subject is taken."""
        for pending, _ in placing:
            this_round.asking(pending)
        states = await self._subscription.place_holds(
            [(request, pending.item.context) for pending, request in placing]
        )
        taken: list[tuple[PendingStart, SubjectTaken]] = []
        for (pending, _), state in zip(placing, states, strict=True):
            if isinstance(state, HoldState):
                pending.hold = state
                continue
            if isinstance(state, SubjectTaken):
                taken.append((pending, state))
            else:
                pending.outcome = state
            if not (isinstance(state, ServiceError) and state.reason.retryable):
                pending.asked_at = None  # certainly nothing is held
        return taken

    async def _place_after_releases(
        self, this_round: Round, exhausted: Placing, *, deadline: float
    ) -> list[tuple[PendingStart, SubjectTaken]]:
        learners = {pending.claim.user_id for pending, _ in exhausted}
        for pending, _ in exhausted:
            pending.releases_delivered = True
        releases = await self._holds.pending_releases(RELEASE_TOPIC, sorted(learners), deadline=deadline)
        if not releases:
            return []
        delivered = await self._subscription.deliver_releases(releases, timeout_seconds=RELEASE_SECONDS_MAX)
        richer = {
            event.user_id for event, refusal in zip(releases, delivered, strict=True) if refusal is None
        }
        again = [each for each in exhausted if each[0].claim.user_id in richer]
        for pending, _ in again:
            pending.outcome = None
        return await self._place(this_round, again) if again else []

    async def _must_wait(self, this_round: Round, taken: Sequence[tuple[PendingStart, SubjectTaken]]) -> bool:
        """Whether a start must wait for the one that has its subject.

        A start that is older than any deadline is not waited for: its hold is resolved here.
        """
        left_behind: dict[OpenHold, PendingStart] = {}
        for pending, state in taken:
            rival = state.rival
            if rival is not None and this_round.is_left_behind(rival) and not pending.rival_resolved:
                pending.rival_resolved = True
                left_behind[rival] = pending
        resolved = (await self._resolver.resolve(list(left_behind))).resolved if left_behind else set()
        return len(resolved) < len(taken)


def _may_get_units_back(pending: PendingStart) -> bool:
    return (
        isinstance(pending.outcome, ServiceError)
        and pending.outcome.reason in _EXHAUSTED
        and not pending.releases_delivered
    )
