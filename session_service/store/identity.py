"""Identity checks in the database: those of sessions, and their history."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

import asyncpg

from chassis.batch import Item, Outcome
from chassis.errors import ServiceError
from chassis.postgres import Connection, Database
from chassis.postgres.isolation import Locked
from chassis.postgres.keyed import Render, write_keyed
from chassis.postgres.rows import as_rows, from_row, names
from chassis.rpc.paging import Page
from session_service.domain.identity import Enrollment, IdentityEvent, IdentityEventKind
from session_service.domain.ids import SessionId
from session_service.domain.sessions import Session, SessionKey
from session_service.domain.tests import Definition
from session_service.store.changes import lock_sessions
from session_service.store.editions import EditionCache, edition_key
from session_service.store.enrollments import held_by_another, read_enrollments
from session_service.store.session_rows import SESSION, SESSION_COLUMNS, session_from

IDENTITY_EVENT = """
    user_id text, session_id uuid, check_number integer, step integer, kind text, by_user text, reason text,
    request_id text, recorded_at timestamptz
"""
IDENTITY_EVENT_COLUMNS = names(IDENTITY_EVENT)


class SessionRequest(Protocol):
    """A request about the identity checks of a session; `user_id` is whose session it is."""

    @property
    def user_id(self) -> str: ...

    @property
    def session_id(self) -> SessionId: ...


@dataclass(frozen=True, slots=True)
class CheckFacts:
    """What is known of the checks of a session at `now`, by the database's clock."""

    now: datetime
    session: Session
    definition: Definition
    enrollment: Enrollment | None
    events: Sequence[IdentityEvent]
    failures_today: int
    """The learner's wrong answers of this UTC day, over all sessions."""
    tomorrow: datetime


@dataclass(frozen=True, slots=True)
class IdentityChanges:
    """Sessions whose checks have changed, and what happened to them."""

    sessions: Collection[Session] = ()
    events: Collection[IdentityEvent] = ()


V = TypeVar("V")
R = TypeVar("R", bound=SessionRequest)
Facts = dict[SessionKey, CheckFacts]
Decide = Callable[[Facts, Sequence[Item[R]]], tuple[list[V | ServiceError], IdentityChanges]]


class IdentityStore:
    """Reads and writes whole batches.

    The row of the learner's enrollment is locked before the sessions, so that the wrong answers of a day are
    counted one after the other, over all sessions of the learner.
    """

    def __init__(self, *, database: Database, editions: EditionCache) -> None:
        self._database = database
        self._editions = editions

    async def read_checks(self, keys: Collection[SessionKey], *, deadline: float) -> Facts:
        """What is known of these sessions, without locks; absent for sessions that do not exist."""

        async def work(connection: Connection) -> Facts:
            return await self._read(connection, keys)

        return await self._database.read(work, deadline=deadline, name="read_identity_checks")

    async def change_checks(
        self, items: Sequence[Item[R]], decide: Decide[R, V], *, render: Render[V], wait: bool
    ) -> list[Outcome | Locked]:
        """Lock the learners and their sessions, ask `decide` about the new requests, write what it says.

        What `decide` changes is also written for requests that it refuses.
        """

        async def lock(connection: Connection, items: Sequence[Item[R]]) -> set[SessionKey]:
            keys = {_key(item) for item in items}
            held = await held_by_another(connection, {key.user_id for key in keys}, wait=wait)
            return await lock_sessions(
                connection, {key for key in keys if key.user_id not in held}, wait=wait
            )

        async def change(
            connection: Connection, locked: set[SessionKey], items: Sequence[Item[R]]
        ) -> list[V | ServiceError | Locked]:
            facts = await self._read(connection, {_key(item) for item in items})
            ours = [item for item in items if _key(item) in locked or _key(item) not in facts]
            results, changes = decide(facts, ours)
            await _write(connection, changes)
            decided = iter(results)
            return [
                next(decided) if _key(item) in locked or _key(item) not in facts else Locked.HELD_BY_ANOTHER
                for item in items
            ]

        return await write_keyed(
            self._database, items, lock=lock, change=change, render=render, name="change_identity_checks"
        )

    async def list_events(self, item: Item[SessionKey], page: Page) -> list[IdentityEvent]:
        """What happened to the checks of a session, in order; nothing for a session that does not exist."""
        number, step = page.after or (0, 0)

        async def work(connection: Connection) -> list[IdentityEvent]:
            rows = await connection.fetch(_LIST_EVENTS, *item.request, number, step, page.limit)
            return [_event_from(row) for row in rows]

        return await self._database.read(work, deadline=item.deadline, name="list_identity_events")

    async def _read(self, connection: Connection, keys: Collection[SessionKey]) -> Facts:
        wanted = as_rows([key._asdict() for key in keys])
        rows = await connection.fetch(_READ_CHECKS, wanted)
        if not rows:
            return {}
        asked = list(map(edition_key, rows))
        editions = await self._editions.get(connection, set(asked))
        events: dict[SessionKey, list[IdentityEvent]] = {}
        for row in await connection.fetch(_EVENTS_OF_WANTED, wanted):
            event = _event_from(row)
            events.setdefault(SessionKey(event.user_id, event.session_id), []).append(event)
        enrollments = await read_enrollments(connection, {row["user_id"] for row in rows})
        facts: Facts = {}
        for row, key in zip(rows, asked, strict=True):
            session = session_from(row)
            facts[session.key] = CheckFacts(
                now=row["now"],
                session=session,
                definition=editions[key].definition,
                enrollment=enrollments.get(session.user_id),
                events=events.get(session.key, ()),
                failures_today=row["failures_today"],
                tomorrow=row["tomorrow"],
            )
        return facts


