"""Repairs that send again what another service has not got: the events have their usual ids."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from chassis.context import Claim
from chassis.diagnostics.checks import Scope
from chassis.diagnostics.findings import Finding
from chassis.diagnostics.repairs import Planned, RowChange, Unit, outbox_row
from chassis.postgres import Connection, idempotency
from chassis.postgres.outbox import OutboxEvent
from session_service.domain.holds import HoldName
from session_service.domain.ids import HoldId
from session_service.domain.sessions import Session, spends_hold
from session_service.operations.session_walks import edition_of, found_sessions
from session_service.progress_client import result_event
from session_service.store.checks_reads import events_under_way, sessions_by_key
from session_service.store.editions import EditionCache
from session_service.store.holds import read_sessions_of_holds
from session_service.subscription_client import commit_event, release_event

_NOW = "SELECT clock_timestamp()"


class EventRepairs:
    """Plans rows of the outbox. Nothing is written here.

    Args:
        editions: what the sessions ask.
    """

    def __init__(self, *, editions: EditionCache) -> None:
        self._editions = editions

    async def resolve_holds(
        self, connection: Connection, findings: Sequence[Finding], _scope: Scope
    ) -> Planned:
        """Commit or release open holds, as the janitor does.

        The key of a start without an answer is aborted in the same unit, so that a start that is merely slow
        never gets a session for a hold that was released.
        """
        now: datetime = await connection.fetchval(_NOW)
        holds = {_hold(finding): finding for finding in findings}
        sessions = await read_sessions_of_holds(connection, sorted(holds))
        claims = {hold: _claim(finding) for hold, finding in holds.items()}
        stored = await idempotency.find(connection, claims.values())
        units = []
        for hold in sorted(holds):
            session = sessions.get(hold)
            if session is not None and session.live:
                continue
            changes = []
            if session is None and claims[hold] not in stored:
                changes.append(_aborted(claims[hold], now))
            event = _resolving(hold, session)
            changes.append(RowChange("outbox", hold.user_id, None, outbox_row(event, now=now)))
            units.append(Unit(changes))
        return Planned(units)

    async def send_results(
        self, connection: Connection, findings: Sequence[Finding], _scope: Scope
    ) -> Planned:
        """Send the results of ended sessions again. A result that was recorded is not counted twice."""
        now: datetime = await connection.fetchval(_NOW)
        kept = await sessions_by_key(connection, found_sessions(findings))
        sessions = [each.session for each in kept.values() if not each.session.live]
        wanted = set(map(edition_of, sessions))
        editions = await self._editions.get(connection, wanted)
        events = [
            result_event(session, edition.definition, traceparent="")
            for session in sorted(sessions, key=lambda each: each.key)
            if (edition := editions.get(edition_of(session))) is not None
        ]
        waiting = await events_under_way(connection, [(each.user_id, each.event_id) for each in events])
        return Planned(
            [
                Unit([RowChange("outbox", event.user_id, None, outbox_row(event, now=now))])
                for event in events
                if (event.user_id, event.event_id) not in waiting
            ]
        )


def _resolving(hold: HoldName, session: Session | None) -> OutboxEvent:
    make = commit_event if session is not None and spends_hold(session) else release_event
    return make(hold, traceparent="")


def _aborted(claim: Claim, now: datetime) -> RowChange:
    """The row that says that a key never had and never will have an effect."""
    row = {**claim._asdict(), "state": "aborted", "created_at": now.isoformat()}
    return RowChange("idempotency_keys", claim.user_id, None, row)


def _hold(finding: Finding) -> HoldName:
    return HoldName(finding.user_id, HoldId(UUID(finding.row["hold_id"])))


def _claim(finding: Finding) -> Claim:
    return Claim(finding.user_id, finding.evidence["method"], finding.evidence["key"])
