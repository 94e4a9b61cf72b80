"""Changes of sessions that exist: lock, read, decide, write, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple, TypeVar

from chassis import failpoints
from chassis.batch import Item
from chassis.frozen import quick
from chassis.postgres import PATIENCE, Connection, Database
from chassis.postgres.idempotency import (
    COMPLETED_CALL,
    STORED_COLUMNS,
    STORED_OF_WANTED,
    CompletedCall,
    StoredResponse,
    claim_from,
    claim_order,
    claim_rows,
    stored_from,
)
from chassis.postgres.outbox import APPEND_ROWS, OutboxEvent, append_from, append_rows
from chassis.postgres.rows import RowType, names
from session_service.domain.sessions import (
    GivenAnswer,
    LatestAnswer,
    Session,
    SessionKey,
    SessionRequest,
    session_of,
)
from session_service.domain.tests import Edition
from session_service.domain.timeline import SessionEvent
from session_service.store.editions import EditionCache, edition_key
from session_service.store.event_rows import append_events_from, event_rows
from session_service.store.session_rows import (
    ANSWER,
    CHANGED,
    CHANGED_COLUMNS,
    SESSION,
    SESSION_COLUMNS,
    session_from,
)


@dataclass(frozen=True, slots=True)
class LockedSession:
    """A session under its lock at `now`, by the database's clock, with what it asks."""

    now: datetime
    session: Session
    edition: Edition


@quick
@dataclass(frozen=True, slots=True)
class ChangeFacts:
    """What is known of one request under the lock, at `now`, by the database's clock.

    `key` names the session that the request is about. `session` is None when the learner has no such session.
    `locked` says whether it may be changed: without `wait` another transaction may hold it. `row_version`
    names the version of the session's row.
    """

    key: SessionKey
    now: datetime
    stored: StoredResponse | None
    session: Session | None
    locked: bool
    edition: Edition | None
    latest_answer: LatestAnswer | None
    row_version: str | None


