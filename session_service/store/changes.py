"""Changes of sessions that exist: lock, read, decide, write, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, TypeVar

from chassis.postgres.idempotency import CompletedCall, StoredResponse
from chassis.postgres.outbox import OutboxEvent
from chassis.postgres import Connection, Database
from session_service.domain.ids import SessionId
from session_service.domain.sessions import GivenAnswer, LatestAnswer, Session
from session_service.domain.tests import Edition
from session_service.store.editions import EditionCache, EditionKey
from session_service.store.rows import session_from, stored_from


class SessionKey(NamedTuple):
    user_id: str
    session_id: SessionId


class WantedChange(NamedTuple):
    """One request: the session that it would change, its key (or none), the question it names (or none)."""

    session: SessionKey
    method: str
    key: str
    question_id: str


@dataclass(frozen=True, slots=True)
class ChangeFacts:
    """What is known of one request under the lock, at `now`, by the database's clock.

    `session` is None when the learner has no such session. `locked` tells whether it may be changed:
    without `wait` somebody else may have it.
    """

    now: datetime
    stored: StoredResponse | None
    session: Session | None
    locked: bool
    edition: Edition | None
    latest_answer: LatestAnswer | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be written: sessions as they are now, and what is new besides them."""

    sessions: Collection[Session] = ()
    answers: Collection[GivenAnswer] = ()
    calls: Collection[CompletedCall] = ()
    events: Collection[OutboxEvent] = ()

    def __bool__(self) -> bool:
        return bool(self.sessions or self.answers or self.calls or self.events)


T = TypeVar("T")
Decide = Callable[[list[ChangeFacts]], tuple[T, Changes]]


class ChangeStore:
    """Changes whole batches of sessions."""

    def __init__(self, *, database: Database, editions: EditionCache) -> None:
        self._database = database
        self._editions = editions

    async def change_sessions(
        self, wanted: Sequence[WantedChange], decide: Decide[T], *, wait: bool, deadline: float
    ) -> T:
        """Lock the sessions, ask `decide` with the facts of each request in their order, write what it says.

        `decide` may be asked again when the transaction is. With `wait` a session that stays locked elsewhere
        raises LockTimeout; without, it is passed over. A key that is in use raises ConstraintViolation of
        `idempotency_keys_once`.
        """

        async def work(connection: Connection) -> T:
            locked = await _lock(connection, {each.session for each in wanted}, wait=wait)
            facts = await self._read(connection, wanted, locked)
            result, changes = decide(facts)
            if changes:
                await _write(connection, changes)
            return result

        return await self._database.write(work, deadline=deadline, name="change_sessions")

    async def _read(
        self, connection: Connection, wanted: Sequence[WantedChange], locked: Collection[SessionKey]
    ) -> list[ChangeFacts]:
        rows = await connection.fetch(
            """
            SELECT clock_timestamp() AS now,
                   stored.state AS stored_state, stored.fingerprint AS stored_fingerprint,
                   stored.response AS stored_response, stored.traceparent AS stored_traceparent,
                   tests.content_version,
                   session.user_id, session.session_id, session.hold_id, session.test_id, session.revision,
                   session.attempt, session.state, session.title, session.kind, session.difficulty,
                   session.metadata, session.total, session.answered, session.solved, session.answers_given,
                   session.answers_correct, session.version, session.started_at, session.deadline_at,
                   session.last_answer_at, session.submitted_at, session.closed_at, session.close_reason,
                   session.score, session.passed,
                   answer.attempt AS answer_attempt, answer.correct AS answer_correct
              FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[])
                   WITH ORDINALITY AS wanted (user_id, session_id, method, key, question_id, place)
              LEFT JOIN LATERAL (
                   SELECT state, fingerprint, response, traceparent
                     FROM idempotency_keys
                    WHERE user_id = wanted.user_id AND method = wanted.method AND key = wanted.key
                    LIMIT 1
                   ) AS stored ON true
              LEFT JOIN LATERAL (
                   SELECT user_id, session_id, hold_id, test_id, revision, attempt, state, title, kind,
                          difficulty, metadata, total, answered, solved, answers_given, answers_correct,
                          version, started_at, deadline_at, last_answer_at, submitted_at, closed_at,
                          close_reason, score, passed
                     FROM sessions
                    WHERE user_id = wanted.user_id AND session_id = wanted.session_id
                    LIMIT 1
                   ) AS session ON true
              LEFT JOIN tests ON tests.test_id = session.test_id
              LEFT JOIN LATERAL (
                   SELECT attempt, correct
                     FROM answers
                    WHERE user_id = wanted.user_id AND session_id = wanted.session_id
                      AND question_id = wanted.question_id
                    ORDER BY attempt DESC
                    LIMIT 1
                   ) AS answer ON true
             ORDER BY wanted.place
            """,
            [each.session.user_id for each in wanted],
            [each.session.session_id for each in wanted],
            [each.method for each in wanted],
            [each.key for each in wanted],
            [each.question_id for each in wanted],
        )
        keys = [
            None
            if row["session_id"] is None
            else EditionKey(row["test_id"], row["revision"], row["content_version"])
            for row in rows
        ]
        editions = await self._editions.get(connection, {key for key in keys if key is not None})
        return [
            ChangeFacts(
                now=row["now"],
                stored=stored_from(row),
                session=None if key is None else session_from(row),
                locked=each.session in locked,
                edition=None if key is None else editions[key],
                latest_answer=None
                if row["answer_attempt"] is None
                else LatestAnswer(row["answer_attempt"], row["answer_correct"]),
            )
            for each, row, key in zip(wanted, rows, keys, strict=True)
        ]


