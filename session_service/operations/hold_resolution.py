"""Decides what becomes of holds whose starts may have ended before they made a session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chassis.context import Claim
from chassis.errors import ServiceError
from chassis.postgres import DataRefused, LockTimeout, OutcomeUnknown
from chassis.process.background import step_deadline
from chassis.telemetry.logs import get_logger
from chassis.telemetry.metrics import Metrics
from session_service.domain.holds import HoldName, OpenHold
from session_service.domain.sessions import Session, spends_hold
from session_service.store.holds import HoldStore
from session_service.subscription_client import SubscriptionClient

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to become of some open holds; the holds of live sessions are in none of these."""

    released: list[HoldName]
    committed: list[HoldName]
    undecided: list[OpenHold]
    """Another transaction is in the middle of using these holds' keys."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What became of some open holds; the holds of live sessions are in neither of these."""

    resolved: set[HoldName]
    postponed: list[OpenHold]
    """To be looked at again: undecided, or not accepted by subscription_service."""


class HoldResolver:
    """Resolves holds that were left behind. Any number of replicas may do so, any number of times.

    A start that ended between its hold and its commit leaves a hold without a session. The key is
    aborted first, and the hold is released only after that is committed. So a start that is merely slow
    either has its session already, or can never get one: the unique key decides. If this is interrupted in
    between, the next look finds the aborted key and releases the hold.
    """

    def __init__(self, *, holds: HoldStore, subscription: SubscriptionClient, metrics: Metrics) -> None:
        self._holds = holds
        self._subscription = subscription
        self._done = metrics.counter("holds_resolved", "Holds that were left behind, by their end.", ("end",))

    async def resolve(self, holds: Sequence[OpenHold]) -> Resolution:
        """Decide what becomes of these holds, and tell subscription_service.

        Raises ServiceError and OutcomeUnknown when the database gives no answer.
        """
        decision = await self.decide(holds)
        refused = await self._release(decision.released) | await self._commit(decision.committed)
        return Resolution(
            resolved={*decision.released, *decision.committed} - refused,
            postponed=decision.undecided + [hold for hold in holds if hold.name in refused],
        )

    async def decide(self, holds: Sequence[OpenHold]) -> Decision:
        """Decide what becomes of these holds, so that nobody can decide otherwise later."""
        sessions = await self._sessions_of(holds)
        orphans = [hold for hold in holds if hold.name not in sessions]
        aborted, unknown = await self._abort(orphans) if orphans else (set(), set())
        undecided = [hold for hold in orphans if _claim(hold) in unknown]
        orphans = [hold for hold in orphans if _claim(hold) not in unknown]
        # The keys of these have an answer. A session may have been committed since we looked. If there is
        # none even now, the answer was the session of another start, and this hold can get none any more.
        answered = [hold for hold in orphans if _claim(hold) not in aborted]
        if answered:
            sessions |= await self._sessions_of(answered)
        ended = [session for session in sessions.values() if not session.live]
        return Decision(
            released=[hold.name for hold in orphans if hold.name not in sessions]
            + [session.hold for session in ended if not spends_hold(session)],
            committed=[session.hold for session in ended if spends_hold(session)],
            undecided=undecided,
        )

    async def _release(self, holds: Sequence[HoldName]) -> set[HoldName]:
        outcomes = await self._subscription.release_holds(holds) if holds else []
        return self._count("released", holds, outcomes)

    async def _commit(self, holds: Sequence[HoldName]) -> set[HoldName]:
        outcomes = await self._subscription.commit_holds(holds) if holds else []
        return self._count("committed", holds, outcomes)

    def _count(
        self, end: str, holds: Sequence[HoldName], outcomes: Sequence[ServiceError | None]
    ) -> set[HoldName]:
        """Count what arrived; returns what did not."""
        self._done.add(end, amount=outcomes.count(None))
        for refusal in filter(None, outcomes):
            log.warning("hold_not_resolved", end=end, reason=refusal.reason.name)
        return {hold for hold, refusal in zip(holds, outcomes, strict=True) if refusal is not None}

    async def _sessions_of(self, holds: Sequence[OpenHold]) -> dict[HoldName, Session]:
        return await self._holds.sessions_of_holds([hold.name for hold in holds], deadline=step_deadline())

    async def _abort(self, holds: Sequence[OpenHold]) -> tuple[set[Claim], set[Claim]]:
        """Abort the keys of these holds; returns those that are aborted, and those that are unknown yet.

        The rest has an answer. A key is unknown while its start is in the middle of its commit.
        """
        claims = [_claim(hold) for hold in holds]
        try:
            return await self._holds.abort_keys(claims, deadline=step_deadline()), set()
        except (LockTimeout, DataRefused, OutcomeUnknown):
            aborted: set[Claim] = set()
            unknown: set[Claim] = set()
            for claim in claims:
                try:
                    aborted |= await self._holds.abort_keys([claim], deadline=step_deadline())
                except (LockTimeout, DataRefused, OutcomeUnknown):
                    unknown.add(claim)
            return aborted, unknown


def _claim(hold: OpenHold) -> Claim:
    return Claim(hold.user_id, hold.method, hold.key)