@quick
@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be written: sessions as they are now, and what is new besides them."""

    sessions: Collection[Session] = ()
    answers: Collection[GivenAnswer] = ()
    calls: Collection[CompletedCall] = ()
    events: Collection[OutboxEvent] = ()
    timeline: Collection[SessionEvent] = ()

    def single_answer(self) -> tuple[Session, GivenAnswer, CompletedCall] | None:
        """The session, the answer and its call if that is all; None if there is more, or less."""
        counts = {len(self.sessions), len(self.answers), len(self.calls)}
        if counts != {1} or self.events or self.timeline:
            return None
        (session,), (answer,), (call,) = self.sessions, self.answers, self.calls
        return session, answer, call

    def __bool__(self) -> bool:
        return bool(self.sessions or self.answers or self.calls or self.events or self.timeline)


class KeyedAnswer(NamedTuple):
    """An answer, its session after it and the version of that row before, and the call that brought it."""

    row_version: str
    session: Session
    answer: GivenAnswer
    call: CompletedCall


T = TypeVar("T")
R = TypeVar("R", bound=SessionRequest)


class ChangeStore:
    """Changes whole batches of sessions."""

    def __init__(self, *, database: Database, editions: EditionCache) -> None:
        self._database = database
        self._editions = editions

    async def change_sessions(
        self,
        items: Sequence[Item[R]],
        decide: Callable[[list[ChangeFacts]], tuple[T, Changes]],
        *,
        wait: bool,
        deadline: float,
    ) -> T:
        """Lock the sessions, ask `decide` with the facts of each request in their order, write what it says.

        `decide` is asked again when the transaction is repeated. With `wait` a session that stays locked by
        another transaction raises LockTimeout; without, it is passed over. A key that is in use raises
        ConstraintViolation of `idempotency_keys_once`.
        """
        keys = [session_of(item.request, item.user_id) for item in items]

        async def work(connection: Connection) -> T:
            locked = await lock_sessions(connection, set(keys), wait=wait)
            facts = await self._read(connection, items, keys, locked=locked)
            result, changes = decide(facts)
            if changes:
                await write_changes(connection, changes)
                await failpoints.hit_async("session.before_changes_committed")
            return result

        result = await self._database.write(work, deadline=deadline, name="change_sessions")
        await failpoints.hit_async("session.after_changes_committed")
        return result

    async def read_facts(self, items: Sequence[Item[R]], *, deadline: float) -> list[ChangeFacts]:
        """What is known of each request, at one moment, without a lock; `write_answers` takes its place."""
        keys = [session_of(item.request, item.user_id) for item in items]

        async def work(connection: Connection) -> list[ChangeFacts]:
            return await self._read(connection, items, keys, locked=None)

        return await self._database.read(work, deadline=deadline, name="read_changes")

    async def write_answers(
        self, answers: Mapping[SessionKey, KeyedAnswer], *, deadline: float
    ) -> set[SessionKey]:
        """Write an answer to each of those sessions that nobody else holds, or has changed; returns them.

        One statement, which waits for no session. Each key is claimed for the learner of its session, who is
        the caller. A key that is in use raises ConstraintViolation of `idempotency_keys_once`.
        """
        await failpoints.hit_async("session.before_changes_committed")
        rows = await self._database.execute_write(
            _WRITE_ANSWERS,
            [
                (
                    *_session_part(each.session),
                    each.row_version,
                    *_answer_part(each.answer),
                    *_call_part(each.call),
                )
                for each in sorted(answers.values(), key=lambda each: claim_order(each.call))
            ],
            deadline=deadline,
            name="write_answers",
        )
        await failpoints.hit_async("session.after_changes_committed")
        return set(answers) if len(rows) == len(answers) else {SessionKey(*row) for row in rows}

    async def change_free_sessions(
        self, keys: Sequence[SessionKey], decide: Callable[[LockedSession], Changes], *, deadline: float
    ) -> list[Session]:
        """Change those of these sessions that no other transaction holds; returns the changed ones."""

        async def work(connection: Connection) -> list[Session]:
            locked = await lock_sessions(connection, set(keys), wait=False)
            if not locked:
                return []
            rows = await connection.fetch(_READ_LOCKED, sorted(locked))
            editions = await self._editions.get(connection, set(map(edition_key, rows)))
            decided = [
                decide(LockedSession(row["now"], session_from(row), editions[edition_key(row)]))
                for row in rows
            ]
            changes = Changes(
                sessions=[session for each in decided for session in each.sessions],
                events=[event for each in decided for event in each.events],
                timeline=[event for each in decided for event in each.timeline],
            )
            if changes:
                await write_changes(connection, changes)
            return list(changes.sessions)

        return await self._database.write(work, deadline=deadline, name="change_free_sessions")

    async def _read(
        self,
        connection: Connection,
        items: Sequence[Item[R]],
        sessions: Sequence[SessionKey],
        *,
        locked: Collection[SessionKey] | None,
    ) -> list[ChangeFacts]:
        """What is known of each request; without locks (None), each session may be changed."""
        wanted = [
            (context.user_id, context.method, context.idempotency_key, *session, request.question_id)
            for (context, request, _), session in zip(items, sessions, strict=True)
        ]
        rows = await connection.fetch(_READ_FACTS, wanted)
        keys = [None if row["session_id"] is None else edition_key(row) for row in rows]
        editions = await self._editions.get(connection, {key for key in keys if key is not None})
        return [
            ChangeFacts(
                session,
                row["now"],
                stored_from(row),
                None if key is None else session_from(row),
                locked is None or session in locked,
                None if key is None else editions[key],
                None
                if row["answer_attempt"] is None
                else LatestAnswer(row["answer_attempt"], row["answer_correct"]),
                row["row_version"],
            )
            for session, row, key in zip(sessions, rows, keys, strict=True)
        ]


async def lock_sessions(
    connection: Connection, keys: Collection[SessionKey], *, wait: bool
) -> set[SessionKey]:
    """Lock the rows; returns those that are locked.

    One order for all batches, so that no two batches wait for each other in a circle.
    """
    rows = await connection.fetch(_LOCK_SESSIONS if wait else _LOCK_FREE_SESSIONS, sorted(keys))
    return {SessionKey(row["user_id"], row["session_id"]) for row in rows}


async def write_changes(connection: Connection, changes: Changes) -> None:
    """Write all of it in one statement; the sessions are locked."""
    await connection.execute(
        _WRITE,
        claim_rows(changes.calls),
        CHANGED.values(changes.sessions),
        ANSWER.values(changes.answers),
        append_rows(changes.events),
        event_rows(changes.timeline),
    )


_KEY = RowType("session_key", "user_id text, session_id uuid")
# The columns of `keyed_answer`, in their order: session, version of its row before, answer, call.
_OF_SESSION = (
    "user_id text, session_id uuid, answered integer, solved integer, answers_given integer, "
    "answers_correct integer, version integer"
)
_OF_ANSWER = (
    "question_id text, attempt integer, choice text, correct boolean, occurred_at timestamptz, "
    "answered_at timestamptz, occurred_at_clamped boolean, request_id text, trace_id text"
)
_OF_CALL = "method text, key text, fingerprint bytea, response bytea, traceparent text, content text"
_ANSWERED = RowType("keyed_answer", f"{_OF_SESSION}, row_version text, {_OF_ANSWER}, {_OF_CALL}")
_session_part, _answer_part, _call_part = (
    attrgetter(*names(part).split(", ")) for part in (_OF_SESSION, _OF_ANSWER, _OF_CALL)
)
_WANTED = RowType(
    "wanted_change",
    "user_id text, method text, key text, learner_id text, session_id uuid, question_id text",
)

# The LIMIT makes each lookup one probe of the primary key, in the order of the rows, whatever plan was made
# when the table was small. NO KEY: answers, which refer to the session, may be inserted meanwhile.
_LOCK_SESSIONS = f"""
    SELECT session.user_id, session.session_id
      FROM {_KEY.unnest(1)} AS wanted
     CROSS JOIN LATERAL (
           SELECT user_id, session_id
             FROM sessions
            WHERE user_id = wanted.user_id AND session_id = wanted.session_id
            LIMIT 1
              FOR NO KEY UPDATE
           ) AS session