async def _lock(connection: Connection, sessions: Collection[SessionKey], *, wait: bool) -> set[SessionKey]:
    """Lock the rows in order, so that no two batches wait for each other in a circle; returns the locked."""
    ordered = sorted(sessions)
    rows = await connection.fetch(
        _LOCK_SESSIONS if wait else _LOCK_FREE_SESSIONS,
        [session.user_id for session in ordered],
        [session.session_id for session in ordered],
    )
    return {SessionKey(row["user_id"], row["session_id"]) for row in rows}


# The LIMIT makes each lookup one probe of the primary key, in the order of the arrays, whatever plan was made
# when the table was small. NO KEY: answers, which refer to the session, may be inserted meanwhile.
_LOCK_SESSIONS = """
    SELECT session.user_id, session.session_id
      FROM unnest($1::text[], $2::uuid[]) AS wanted (user_id, session_id)
     CROSS JOIN LATERAL (
           SELECT user_id, session_id
             FROM sessions
            WHERE user_id = wanted.user_id AND session_id = wanted.session_id
            LIMIT 1
              FOR NO KEY UPDATE
           ) AS session
"""
_LOCK_FREE_SESSIONS = _LOCK_SESSIONS.replace("NO KEY UPDATE", "NO KEY UPDATE SKIP LOCKED")


async def _write(connection: Connection, changes: Changes) -> None:
    calls = sorted(changes.calls, key=lambda call: call.claim)  # one order for all batches: no deadlock
    events = sorted(changes.events, key=lambda event: (event.user_id, event.event_id))
    sessions, answers = changes.sessions, changes.answers
    await connection.execute(
        """
        WITH claimed AS (
            INSERT INTO idempotency_keys (user_id, method, key, state, fingerprint, response, traceparent)
            SELECT user_id, method, key, 'completed', fingerprint, response, traceparent
              FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::bytea[], $6::text[])
                   AS call (user_id, method, key, fingerprint, response, traceparent)
        ), changed AS (
            UPDATE sessions
               SET state = new.state, answered = new.answered, solved = new.solved,
                   answers_given = new.answers_given, answers_correct = new.answers_correct,
                   version = new.version, last_answer_at = new.last_answer_at,
                   submitted_at = new.submitted_at, closed_at = new.closed_at,
                   close_reason = new.close_reason, score = new.score, passed = new.passed
              FROM unnest(
                       $7::text[], $8::uuid[], $9::text[], $10::integer[], $11::integer[], $12::integer[],
                       $13::integer[], $14::integer[], $15::timestamptz[], $16::timestamptz[],
                       $17::timestamptz[], $18::text[], $19::double precision[], $20::boolean[]
                   ) AS new (
                       user_id, session_id, state, answered, solved, answers_given, answers_correct, version,
                       last_answer_at, submitted_at, closed_at, close_reason, score, passed
                   )
             WHERE sessions.user_id = new.user_id AND sessions.session_id = new.session_id
        ), given AS (
            INSERT INTO answers (
                user_id, session_id, question_id, attempt, choice, correct, occurred_at, answered_at
            )
            SELECT user_id, session_id, question_id, attempt, choice, correct, occurred_at, answered_at
              FROM unnest(
                       $21::text[], $22::uuid[], $23::text[], $24::integer[], $25::text[], $26::boolean[],
                       $27::timestamptz[], $28::timestamptz[]
                   ) AS answer (
                       user_id, session_id, question_id, attempt, choice, correct, occurred_at, answered_at
                   )
        )
        INSERT INTO outbox (user_id, event_id, topic, payload, traceparent)
        SELECT user_id, event_id, topic, payload, traceparent
          FROM unnest($29::text[], $30::uuid[], $31::text[], $32::bytea[], $33::text[])
               AS event (user_id, event_id, topic, payload, traceparent)
            ON CONFLICT DO NOTHING
        """,
        [call.claim.user_id for call in calls],
        [call.claim.method for call in calls],
        [call.claim.key for call in calls],
        [call.fingerprint for call in calls],
        [call.response for call in calls],
        [call.traceparent for call in calls],
        [session.user_id for session in sessions],
        [session.session_id for session in sessions],
        [session.state for session in sessions],
        [session.answered for session in sessions],
        [session.solved for session in sessions],
        [session.answers_given for session in sessions],
        [session.answers_correct for session in sessions],
        [session.version for session in sessions],
        [session.last_answer_at for session in sessions],
        [session.submitted_at for session in sessions],
        [session.closed_at for session in sessions],
        [session.close_reason for session in sessions],
        [session.score for session in sessions],
        [session.passed for session in sessions],
        [answer.user_id for answer in answers],
        [answer.session_id for answer in answers],
        [answer.question_id for answer in answers],
        [answer.attempt for answer in answers],
        [answer.choice for answer in answers],
        [answer.correct for answer in answers],
        [answer.occurred_at for answer in answers],
        [answer.answered_at for answer in answers],
        [event.user_id for event in events],
        [event.event_id for event in events],
        [event.topic for event in events],
        [event.payload for event in events],
        [event.traceparent for event in events],
    )
