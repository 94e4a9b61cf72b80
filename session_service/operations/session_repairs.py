"""Repairs that end sessions: the domain decides the end, and its rows are those of the usual way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from chassis.diagnostics.checks import Scope
from chassis.diagnostics.findings import Finding
from chassis.diagnostics.repairs import Planned, RowChange, Unit, outbox_row
from chassis.errors import ServiceError
from chassis.postgres import Connection
from session_service.domain.authors import THE_SERVICE
from session_service.domain.engagement import require_engagement
from session_service.domain.identity import require_no_check_due
from session_service.domain.moves import complete, lose_lease
from session_service.domain.sessions import Session, SessionKey, counts_as_completed
from session_service.domain.tests import Edition
from session_service.domain.timing import TimeRules
from session_service.operations.clock_ends import end_when_due
from session_service.operations.drafts import Draft
from session_service.operations.session_walks import edition_of, found_sessions
from session_service.store.changes import Changes
from session_service.store.checks_reads import Kept, events_under_way, keys_of_learner, sessions_by_key
from session_service.store.editions import EditionCache
from session_service.store.event_rows import event_row
from session_service.store.session_rows import CHANGED_COLUMNS
from session_service.subscription_client import RELEASE_TOPIC

LEFT_FOR = timedelta(minutes=10)
"""A session without a sign of life for so long was left by its learner."""
NOTE = "repair"


class SessionRepairs:
    """Plans the ends of sessions. Nothing is written here.

    Args:
        editions: what the sessions ask.
        times: when time ends a session.
    """

    def __init__(self, *, editions: EditionCache, times: TimeRules) -> None:
        self._editions = editions
        self._times = times

    async def close_ghosts(
        self, connection: Connection, findings: Sequence[Finding], _scope: Scope
    ) -> Planned:
        """End sessions as the sweeps would: with the result, or with the unit given back."""
        drafts, left_out, now = await self._drafts(connection, found_sessions(findings))
        ended = [draft for draft in drafts if draft.session.live and end_when_due(draft, now)]
        return await _planned(connection, ended, left_out, now)

    async def close_unpaid(
        self, connection: Connection, findings: Sequence[Finding], _scope: Scope
    ) -> Planned:
        """End sessions without a hold that nobody has answered: nothing is lost, and nothing is spent.

        No event asks to resolve the hold. There is none that is open, and after a restore one may have been
        committed already, so the event would be refused.
        """
        drafts, left_out, now = await self._drafts(connection, found_sessions(findings))
        ended: list[_KeptDraft] = []
        for draft in drafts:
            if draft.session.live and draft.session.answered == 0:
                draft.move(lose_lease(draft.session, at=now), "")
                ended.append(draft)
            elif draft.session.live:
                left_out.append(
                    f"{_name(draft)} has answers: let the learner finish it, then discard its parked event"
                )
        return await _planned(connection, ended, left_out, now, untold=frozenset({RELEASE_TOPIC}))

    async def complete_answered(
        self, connection: Connection, _findings: Sequence[Finding], scope: Scope
    ) -> Planned:
        """Hand in the answered sessions that this learner has left without doing so."""
        keys = await keys_of_learner(connection, scope.user_id)
        drafts, left_out, now = await self._drafts(connection, keys)
        ended: list[_KeptDraft] = []
        for draft in drafts:
            refusal = self._hand_in(draft, now)
            if refusal:
                left_out.append(f"{_name(draft)} {refusal}")
            elif draft.session is not draft.before:
                ended.append(draft)
        return await _planned(connection, ended, left_out, now)

    def _hand_in(self, draft: Draft, now: datetime) -> str:
        """Complete a session that was left with answers. Returns why that is not possible, or ''."""
        if not draft.session.live:
            if counts_as_completed(draft.session):
                return ""
            return f"ended before ({draft.session.close_reason}): its result counts as not completed"
        draft.catch_up(now, "")
        if draft.session.live and now - draft.session.last_activity_at < LEFT_FOR:
            draft.session = draft.before
            return "is in use"
        if draft.session.live:
            try:
                require_no_check_due(draft.session, now)
                require_engagement(draft.session, draft.edition.definition)
            except ServiceError as refusal:
                return f"cannot be completed: {refusal}"
            draft.move(complete(draft.session, draft.edition.definition, now=now), "")
        return ""

    async def _drafts(
        self, connection: Connection, keys: Sequence[SessionKey]
    ) -> tuple[list[_KeptDraft], list[str], datetime]:
        """The sessions of these keys, those that cannot be repaired, and the database's time."""
        now: datetime = await connection.fetchval("SELECT clock_timestamp()")
        kept = await sessions_by_key(connection, keys)
        wanted = {edition_of(each.session) for each in kept.values()}
        editions = await self._editions.get(connection, wanted)
        drafts: list[_KeptDraft] = []
        left_out: list[str] = []
        for key, each in sorted(kept.items()):
            edition = editions.get(edition_of(each.session))
            if edition is None:
                left_out.append(f"session {key.session_id} of {key.user_id}: its revision does not exist")
            else:
                drafts.append(_KeptDraft(each, edition=edition, times=self._times))
        return drafts, left_out, now


class _KeptDraft(Draft):
    """A draft that knows its row."""

    def __init__(self, kept: Kept, *, edition: Edition, times: TimeRules) -> None:
        super().__init__(session=kept.session, edition=edition, times=times)
        self.kept = kept


async def _planned(
    connection: Connection,
    ended: Iterable[_KeptDraft],
    left_out: Sequence[str],
    now: datetime,
    *,
    untold: frozenset[str] = frozenset(),
) -> Planned:
    """A unit for each session that ends: its row, its entry in the timeline, and its events.

    Events with a topic in `untold` are left out.
    """
    changes: list[tuple[_KeptDraft, Changes]] = []
    for draft in ended:
        draft.tell(THE_SERVICE, now, NOTE)
        changes.append((draft, draft.changes()))
    names = [(event.user_id, event.event_id) for _, each in changes for event in each.events]
    known = await events_under_way(connection, names) if names else set()
    units = []
    for draft, each in changes:
        rows = [
            session_change(draft.kept, draft.session),
            *(RowChange("session_events", told.user_id, None, event_row(told)) for told in each.timeline),
            *(
                RowChange("outbox", event.user_id, None, outbox_row(event, now=now))
                for event in each.events
                if event.topic not in untold and (event.user_id, event.event_id) not in known
            ),
        ]
        units.append(Unit(rows))
    return Planned(units, left_out)


def session_change(kept: Kept, session: Session) -> RowChange:
    """The row of a session with what is new in it: what answers and endings change, and its total."""
    changed: Mapping[str, Any] = {
        name: _plain(getattr(session, name))
        for name in (*CHANGED_COLUMNS, "total")
        if getattr(session, name) != getattr(kept.session, name)
    }
    return RowChange("sessions", session.user_id, kept.row, {**kept.row, **changed})


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _name(draft: Draft) -> str:
    return f"Session {draft.before.session_id} of {draft.before.user_id}"
