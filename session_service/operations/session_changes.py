"""Every change of a session goes this way: together if it can, alone where one would hurt the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chassis.postgres import idempotency
from chassis.postgres.errors import ConstraintViolation, OutcomeUnknown
from chassis.postgres.idempotency import Claim
from chassis.postgres.isolation import Locked, run_isolated
from session_service.domain.sessions import Session
from session_service.operations.calls import KeyedCall
from session_service.operations.drafts import Decide, Draft, Drafts, Outcome, R
from session_service.operations.refusals import refusal_of
from session_service.store.changes import ChangeFacts, Changes, ChangeStore, SessionKey, WantedChange

LOOKS_MAX = 3


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
        """An outcome for each request, in order; requests of one session act one after the other."""
        own: dict[Claim, bytes] = {}

        async def attempt(some: Sequence[KeyedCall[R]], wait: bool) -> list[Outcome | Locked]:
            for _ in range(LOOKS_MAX - 1):
                try:
                    return await self._change(some, decide, own, wait=wait)
                except ConstraintViolation as violation:
                    if violation.constraint != idempotency.CONSTRAINT:
                        raise
                    # Someone used a key between our look and our claim: the next look will find it.
            return await self._change(some, decide, own, wait=wait)

        return await run_isolated(
            calls, attempt, owner_of=_session_of, refusal_of=lambda _call, error: refusal_of(error)
        )

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
            [WantedChange(key, "", "", "") for key in sessions], decide, wait=False, deadline=deadline
        )
        if expired:
            self._wake_relay()
        return expired

    async def _change(
        self, calls: Sequence[KeyedCall[R]], decide: Decide[R], own: dict[Claim, bytes], *, wait: bool
    ) -> list[Outcome | Locked]:
        """One transaction for these requests; notes in `own` what it may have stored if nobody can tell."""
        drafts = Drafts(decide, own=own)

        def carry_out(facts: list[ChangeFacts]) -> tuple[tuple[list[Outcome | Locked], bool], Changes]:
            nonlocal drafts
            drafts = Drafts(decide, own=own)
            outcomes = drafts.carry_out(calls, facts)
            changes = drafts.changes()
            return (outcomes, bool(changes.events)), changes

        try:
            outcomes, told = await self._store.change_sessions(
                [_wanted(call) for call in calls],
                carry_out,
                wait=wait,
                deadline=max(call.call.deadline for call in calls),
            )
        except OutcomeUnknown:
            own.update(drafts.responses())
            raise
        if told:
            self._wake_relay()
        return outcomes


def _session_of(call: KeyedCall[R]) -> SessionKey:
    return SessionKey(call.call.user_id, call.request.session_id)


def _wanted(call: KeyedCall[R]) -> WantedChange:
    return WantedChange(
        _session_of(call),
        call.call.method,
        call.call.idempotency_key,
        call.request.question_id,
    )
