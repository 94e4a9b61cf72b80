"""Places the holds of starts, and removes what stands in their way without reason."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.errors import Reason, ServiceError
from chassis.postgres.outbox import OutboxEvent
from session_service.domain.holds import HoldName, HoldRequest, HoldState, OpenHold, SubjectTaken
from session_service.operations.resolve_holds import LostStarts
from session_service.operations.start_rounds import PendingStart, Round
from session_service.store.holds import HoldStore
from session_service.subscription_client import RELEASE_TOPIC, SubscriptionClient

RELEASE_SECONDS_MAX = 1.0

_EXHAUSTED = frozenset({Reason.DAILY_LIMIT_REACHED, Reason.INSUFFICIENT_CREDITS})

Placing = Sequence[tuple[PendingStart, HoldRequest]]


class HoldPlacing:
    """Places holds for the starts of a round.

    Before a learner is refused for too few units, their releases that wait in the outbox are delivered, the
    holds of their lost starts are resolved, and the hold is placed again, once.
    """

    def __init__(self, *, holds: HoldStore, lost: LostStarts, subscription: SubscriptionClient) -> None:
        self._holds = holds
        self._lost = lost
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
        for pending, request in placing:
            this_round.asking(pending)
            self._lost.forget(HoldName(request.user_id, request.hold_id))
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
        lost = self._lost.of_learners(learners)
        richer = {hold.user_id for hold in await self._lost.resolve(lost)} if lost else set()
        releases = await self._holds.pending_releases(RELEASE_TOPIC, sorted(learners), deadline=deadline)
        if releases:
            richer |= await self._deliver(releases)
        again = [each for each in exhausted if each[0].claim.user_id in richer]
        for pending, _ in again:
            pending.outcome = None
        return await self._place(this_round, again) if again else []

    async def _deliver(self, releases: Sequence[OutboxEvent]) -> set[str]:
        """Deliver these releases; returns the learners who got something back."""
        delivered = await self._subscription.deliver_releases(releases, timeout_seconds=RELEASE_SECONDS_MAX)
        return {event.user_id for event, refusal in zip(releases, delivered, strict=True) if refusal is None}

    async def _must_wait(self, this_round: Round, taken: Sequence[tuple[PendingStart, SubjectTaken]]) -> bool:
        """Whether a start must wait for the one that has its subject.

        A start that is older than any deadline, or is known to be lost, is not waited for: its hold is
        resolved here.
        """
        left_behind: list[OpenHold] = []
        for pending, state in taken:
            rival = state.rival
            if rival is None or pending.rival_resolved:
                continue
            if this_round.is_left_behind(rival) or self._lost.is_lost(rival):
                pending.rival_resolved = True
                left_behind.append(rival)
        resolved = await self._lost.resolve(left_behind) if left_behind else set()
        return len(resolved) < len(taken)


def _may_get_units_back(pending: PendingStart) -> bool:
    return (
        isinstance(pending.outcome, ServiceError)
        and pending.outcome.reason in _EXHAUSTED
        and not pending.releases_delivered
    )
