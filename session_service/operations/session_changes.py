"""Every change of a session goes this way: together if it can, alone where one would hurt the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import groupby

from chassis.database_errors import DataRefused, InvalidValue, LockTimeout, OutcomeUnknown
from chassis.errors import ServiceError
from chassis.idempotency import Claim
from session_service.domain.sessions import Session
from session_service.operations.calls import KeyedCall
from session_service.operations.drafts import Decide, Draft, Drafts, Outcome, R
from session_service.operations.refusals import busy, refusal_of
from session_service.store.changes import ChangeFacts, Changes, ChangeStore, SessionKey, WantedChange

TRIES_ALONE = 3
ALONE_AT_ONCE = 4


class SessionChanges:
    """Applies requests to sessions, in their order, each exactly once per key.

    Args:
        store: where the sessions are.
        wake_relay: called after a commit that left events in the outbox.
    """

    def __init__(self, *, store: ChangeStore, wake_relay: Callable[[], None]) -> None:
        self._store = store
        self._wake_relay = wake_relay

    async def apply(self, calls: Sequence[KeyedCall[R]], decide: Decide[R]) -> list[Outcome]:
        """An outcome for each request, in order; requests of one session act one after the other.

        First all together, skipping sessions that are locked elsewhere; then those, and all of a batch that
        the database refused, session by session.
        """
        own: dict[Claim, bytes] = {}
        outcomes: list[Outcome | None]
        try:
            outcomes = await self._attempt(calls, decide, own, skip_locked=True)
        except (DataRefused, LockTimeout, OutcomeUnknown):
            outcomes = [None] * len(calls)
        except ServiceError as error:
            return [error] * len(calls)
        left = [place for place, outcome in enumerate(outcomes) if outcome is None]
        if left:
            for place, outcome in zip(left, await self._by_session(calls, left, decide, own), strict=True):
                outcomes[place] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    async def expire(self, sessions: Sequence[SessionKey], *, deadline: float) -> list[Session]:
        """Close those of these sessions that are overdue and that nobody else has locked; returns them.

        Raises ServiceError and OutcomeUnknown.
        """

        def decide(facts: list[ChangeFacts]) -> tuple[list[Session], Changes]:
            drafts: list[Draft] = []
            for fact in facts:
                if fact.session is not None and fact.edition is not None and fact.locked:
                    draft = Draft(session=fact.session, edition=fact.edition)
                    draft.expire_if_overdue(fact.now, "")
                    drafts.append(draft)
            changes = [draft.changes() for draft in drafts]
            expired = [session for each in changes for session in each.sessions]
            return expired, Changes(
                sessions=expired, events=[event for each in changes for event in each.events]
            )

        expired = await self._store.change_sessions(
            [WantedChange(key, "", "", "") for key in sessions], decide, skip_locked=True, deadline=deadline
        )
        if expired:
            self._wake_relay()
        return expired

    async def _attempt(
        self, calls: Sequence[KeyedCall[R]], decide: Decide[R], own: dict[Claim, bytes], *, skip_locked: bool
    ) -> list[Outcome | None]:
        """One transaction for these requests; notes in `own` what it may have stored if nobody can tell."""
        drafts = Drafts(decide, own=own)

        def carry_out(facts: list[ChangeFacts]) -> tuple[tuple[list[Outcome | None], bool], Changes]:
            nonlocal drafts
            drafts = Drafts(decide, own=own)
            outcomes = drafts.carry_out(calls, facts)
            changes = drafts.changes()
            return (outcomes, bool(changes.events)), changes

        try:
            outcomes, told = await self._store.change_sessions(
                [_wanted(call) for call in calls],
                carry_out,
                skip_locked=skip_locked,
                deadline=max(call.call.deadline for call in calls),
            )
        except OutcomeUnknown:
            own.update(drafts.responses())
            raise
        if told:
            self._wake_relay()
        return outcomes

    async def _by_session(
        self, calls: Sequence[KeyedCall[R]], places: Sequence[int], decide: Decide[R], own: dict[Claim, bytes]
    ) -> list[Outcome]:
        """Carry out requests session by session, a few at a time; outcomes in the order of `places`."""
        ordered = sorted(places, key=lambda place: (_wanted(calls[place]).session, place))
        groups = [
            list(group) for _, group in groupby(ordered, key=lambda place: _wanted(calls[place]).session)
        ]
        free = asyncio.Semaphore(ALONE_AT_ONCE)

        async def run(group: list[int]) -> list[Outcome]:
            async with free:
                return await self._alone([calls[place] for place in group], decide, own)

        found = await asyncio.gather(*(run(group) for group in groups))
        by_place = {
            place: outcome
            for group, outcomes in zip(groups, found, strict=True)
            for place, outcome in zip(group, outcomes, strict=True)
        }
        return [by_place[place] for place in places]

    async def _alone(
        self, calls: Sequence[KeyedCall[R]], decide: Decide[R], own: dict[Claim, bytes]
    ) -> list[Outcome]:
        """Carry out the requests of one session; if they cannot be together, request by request."""
        trouble: DataRefused | OutcomeUnknown | None = None
        for _ in range(TRIES_ALONE):
            try:
                outcomes = await self._attempt(calls, decide, own, skip_locked=False)
                decided = [outcome for outcome in outcomes if outcome is not None]
                if len(decided) == len(calls):  # else a session was born between the lock and the look
                    return decided
            except LockTimeout:
                return [busy("The session is busy with another request")] * len(calls)
            except ServiceError as error:
                return [error] * len(calls)
            except (DataRefused, OutcomeUnknown) as error:
                trouble = error
                if isinstance(error, DataRefused) and len(calls) > 1:
                    return [(await self._alone([call], decide, own))[0] for call in calls]
                if isinstance(error, InvalidValue):
                    break
        return [refusal_of(trouble)] * len(calls)


def _wanted(call: KeyedCall[R]) -> WantedChange:
    return WantedChange(
        SessionKey(call.call.user_id, call.request.session_id),
        call.call.method,
        call.call.idempotency_key,
        call.request.question_id,
    )