def _key(item: Item[R]) -> SessionKey:
    return SessionKey(item.request.user_id, item.request.session_id)


async def _write(connection: Connection, changes: IdentityChanges) -> None:
    if changes.sessions or changes.events:
        await connection.execute(_WRITE, as_rows(list(changes.sessions)), as_rows(list(changes.events)))


def _event_from(row: asyncpg.Record) -> IdentityEvent:
    return from_row(IdentityEvent, row, kind=IdentityEventKind(row["kind"]))


_READ_CHECKS = f"""
    SELECT clock_timestamp() AS now, {names(SESSION, of="session")},
           (date_trunc('day', clock_timestamp() AT TIME ZONE 'utc') + interval '1 day') AT TIME ZONE 'utc'
               AS tomorrow,
           (
           SELECT count(*)::integer
             FROM identity_events
            WHERE user_id = wanted.user_id AND kind = 'failed'
              AND recorded_at >= date_trunc('day', clock_timestamp() AT TIME ZONE 'utc') AT TIME ZONE 'utc'
           ) AS failures_today
      FROM json_to_recordset($1) AS wanted (user_id text, session_id uuid)
     CROSS JOIN LATERAL (
           SELECT {SESSION_COLUMNS}
             FROM sessions
            WHERE user_id = wanted.user_id AND session_id = wanted.session_id
            LIMIT 1
           ) AS session
"""

# A session asks at most 20 checks; each release adds one.
_EVENTS_OF_WANTED = f"""
    SELECT {names(IDENTITY_EVENT, of="event")}
      FROM json_to_recordset($1) AS wanted (user_id text, session_id uuid)
     CROSS JOIN LATERAL (
           SELECT {IDENTITY_EVENT_COLUMNS}
             FROM identity_events
            WHERE user_id = wanted.user_id AND session_id = wanted.session_id
           ) AS event
     ORDER BY event.user_id, event.session_id, event.check_number, event.step
"""

_LIST_EVENTS = f"""
    SELECT {IDENTITY_EVENT_COLUMNS}
      FROM identity_events
     WHERE user_id = $1 AND session_id = $2 AND (check_number, step) > ($3, $4)
     ORDER BY check_number, step
     LIMIT $5
"""

_WRITE = f"""
    WITH changed AS (
        UPDATE sessions
           SET identity_due_seconds = new.identity_due_seconds,
               identity_lapse_seconds = new.identity_lapse_seconds,
               identity_locked_at = new.identity_locked_at
          FROM json_to_recordset($1) AS new (
                   user_id text, session_id uuid, identity_due_seconds double precision,
                   identity_lapse_seconds double precision, identity_locked_at timestamptz
               )
         WHERE sessions.user_id = new.user_id AND sessions.session_id = new.session_id
    )
    INSERT INTO identity_events ({IDENTITY_EVENT_COLUMNS})
    SELECT {IDENTITY_EVENT_COLUMNS}
      FROM json_to_recordset($2) AS event ({IDENTITY_EVENT})
"""
