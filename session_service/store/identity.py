"""Identity checks in the database: enrollments, the checks of sessions, and their history."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple, Protocol, TypeVar

import asyncpg

from chassis.batch import Item, Outcome, latest_deadline
from chassis.errors import ServiceError
from chassis.postgres import Connection, Database
from chassis.postgres.isolation import Locked
from chassis.postgres.keyed import Render, write_keyed
from chassis.postgres.rows import as_rows, from_row, names
from chassis.rpc.paging import Page
from session_service.domain.identity import (
    Enrollment,
    HashedAnswer,
    IdentityEvent,
    IdentityEventKind,
    IdentityQuestion,
)
from session_service.domain.ids import SessionId
from session_service.domain.sessions import Session, SessionKey
from session_service.domain.tests import Definition
from session_service.store.editions import EditionCache, EditionKey
from session_service.store.session_rows import LIVE, SESSION, SESSION_COLUMNS, session_from

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
class WantedEnrollment:
    """The questions that a learner enrolls."""

    questions: Sequence[IdentityQuestion]


class StoredEnrollment(NamedTuple):
    """An enrollment that was written, or the session that keeps it from being written."""

    enrollment: Enrollment | None
    blocking_session: SessionId | None


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

    async def put_enrollments(
        self, items: Sequence[Item[WantedEnrollment]], wait: bool
    ) -> list[StoredEnrollment | Locked]:
        """Replace each learner's questions, unless a session that still asks some of them is under way."""

        async def work(connection: Connection) -> list[StoredEnrollment | Locked]:
            learners = [{"user_id": user_id} for user_id in sorted({item.user_id for item in items})]
            await connection.execute(_MAKE_ENROLLMENTS, as_rows(learners))
            locked = await _lock_learners(connection, {item.user_id for item in items}, wait=wait)
            return [
                await _put(connection, item) if item.user_id in locked else Locked.HELD_BY_ANOTHER
                for item in items
            ]

        return await self._database.write(work, deadline=latest_deadline(items), name="put_enrollments")

    async def get_enrollments(self, user_ids: Collection[str], *, deadline: float) -> dict[str, Enrollment]:
        """The enrollments of these learners; absent for those who have not enrolled."""

        async def work(connection: Connection) -> dict[str, Enrollment]:
            return await _read_enrollments(connection, user_ids)

        return await self._database.read(work, deadline=deadline, name="get_enrollments")

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
            learners = await _lock_learners(connection, {key.user_id for key in keys}, wait=wait)
            return await _lock_sessions(
                connection, [key for key in keys if key.user_id in learners], wait=wait
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
        edition_keys = [EditionKey(row["test_id"], row["revision"]) for row in rows]
        editions = await self._editions.get(connection, set(edition_keys))
        events: dict[SessionKey, list[IdentityEvent]] = {}
        for row in await connection.fetch(_EVENTS_OF_WANTED, wanted):
            event = _event_from(row)
            events.setdefault(SessionKey(event.user_id, event.session_id), []).append(event)
        enrollments = await _read_enrollments(connection, {row["user_id"] for row in rows})
        facts: Facts = {}
        for row, edition_key in zip(rows, edition_keys, strict=True):
            session = session_from(row)
            facts[session.key] = CheckFacts(
                now=row["now"],
                session=session,
                definition=editions[edition_key].definition,
                enrollment=enrollments.get(session.user_id),
                events=events.get(session.key, ()),
                failures_today=row["failures_today"],
                tomorrow=row["tomorrow"],
            )
        return facts


def _key(item: Item[R]) -> SessionKey:
    return SessionKey(item.request.user_id, item.request.session_id)


async def _lock_learners(connection: Connection, user_ids: Collection[str], *, wait: bool) -> set[str]:
    """Lock the enrollments in the order of their learners; returns those that are locked."""
    learners = as_rows([{"user_id": user_id} for user_id in sorted(user_ids)])
    rows = await connection.fetch(_LOCK_LEARNERS if wait else _LOCK_FREE_LEARNERS, learners)
    return {row["user_id"] for row in rows}


async def _lock_sessions(
    connection: Connection, keys: Collection[SessionKey], *, wait: bool
) -> set[SessionKey]:
    ordered = as_rows([key._asdict() for key in sorted(keys)])
    rows = await connection.fetch(_LOCK_SESSIONS if wait else _LOCK_FREE_SESSIONS, ordered)
    return {SessionKey(row["user_id"], row["session_id"]) for row in rows}


async def _put(connection: Connection, item: Item[WantedEnrollment]) -> StoredEnrollment:
    blocking = await connection.fetchval(_BLOCKING_SESSION, item.user_id)
    if blocking is not None:
        return StoredEnrollment(None, blocking)
    row = await connection.fetchrow(_RENEW_ENROLLMENT, item.user_id, item.context.request_id[:255])
    if row is None:
        raise ValueError("the enrollment is locked, so it exists")
    questions = item.request.questions
    await connection.execute("DELETE FROM identity_questions WHERE user_id = $1", item.user_id)
    await connection.execute(
        _INSERT_QUESTIONS,
        item.user_id,
        as_rows(
            [
                {
                    "position": position,
                    "prompt": question.prompt,
                    "salt": question.answer.salt,
                    "digest": question.answer.digest,
                    "cost": question.answer.cost,
                }
                for position, question in enumerate(questions, 1)
            ]
        ),
    )
    return StoredEnrollment(Enrollment(item.user_id, row["version"], row["enrolled_at"], questions), None)


async def _read_enrollments(connection: Connection, user_ids: Collection[str]) -> dict[str, Enrollment]:
    learners = as_rows([{"user_id": user_id} for user_id in user_ids])
    found: dict[str, Enrollment] = {}
    for row in await connection.fetch(_READ_ENROLLMENTS, learners):
        user_id = row["user_id"]
        answer = HashedAnswer(row["salt"], row["digest"], row["cost"])
        earlier = found.get(user_id) or Enrollment(user_id, row["version"], row["enrolled_at"], ())
        found[user_id] = replace(
            earlier, questions=(*earlier.questions, IdentityQuestion(row["prompt"], answer))
        )
    return found


async def _write(connection: Connection, changes: IdentityChanges) -> None:
    if changes.sessions or changes.events:
        await connection.execute(_WRITE, as_rows(list(changes.sessions)), as_rows(list(changes.events)))


def _event_from(row: asyncpg.Record) -> IdentityEvent:
    return from_row(IdentityEvent, row, kind=IdentityEventKind(row["kind"]))


# A row without questions is a learner who is about to enroll.
_MAKE_ENROLLMENTS = """
    INSERT INTO identity_enrollments (user_id, version, enrolled_at, request_id)
    SELECT user_id, 1, clock_timestamp(), ''
      FROM json_to_recordset($1) AS learner (user_id text)
        ON CONFLICT DO NOTHING
"""

_LOCK_LEARNERS = """
    SELECT enrollment.user_id
      FROM json_to_recordset($1) AS wanted (user_id text)
     CROSS JOIN LATERAL (
           SELECT user_id
             FROM identity_enrollments
            WHERE user_id = wanted.user_id
            LIMIT 1
              FOR NO KEY UPDATE
           ) AS enrollment
"""
_LOCK_FREE_LEARNERS = _LOCK_LEARNERS.replace("NO KEY UPDATE", "NO KEY UPDATE SKIP LOCKED")

_LOCK_SESSIONS = """
    SELECT session.user_id, session.session_id
      FROM json_to_recordset($1) AS wanted (user_id text, session_id uuid)
     CROSS JOIN LATERAL (
           SELECT user_id, session_id
             FROM sessions
            WHERE user_id = wanted.user_id AND session_id = wanted.session_id
            LIMIT 1
              FOR NO KEY UPDATE
           ) AS session
"""
_LOCK_FREE_SESSIONS = _LOCK_SESSIONS.replace("NO KEY UPDATE", "NO KEY UPDATE SKIP LOCKED")

_BLOCKING_SESSION = f"""
    SELECT session_id
      FROM sessions
     WHERE user_id = $1 AND {LIVE} AND identity_due_seconds IS NOT NULL
       AND (deadline_at IS NULL OR deadline_at > clock_timestamp())
     ORDER BY session_id
     LIMIT 1
"""

_RENEW_ENROLLMENT = """
    UPDATE identity_enrollments
       SET version = version + EXISTS (SELECT 1 FROM identity_questions WHERE user_id = $1)::integer,
           enrolled_at = clock_timestamp(), request_id = $2
     WHERE user_id = $1
    RETURNING version, enrolled_at
"""

_INSERT_QUESTIONS = """
    INSERT INTO identity_questions (user_id, position, prompt, salt, digest, cost)
    SELECT $1, position, prompt, salt, digest, cost
      FROM json_to_recordset($2)
           AS question (position integer, prompt text, salt bytea, digest bytea, cost text)
"""

_READ_ENROLLMENTS = """
    SELECT enrollment.user_id, enrollment.version, enrollment.enrolled_at,
           question.prompt, question.salt, question.digest, question.cost
      FROM json_to_recordset($1) AS wanted (user_id text)
     CROSS JOIN LATERAL (
           SELECT user_id, version, enrolled_at
             FROM identity_enrollments
            WHERE user_id = wanted.user_id
            LIMIT 1
           ) AS enrollment
     CROSS JOIN LATERAL (
           SELECT position, prompt, salt, digest, cost
             FROM identity_questions
            WHERE user_id = wanted.user_id
            ORDER BY position
            LIMIT 10
           ) AS question
     ORDER BY enrollment.user_id, question.position
"""

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