"""
_LOCK_FREE_SESSIONS = _LOCK_SESSIONS.replace("NO KEY UPDATE", "NO KEY UPDATE SKIP LOCKED")

_SESSION_OF_WANTED = f"""
    LEFT JOIN LATERAL (
         SELECT {SESSION_COLUMNS}, xmin::text AS row_version
           FROM sessions
          WHERE user_id = wanted.learner_id AND session_id = wanted.session_id
          LIMIT 1
         ) AS session ON true
"""

_READ_LOCKED = f"""
    SELECT clock_timestamp() AS now, {names(SESSION, of="session")}
      FROM {_KEY.unnest(1)} AS locked
     CROSS JOIN LATERAL (SELECT locked.user_id AS learner_id, locked.session_id) AS wanted
    {_SESSION_OF_WANTED}
"""

_READ_FACTS = f"""
    SELECT clock_timestamp() AS now, {STORED_COLUMNS}, {names(SESSION, of="session")}, session.row_version,
           answer.attempt AS answer_attempt, answer.correct AS answer_correct
      FROM {_WANTED.unnest(1)} WITH ORDINALITY AS wanted ({names(_WANTED.columns)}, place)
    {STORED_OF_WANTED}
    {_SESSION_OF_WANTED}
      LEFT JOIN LATERAL (
           SELECT attempt, correct
             FROM answers
            WHERE user_id = wanted.learner_id AND session_id = wanted.session_id
              AND question_id = wanted.question_id
            ORDER BY attempt DESC
            LIMIT 1
           ) AS answer ON true
     ORDER BY wanted.place
"""

_WRITE = f"""
    WITH claimed AS (
        {claim_from(COMPLETED_CALL.unnest(1))}
    ), changed AS (
        UPDATE sessions
           SET {", ".join(f"{column} = new.{column}" for column in CHANGED_COLUMNS)}
          FROM {CHANGED.unnest(2)} AS new
         WHERE sessions.user_id = new.user_id AND sessions.session_id = new.session_id
    ), given AS (
        INSERT INTO answers ({names(ANSWER.columns)})
        SELECT {names(ANSWER.columns)}
          FROM {ANSWER.unnest(3)} AS answer
    ), told AS (
        {append_events_from("json_to_recordset($5)")}
    )
    {append_from(f"json_to_recordset($4) {APPEND_ROWS}")}
"""

# A session is passed over if its row is not the version that was read, or if somebody holds it. Every change
# of a row makes a new version, with the id of its transaction in `xmin` (PostgreSQL 18, 5.6). The lock is
# taken on the newest version, also if that is newer than the statement's snapshot.
#
# Every version is within the bounds of BETWEEN, which lets the planner expect a single row. So it looks each
# session up through an index; a plan that was made when the table was small would read all of it later. The
# change finds the row by ctid, which cannot change while the row is locked, and searches no index again.
_WRITE_ANSWERS = f"""
    WITH {PATIENCE}, free AS MATERIALIZED (
        SELECT {names(_ANSWERED.columns, of="answered")}, session.place
          FROM {_ANSWERED.unnest(1)} AS answered
         CROSS JOIN patience
         CROSS JOIN LATERAL (
               SELECT ctid AS place
                 FROM sessions
                WHERE user_id = answered.user_id AND session_id = answered.session_id
                  AND xmin::text = answered.row_version AND patience.lock_timeout IS NOT NULL
                LIMIT 1
                  FOR NO KEY UPDATE SKIP LOCKED
               ) AS session
         WHERE answered.version BETWEEN 1 AND 2147483647
    ), claimed AS (
        {claim_from("free")}
    ), changed AS (
        UPDATE sessions
           SET answered = free.answered, solved = free.solved, answers_given = free.answers_given,
               answers_correct = free.answers_correct, last_answer_at = free.answered_at,
               version = free.version
          FROM free
         WHERE sessions.user_id = free.user_id AND sessions.session_id = free.session_id
           AND sessions.ctid = free.place
    ), given AS (
        INSERT INTO answers ({names(ANSWER.columns)})
        SELECT {names(ANSWER.columns)}
          FROM free
    )
    SELECT user_id, session_id
      FROM free
"""
