"""The columns of `session_events`, spelled once, and the statement that appends to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from chassis.postgres.rows import as_rows, names
from session_service.domain.ids import SessionId
from session_service.domain.timeline import EVENTS_PER_VERSION_MAX, SessionEvent

EVENT = """
    user_id text, session_id uuid, version integer, kind text, happened_at timestamptz, actor_id text,
    request_id text, trace_id text, reason text, note text
"""


def event_rows(events: Collection[SessionEvent]) -> str:
    """These entries as one JSON parameter; `place` counts the entries of one version of a session."""
    if not events:
        return "[]"
    places: Counter[tuple[str, SessionId, int]] = Counter()
    rows: list[dict[str, Any]] = []
    for event in events:
        version = (event.user_id, event.session_id, event.version)
        places[version] += 1
        rows.append(
            {
                "user_id": event.user_id,
                "session_id": event.session_id,
                "version": event.version,
                "kind": event.kind,
                "happened_at": event.happened_at,
                "actor_id": event.actor_id,
                "request_id": event.request_id,
                "trace_id": event.trace_id,
                "reason": event.reason,
                "note": event.note,
                "place": places[version],
            }
        )
    return as_rows(rows)


def append_events_from(recordset: str) -> str:
    """The statement that appends the entries of a recordset behind those that exist, under the locks.

    Of one version, only EVENTS_PER_VERSION_MAX entries are kept: the earliest.
    """
    return f"""
        INSERT INTO session_events ({names(EVENT)}, number)
        SELECT {names(EVENT, of="event")}, coalesce(latest.number, 0) + event.place
          FROM {recordset} AS event ({EVENT}, place integer)
          LEFT JOIN LATERAL (
               SELECT number
                 FROM session_events
                WHERE user_id = event.user_id AND session_id = event.session_id
                  AND version = event.version
                ORDER BY number DESC
                LIMIT 1
               ) AS latest ON true
         WHERE coalesce(latest.number, 0) + event.place <= {EVENTS_PER_VERSION_MAX:d}
    """


def event_row(event: SessionEvent) -> dict[str, Any]:
    """The row of the first entry of a new version of a session."""
    return {**asdict(event), "session_id": str(event.session_id), "number": 1}
