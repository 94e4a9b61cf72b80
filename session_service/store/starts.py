"""What is known when sessions are to start, and the one statement that starts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import asyncpg

from chassis.postgres.idempotency import CompletedCall, StoredResponse
from chassis.postgres.outbox import OutboxEvent
from chassis.postgres import Connection, Database
from session_service.domain.sessions import Session
from session_service.domain.tests import Edition
from session_service.store.editions import EditionCache, EditionKey
from session_service.store.rows import metadata_text, session_from, stored_from

# For a statement of its own, as SET LOCAL is for a transaction of several.
LOCK_TIMEOUT = "250ms"


class WantedStart(NamedTuple):
    user_id: str
    key: str
    test_id: str


@dataclass(frozen=True, slots=True)
class StartFacts:
    """What was known of a start at `now`, by the database's clock.

    `latest` is the learner's last session of this test, the only one that can be live. `edition` is that of
    the live session if there is one, else the test as it is now; None when there is no such test, and when
    the key has an answer already.
    """

    now: datetime
    stored: StoredResponse | None
    latest: Session | None
    edition: Edition | None


class StartStore:
    """Reads and writes whole batches of starts."""

    def __init__(self, *, database: Database, editions: EditionCache) -> None:
        self._database = database
        self._editions = editions

    async def read_facts(
        self, method: str, wanted: Sequence[WantedStart], *, deadline: float
    ) -> list[StartFacts]:
        """What is known of each start, in their order, all at one moment."""

        async def work(connection: Connection) -> list[StartFacts]:
            rows = await connection.fetch(
                """
                SELECT now() AS now,
                       stored.state AS stored_state, stored.fingerprint AS stored_fingerprint,
                       stored.response AS stored_response, stored.traceparent AS stored_traceparent,
                       wanted.test_id AS wanted_test_id,
                       tests.revision AS current_revision, tests.content_version,
                       latest.user_id, latest.session_id, latest.hold_id, latest.test_id, latest.revision,
                       latest.attempt, latest.state, latest.title, latest.kind, latest.difficulty,
                       latest.metadata, latest.total, latest.answered, latest.solved, latest.answers_given,
                       latest.answers_correct, latest.version, latest.started_at, latest.deadline_at,
                       latest.last_answer_at, latest.submitted_at, latest.closed_at, latest.close_reason,
                       latest.score, latest.passed
                  FROM unnest($2::text[], $3::text[], $4::text[])
                       WITH ORDINALITY AS wanted (user_id, key, test_id, place)
                  LEFT JOIN LATERAL (
                       SELECT state, fingerprint, response, traceparent
                         FROM idempotency_keys
                        WHERE user_id = wanted.user_id AND method = $1 AND key = wanted.key
                        LIMIT 1
                       ) AS stored ON true
                  LEFT JOIN LATERAL (
                       SELECT revision, content_version
                         FROM tests
                        WHERE test_id = wanted.test_id
                        LIMIT 1
                       ) AS tests ON true
                  LEFT JOIN LATERAL (
                       SELECT user_id, session_id, hold_id, test_id, revision, attempt, state, title, kind,
                              difficulty, metadata, total, answered, solved, answers_given, answers_correct,
                              version, started_at, deadline_at, last_answer_at, submitted_at, closed_at,
                              close_reason, score, passed
                         FROM sessions
                        WHERE user_id = wanted.user_id AND test_id = wanted.test_id
                        ORDER BY attempt DESC
                        LIMIT 1
                       ) AS latest ON true
                 ORDER BY wanted.place
                """,
                method,
                [each.user_id for each in wanted],
                [each.key for each in wanted],
                [each.test_id for each in wanted],
            )
            facts = [_Fact.of(row) for row in rows]
            editions = await self._editions.get(
                connection, {fact.edition_key for fact in facts if fact.edition_key is not None}
            )
            return [
                StartFacts(
                    now=fact.now,
                    stored=fact.stored,
                    latest=fact.latest,
                    edition=None if fact.edition_key is None else editions[fact.edition_key],
                )
                for fact in facts
            ]

        return await self._database.read(work, deadline=deadline, name="read_starts")

    async def insert_sessions(
        self,
        sessions: Sequence[Session],
        calls: Sequence[CompletedCall],
        events: Sequence[OutboxEvent],
        *,
        deadline: float,
    ) -> None:
        """Start these sessions, store the responses of these calls and send these events: all, or nothing.

        The calls are of one method, and there is at least one.

        Raises ConstraintViolation when somebody was faster: of `idempotency_keys_once`, or of the sessions'
        `sessions_attempt_once`, `sessions_one_live_per_test` or `sessions_hold_once`; LockTimeout when
        somebody is in the middle of that, and does not come to an end.
        """
        # One order for all batches, so that they cannot deadlock each other.
        sessions = sorted(sessions, key=lambda session: (session.user_id, session.test_id))
        calls = sorted(calls, key=lambda call: call.claim)
        events = sorted(events, key=lambda event: (event.user_id, event.event_id))
        await self._database.execute_write(
            """
            WITH patience AS MATERIALIZED (  -- one learner's locked rows must not hold up the whole batch
                SELECT set_config('lock_timeout', $26, true)
            ), claimed AS (
                INSERT INTO idempotency_keys (user_id, method, key, state, fingerprint, response, traceparent)
                SELECT user_id, $2, key, 'completed', fingerprint, response, traceparent
                  FROM unnest($1::text[], $3::text[], $4::bytea[], $5::bytea[], $6::text[])
                       AS call (user_id, key, fingerprint, response, traceparent)
                 CROSS JOIN patience
            ), started AS (
                INSERT INTO sessions (
                    user_id, session_id, hold_id, test_id, revision, attempt, state, title, kind, difficulty,
                    metadata, total, started_at, deadline_at
                )
                SELECT user_id, session_id, hold_id, test_id, revision, attempt, state, title, kind,
                       difficulty, metadata::jsonb, total, started_at, deadline_at
                  FROM unnest(
                           $7::text[], $8::uuid[], $9::uuid[], $10::text[], $11::integer[], $12::integer[],
                           $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::integer[],
                           $19::timestamptz[], $20::timestamptz[]
                       ) AS session (
                           user_id, session_id, hold_id, test_id, revision, attempt, state, title, kind,
                           difficulty, metadata, total, started_at, deadline_at
                       )
                 CROSS JOIN patience
            )
            INSERT INTO outbox (user_id, event_id, topic, payload, traceparent)
            SELECT user_id, event_id, topic, payload, traceparent
              FROM unnest($21::text[], $22::uuid[], $23::text[], $24::bytea[], $25::text[])
                   AS event (user_id, event_id, topic, payload, traceparent)
             CROSS JOIN patience
                ON CONFLICT DO NOTHING
            """,
            [call.claim.user_id for call in calls],
            calls[0].claim.method,
            [call.claim.key for call in calls],
            [call.fingerprint for call in calls],
            [call.response for call in calls],
            [call.traceparent for call in calls],
            [session.user_id for session in sessions],
            [session.session_id for session in sessions],
            [session.hold_id for session in sessions],
            [session.test_id for session in sessions],
            [session.revision for session in sessions],
            [session.attempt for session in sessions],
            [session.state for session in sessions],
            [session.title for session in sessions],
            [session.kind for session in sessions],
            [session.difficulty for session in sessions],
            [metadata_text(session.metadata) for session in sessions],
            [session.total for session in sessions],
            [session.started_at for session in sessions],
            [session.deadline_at for session in sessions],
            [event.user_id for event in events],
            [event.event_id for event in events],
            [event.topic for event in events],
            [event.payload for event in events],
            [event.traceparent for event in events],
            LOCK_TIMEOUT,
            deadline=deadline,
            name="insert_sessions",
        )


@dataclass(frozen=True, slots=True)
class _Fact:
    """A row of `read_facts`, before its edition is at hand."""

    now: datetime
    stored: StoredResponse | None
    latest: Session | None
    edition_key: EditionKey | None

    @classmethod
    def of(cls, row: asyncpg.Record) -> _Fact:
        stored = stored_from(row)
        latest = None if row["session_id"] is None else session_from(row)
        key = None
        if stored is None and row["current_revision"] is not None:
            revision = latest.revision if latest is not None and latest.live else row["current_revision"]
            key = EditionKey(row["wanted_test_id"], revision, row["content_version"])
        return cls(now=row["now"], stored=stored, latest=latest, edition_key=key)
