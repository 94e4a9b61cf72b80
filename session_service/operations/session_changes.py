"""The one way to change sessions: in batches, isolated from each other, each request once per key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from chassis import failpoints
from chassis.batch import Item, Outcome, latest_deadline
from chassis.context import Claim
from chassis.errors import ServiceError
from chassis.postgres import ConstraintViolation, LockTimeout, OutcomeUnknown, idempotency
from chassis.postgres.isolation import Locked, run_isolated
from chassis.telemetry.logs import get_logger
from session_service.domain.authors import THE_SERVICE
from session_service.domain.holds import HoldName
from session_service.domain.sessions import Session, SessionKey, session_of, spends_hold
from session_service.domain.timing import TimeRules
from session_service.operations.clock_ends import end_overdue, end_when_idle, end_when_unused
from session_service.operations.drafts import Decide, Draft, Drafts, R
from session_service.store.changes import (
    ChangeFacts,
    Changes,
    ChangeStore,
    KeyedAnswer,
    LockedSession,
)
from session_service.subscription_client import SubscriptionClient

LOOKS_MAX = 3

log = get_logger(__name__)


class SessionChanges:
    """Applies requests to sessions, in their order, each exactly once per key.

    Args:
        store: where the sessions are.
        subscription: gets units back as soon as a change is committed.
        times: how long pauses, graces and idle times last.
        wake_relay: called after a commit that left events in the outbox.
    """

    def __init__(
        self,
        *,
        store: ChangeStore,
        subscription: SubscriptionClient,
        times: TimeRules,
        wake_relay: Callable[[], None],
    ) -> None:
        self._store = store
        self._times = times
        self._subscription = subscription
        self._wake_relay = wake_relay

    async def apply(
        self, items: Sequence[Item[R]], decide: Decide[R], *, optimistic: bool = False
    ) -> list[Outcome]:
        """An outcome for each request, in order; requests of one session act one after the other.

        `optimistic` is for answers, which rarely meet another change of their session: it decides without
        locks, and writes one answer to each session that nobody has changed meanwhile. That is two round
        trips instead of five.

        What unanswered sessions held is given back before this returns, if that takes no longer than
        GIVE_BACK_SECONDS_MAX. The relay does it otherwise.
        """
        own: dict[Claim, bytes] = {}
        unspent: list[HoldName] = []

        async def change(some: Sequence[Item[R]], wait: bool) -> list[Outcome | Locked]:
            if optimistic and not wait:
                outcomes = await self._change_unlocked(some, decide, own)
                left = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, Locked)]
                if left:
                    items_left = [some[place] for place in left]
                    found = await self._change(items_left, decide, own, unspent, wait=False)
                    for place, outcome in zip(left, found, strict=True):
                        outcomes[place] = outcome
                return outcomes
            return await self._change(some, decide, own, unspent, wait=wait)

        async def attempt(some: Sequence[Item[R]], wait: bool) -> list[Outcome | Locked]:
            for _ in range(LOOKS_MAX - 1):
                try:
                    return await change(some, wait)
                except ConstraintViolation as violation:
                    if violation.constraint != idempotency.CONSTRAINT:
                        raise
                    # Another request used a key between our look and our claim: the next look will find it.
            return await change(some, wait)

        outcomes = await run_isolated(items, attempt, owner_of=_session_of)
        if unspent:
            await self._subscription.give_back(unspent)
        return outcomes

    async def close_overdue(self, keys: Sequence[SessionKey], *, deadline: float) -> list[Session]:
        """Close those of these sessions that are overdue and not locked by another; returns them.

        Raises ServiceError and OutcomeUnknown.
        """
        return await self._sweep(keys, end_overdue, deadline)

    async def close_idle(self, keys: Sequence[SessionKey], *, deadline: float) -> list[Session]:
        """Close those of these sessions that are idle and not locked by another; returns them.

        Raises ServiceError and OutcomeUnknown.
        """
        return await self._sweep(keys, end_when_idle, deadline)

    async def close_unused(self, keys: Sequence[SessionKey], *, deadline: float) -> list[Session]:
        """Close those of these sessions that have lost their lease and are not locked by another.

        Returns the sessions that it has closed. For the others it notes when to look again.

        Raises ServiceError and OutcomeUnknown.
        """
        changed = await self._sweep(keys, end_when_unused, deadline)
        return [session for session in changed if not session.live]

    async def _sweep(
        self, keys: Sequence[SessionKey], act: Callable[[Draft, datetime], None], deadline: float
    ) -> list[Session]:
        """Let the service itself act on those of these sessions that are free; returns the changed ones."""

        def decide(locked: LockedSession) -> Changes:
            draft = Draft(session=locked.session, edition=locked.edition, times=self._times)
            act(draft, locked.now)
            draft.tell(THE_SERVICE, locked.now)
            return draft.changes()

        changed = await self._change_free(keys, decide, deadline)
        if changed:
            await failpoints.hit_async("session.after_sweep")
            self._wake_relay()
        return changed

    async def _change_free(
        self, keys: Sequence[SessionKey], decide: Callable[[LockedSession], Changes], deadline: float
    ) -> list[Session]:
        """Change the free ones of these sessions. One that cannot be changed is logged and keeps no other."""
        try:
            return await self._store.change_free_sessions(keys, decide, deadline=deadline)
        except (ServiceError, OutcomeUnknown, LockTimeout):
            raise
        except Exception:
            if len(keys) == 1:
                log.exception("session_not_swept", session_id=str(keys[0].session_id))
                return []
        middle = len(keys) // 2
        changed = await self._change_free(keys[:middle], decide, deadline)
        return changed + await self._change_free(keys[middle:], decide, deadline)

    async def _change(
        self,
        items: Sequence[Item[R]],
        decide: Decide[R],
        own: dict[Claim, bytes],
        unspent: list[HoldName],
        *,
        wait: bool,
    ) -> list[Outcome | Locked]:
        """One transaction for these requests.

        If its outcome stays unknown, `own` gets the responses that it may have stored. After its commit,
        `unspent` gets the holds of the sessions that ended without being counted.
        """
        drafts = Drafts(decide, times=self._times, own=own)
        changes = Changes()

        def carry_out(facts: list[ChangeFacts]) -> tuple[list[Outcome | Locked], Changes]:
            nonlocal drafts, changes
            drafts = Drafts(decide, times=self._times, own=own)
            outcomes = drafts.carry_out(items, facts)
            changes = drafts.changes()
            return outcomes, changes

        try:
            outcomes = await self._store.change_sessions(
                items, carry_out, wait=wait, deadline=latest_deadline(items)
            )
        except OutcomeUnknown:
            own.update(drafts.responses(drafts.drafted()))
            raise
        if changes.events:
            self._wake_relay()
        unspent += [session.hold for session in changes.sessions if ended_unspent(session)]
        return outcomes

    async def _change_unlocked(
        self, items: Sequence[Item[R]], decide: Decide[R], own: dict[Claim, bytes]
    ) -> list[Outcome | Locked]:
        """Decide on what is read without locks, and write it where that is still so.

        A session that another transaction holds or has changed, and one to which more happens than a single
        answer, is left: its requests are Locked. Then `own` gets the responses that are stored.
        """
        deadline = latest_deadline(items)
        facts = await self._store.read_facts(items, deadline=deadline)
        drafts = Drafts(decide, times=self._times, own=own)
        outcomes = drafts.carry_out(items, facts)
        changed = {key: changes for key, changes in drafts.drafted().items() if changes}
        answers = {
            fact.key: KeyedAnswer(fact.row_version, *single)
            for fact in facts
            if fact.row_version is not None
            and fact.key in changed
            and (single := changed[fact.key].single_answer()) is not None
        }
        written: set[SessionKey] = set()
        if answers:
            try:
                written = await self._store.write_answers(answers, deadline=deadline)
            except OutcomeUnknown:
                own.update(drafts.responses(answers))
                raise
        left = changed.keys() - written
        if not left:
            return outcomes  # nothing is tried again
        own.update(drafts.responses(written))
        return [
            Locked.HELD_BY_ANOTHER if fact.key in left else outcome
            for fact, outcome in zip(facts, outcomes, strict=True)
        ]


def ended_unspent(session: Session) -> bool:
    """Whether the session has ended and its hold is to be released."""
    return not session.live and not spends_hold(session)


def _session_of(item: Item[R]) -> SessionKey:
    return session_of(item.request, item.user_id)
