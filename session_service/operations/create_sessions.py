"""Start sessions: the hot path, and the place where one start must never count twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from chassis import failpoints
from chassis.batch import Item, Outcome, latest_deadline
from chassis.errors import Reason, ServiceError
from chassis.postgres import DataRefused, InvalidValue, LockTimeout, OutcomeUnknown
from chassis.postgres.refusals import busy, refusal_of
from session_service.domain.holds import HoldState
from session_service.domain.identity import IdentityRules
from session_service.domain.sessions import StartRequest
from session_service.domain.timing import TimeRules
from session_service.operations.placing import HoldPlacing
from session_service.operations.record_presence import SessionPresence
from session_service.operations.resolve_holds import LostStarts
from session_service.operations.session_changes import SessionChanges, ended_unspent
from session_service.operations.start_rounds import PendingStart, Render, Round
from session_service.store.starts import StartStore
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
        identity_rules: when the identity checks of new sessions come.
        placing: places the holds.
        subscription: gets units back at once.
        changes: closes a live session whose time is over, before another can start.
        lost: resolves the holds of starts that ran out of time.
        presence: told that a learner is back.
        times: how long graces and pauses last.
        wake_relay: called after a commit that left events in the outbox.
    """

    def __init__(
        self,
        *,
        starts: StartStore,
        identity_rules: IdentityRules,
        placing: HoldPlacing,
        subscription: SubscriptionClient,
        changes: SessionChanges,
        lost: LostStarts,
        presence: SessionPresence,
        times: TimeRules,
        wake_relay: Callable[[], None],
    ) -> None:
        self._starts = starts
        self._identity_rules = identity_rules
        self._placing = placing
        self._subscription = subscription
        self._changes = changes
        self._lost = lost
        self._presence = presence
        self._times = times
        self._wake_relay = wake_relay

    async def create_sessions(self, items: Sequence[Item[StartRequest]], render: Render) -> list[Outcome]:
        """An outcome for each start, in order, as if they had come one after the other."""
        starts = [PendingStart(item) for item in items]
        try:
            await self._settle(starts, render, tries=TRIES_TOGETHER if len(starts) > 1 else TRIES_ALONE)
        except asyncio.CancelledError:
            self._lose([each for each in starts if each.outcome is None or _out_of_time(each)])
            raise
        self._lose([each for each in starts if _out_of_time(each)])
        return [busy() if each.outcome is None else each.outcome for each in starts]

    async def _settle(self, starts: Sequence[PendingStart], render: Render, *, tries: int) -> None:
        """Repeat rounds until each start has its outcome. Starts that fail together are settled alone."""
        pause, pauses_left = PAUSE_SECONDS, PAUSES_SECONDS_MAX
        while unsettled := [each for each in starts if each.outcome is None]:
            try:
                must_wait = await self._go_round(unsettled, render)
            except ServiceError as error:
                _refuse(unsettled, error)
            except (DataRefused, LockTimeout, OutcomeUnknown) as trouble:
                # Another request was faster, or the outcome is unknown: the next look at the keys shows it.
                # If the write whose answer was lost is committed later, the keys refuse our second write.
                tries -= 1
                if tries > 0 and not isinstance(trouble, InvalidValue | LockTimeout):
                    continue
                if len(starts) == 1:
                    _refuse(starts, refusal_of(trouble) if isinstance(trouble, DataRefused) else busy())
                    return
                await self._settle_alone(unsettled, render)
            else:
                if not must_wait:
                    continue
                if pauses_left <= 0:
                    _refuse(unsettled, busy("Another start of this test is under way"))
                    continue
                await asyncio.sleep(min(pause, pauses_left) * random.uniform(0.5, 1.0))  # noqa: S311 — jitter
                pauses_left -= pause
                pause *= 2

    async def _settle_alone(self, starts: Sequence[PendingStart], render: Render) -> None:
        """Settle each start alone: a few learners at a time, the starts of one learner in their order."""
        by_learner: dict[str, list[PendingStart]] = {}
        for each in starts:
            by_learner.setdefault(each.claim.user_id, []).append(each)
        turns = asyncio.Semaphore(ALONE_AT_ONCE)

        async def settle(theirs: Sequence[PendingStart]) -> None:
            async with turns:
                for each in theirs:
                    await self._settle([each], render, tries=TRIES_ALONE)

        async with asyncio.TaskGroup() as learners:
            for theirs in by_learner.values():
                learners.create_task(settle(theirs))

    async def _go_round(self, starts: Sequence[PendingStart], render: Render) -> bool:
        """Look, place holds, write. Returns whether some of the starts must wait for another request."""
        items = [each.item for each in starts]
        deadline = latest_deadline(items)
        facts = await self._starts.read_facts(items, deadline=deadline)
        this_round = Round(render, self._times, self._identity_rules)
        for each, known in zip(starts, facts, strict=True):
            this_round.add(each, known)
        must_wait = await self._expire(this_round, deadline)
        held_before = {id(each) for each in starts if each.hold is HoldState.OPEN}
        must_wait |= await self._placing.place(this_round, deadline=deadline)
        if any(each.hold is HoldState.OPEN and id(each) not in held_before for each in starts):
            await failpoints.hit_async("session.after_holds_placed")
        if this_round.returned_to:
            await self._presence.renew_leases(this_round.returned_to, deadline=deadline)
        await self._write(this_round, deadline)
        this_round.share_refusals()
        return must_wait

    async def _expire(self, this_round: Round, deadline: float) -> bool:
        """Close what is overdue; returns whether one of the sessions is locked by another transaction."""
        if not this_round.overdue:
            return False
        closed = await self._changes.close_overdue(sorted(this_round.overdue), deadline=deadline)
        unspent = [session.hold for session in closed if ended_unspent(session)]
        if unspent:
            await self._subscription.give_back(unspent)
        return len(closed) < len(this_round.overdue)

    async def _write(self, this_round: Round, deadline: float) -> None:
        """Commit what is ready: this is the moment at which a session exists and a key has its answer."""
        ready, sessions = this_round.to_write()
        calls = [each.completed for each in ready if each.completed is not None]
        if not calls:
            return
        ended = await self._starts.insert_sessions(
            sessions, calls, this_round.resumes, this_round.releases, deadline=deadline
        )
        await failpoints.hit_async("session.after_commit")
        for each, call in zip(ready, calls, strict=True):
            if (call.user_id, call.key) not in ended:
                each.outcome = call.reply()
        if this_round.releases:
            self._wake_relay()

    def _lose(self, starts: Sequence[PendingStart]) -> None:
        holds = [hold for hold in (each.lost_hold() for each in starts) if hold is not None]
        if holds:
            self._lost.add(holds)


def _out_of_time(each: PendingStart) -> bool:
    return isinstance(each.outcome, ServiceError) and each.outcome.reason is Reason.DEADLINE_EXCEEDED


def _refuse(starts: Sequence[PendingStart], error: ServiceError) -> None:
    for each in starts:
        if each.outcome is None:
            each.outcome = error
