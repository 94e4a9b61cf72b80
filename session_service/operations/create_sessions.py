"""Start sessions: the hot path, and the place where one start must never count twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from chassis import failpoints
from chassis.batch import Reply
from chassis.postgres.errors import DataRefused, InvalidValue, LockTimeout, OutcomeUnknown
from chassis.errors import ServiceError
from session_service.domain.holds import HoldState
from session_service.domain.sessions import StartRequest, spends_hold
from session_service.operations.calls import KeyedCall
from session_service.operations.refusals import busy, refusal_of
from session_service.operations.session_changes import SessionChanges
from session_service.operations.start_rounds import Outcome, PendingStart, Render, Round
from session_service.store.starts import StartStore, WantedStart
from session_service.subscription_client import SubscriptionClient

TRIES_TOGETHER = 2
TRIES_ALONE = 4
ALONE_AT_ONCE = 4
PAUSE_SECONDS = 0.005
PAUSES_SECONDS_MAX = 0.25


class SessionStarts:
    """Starts sessions in batches.

    Args:
        starts: what is known of a start, and the statement that commits it.
        subscription: where the units are held.
        changes: closes a live session whose time is over, before another can start.
        render: makes the answer that is stored.
        wake_relay: called after a commit that left events in the outbox.
    """

    def __init__(
        self,
        *,
        starts: StartStore,
        subscription: SubscriptionClient,
        changes: SessionChanges,
        render: Render,
        wake_relay: Callable[[], None],
    ) -> None:
        self._starts = starts
        self._subscription = subscription
        self._changes = changes
        self._render = render
        self._wake_relay = wake_relay

    async def create_sessions(self, calls: Sequence[KeyedCall[StartRequest]]) -> list[Outcome]:
        """An outcome for each start, in order, as if they had come one after the other."""
        starts = [PendingStart(call) for call in calls]
        await self._settle(starts, tries=TRIES_TOGETHER if len(starts) > 1 else TRIES_ALONE)
        return [busy() if each.outcome is None else each.outcome for each in starts]

    async def _settle(self, starts: Sequence[PendingStart], *, tries: int) -> None:
        """Go round until each start has its outcome; those that the database refuses together go alone."""
        pause, pauses_left = PAUSE_SECONDS, PAUSES_SECONDS_MAX
        while unsettled := [each for each in starts if each.outcome is None]:
            try:
                must_wait = await self._go_round(unsettled)
            except ServiceError as error:
                _refuse(unsettled, error)
            except (DataRefused, LockTimeout, OutcomeUnknown) as trouble:
                # Somebody was faster, or nobody can tell. The next look at the keys tells, and should a write
                # that was given up for lost still be committed, then the keys refuse the second one.
                tries -= 1
                if tries > 0 and not isinstance(trouble, InvalidValue | LockTimeout):
                    continue
                if len(starts) == 1:
                    _refuse(starts, refusal_of(trouble))
                    return
                await self._settle_alone(unsettled)
            else:
                if not must_wait:
                    continue
                if pauses_left <= 0:
                    _refuse(unsettled, busy("Another start of this test is under way"))
                    continue
                await asyncio.sleep(min(pause, pauses_left) * random.uniform(0.5, 1.0))  # noqa: S311 — jitter
                pauses_left -= pause
                pause *= 2

    async def _settle_alone(self, starts: Sequence[PendingStart]) -> None:
        """Each by itself, a few learners at once, those of one learner in their order."""
        by_learner: dict[str, list[PendingStart]] = {}
        for each in starts:
            by_learner.setdefault(each.claim.user_id, []).append(each)
        turns = asyncio.Semaphore(ALONE_AT_ONCE)

        async def settle(theirs: Sequence[PendingStart]) -> None:
            async with turns:
                for each in theirs:
                    await self._settle([each], tries=TRIES_ALONE)

        async with asyncio.TaskGroup() as learners:
            for theirs in by_learner.values():
                learners.create_task(settle(theirs))

    async def _go_round(self, starts: Sequence[PendingStart]) -> bool:
        """Look, place holds, write. Returns whether some of the starts must wait for somebody else."""
        deadline = max(each.call.call.deadline for each in starts)
        facts = await self._starts.read_facts(
            starts[0].claim.method,
            [WantedStart(each.claim.user_id, each.claim.key, each.call.request.test_id) for each in starts],
            deadline=deadline,
        )
        this_round = Round(self._render)
        for each, known in zip(starts, facts, strict=True):
            this_round.add(each, known)
        must_wait = await self._expire(this_round, deadline)
        must_wait |= await self._place(this_round)
        await self._write(this_round, deadline)
        this_round.share_refusals()
        return must_wait

    async def _expire(self, this_round: Round, deadline: float) -> bool:
        """Close what is overdue; returns whether somebody else is at one of the sessions."""
        if not this_round.overdue:
            return False
        closed = await self._changes.expire(sorted(this_round.overdue), deadline=deadline)
        # The relay gives back what the unanswered ones held, too, but these starts should not wait for it.
        unanswered = [(session.user_id, session.hold_id) for session in closed if not spends_hold(session)]
        if unanswered:
            await self._subscription.release_holds(unanswered)
        return len(closed) < len(this_round.overdue)

    async def _place(self, this_round: Round) -> bool:
        """Place the holds that are missing; returns whether another start has one of the subjects."""
        placing = this_round.to_place()
        if not placing:
            return False
        states = await self._subscription.place_holds(
            [(request, pending.call.call) for pending, request in placing]
        )
        for (pending, _), state in zip(placing, states, strict=True):
            if isinstance(state, ServiceError):
                pending.outcome = state
            else:
                pending.hold = state
        if HoldState.OPEN in states:
            await failpoints.hit_async("session.after_holds_placed")
        return None in states

    async def _write(self, this_round: Round, deadline: float) -> None:
        """Commit what is ready: this is the moment at which a session exists and a key has its answer."""
        ready, sessions = this_round.to_write()
        if not ready:
            return
        await self._starts.insert_sessions(
            sessions, [each.completed() for each in ready], this_round.releases, deadline=deadline
        )
        await failpoints.hit_async("session.after_commit")
        for each in ready:
            each.outcome = Reply(each.response)
        if this_round.releases:
            self._wake_relay()


def _refuse(starts: Sequence[PendingStart], error: ServiceError) -> None:
    for each in starts:
        if each.outcome is None:
            each.outcome = error
