"""What is known when sessions are to start, and the one statement that starts them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import asyncpg

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
    claim_rows,
    stored_from,
)
from chassis.postgres.outbox import APPEND_ROWS, OutboxEvent, append_from, append_rows
from chassis.postgres.rows import RowType, as_rows, names
from session_service.domain.ids import SessionId
from session_service.domain.sessions import Session, SessionKey, StartRequest, attempts_used
from session_service.domain.tests import Edition
from session_service.store.editions import EditionCache, EditionKey
from session_service.store.session_rows import (
    LIVE,
    SESSION,
    SESSION_COLUMNS,
    STARTED,
    USES_ATTEMPT,
    session_from,
)


class Resume(NamedTuple):
    """A key to answer with a session under way. The event is written only if that answer is."""

    user_id: str
    key: str
    session_id: SessionId
    event_id: UUID | None


@quick
@dataclass(frozen=True, slots=True)
class StartFacts:
    """What was known of a start at `now`, by the database's clock.

    `latest` is the learner's last session of this test, the only one that can be live; `attempts_used` is how
    many attempts the learner has used so far. `edition` is that of the live session if there is one, else of
    the test as it is now; None when there is no such test, and when the key has an answer already.
    """

    now: datetime
    stored: StoredResponse | None
    latest: Session | None
    attempts_used: int
    edition: Edition | None
    enrolled: bool
    """Whether the learner has identity questions; only looked up for a test that asks them."""


class StartStore:
    """Reads and writes whole batches of starts."""

    def __init__(self, *, database: Database, editions: EditionCache, grace: timedelta) -> None:
        self._database = database
        self._editions = editions
        self._grace = grace

    async def read_facts(self, items: Sequence[Item[StartRequest]], *, deadline: float) -> list[StartFacts]:
        """What is known of each start, in their order, all at one moment."""
        wanted = [
            (context.user_id, context.method, context.idempotency_key, request.test_id)
            for context, request, _ in items
        ]

        async def work(connection: Connection) -> list[StartFacts]:
            rows = await connection.fetch(_READ_FACTS, wanted)
            latest = [None if row["session_id"] is None else session_from(row) for row in rows]
            keys = [_wanted_edition(row, session) for row, session in zip(rows, latest, strict=True)]
            editions = await self._editions.get(connection, {key for key in keys if key is not None})
            enrolled = await _enrolled(connection, items, keys, editions)
            attempts_before = await _attempts_before(connection, latest)
            return [
                StartFacts(
                    row["now"],
                    stored_from(row),
                    session,
                    attempts_used(session, before_latest),
                    None if key is None else editions[key],
                    item.user_id in enrolled,
                )
                for item, row, session, key, before_latest in zip(
                    items, rows, latest, keys, attempts_before, strict=True
                )
            ]

        return await self._database.read(work, deadline=deadline, name="read_starts")

    async def insert_sessions(
        self,
        sessions: Sequence[Session],
        calls: Sequence[CompletedCall],
        resumes: Sequence[Resume],
        events: Sequence[OutboxEvent],
        *,
        deadline: float,
    ) -> set[tuple[str, str]]:
        """Start these sessions, store the responses of these calls and send these events: all, or nothing.

        The calls are of one method. `resumes` are those calls that are answered with a session under way. The
        session is locked and looked at again: if it has ended in the meantime, nothing is written for that
        call, and its user and key are returned.

        Raises ConstraintViolation when another request was faster: of `idempotency_keys_once`, or of the
        sessions' `sessions_attempt_once`, `sessions_one_live_per_test` or `sessions_hold_once`; LockTimeout
        when another transaction is in the middle of that and does not end.
        """
        # One order for all batches, so that they cannot deadlock each other.
        started = STARTED.values(sorted(sessions, key=lambda session: (session.user_id, session.test_id)))
        statement = _START_SESSIONS
        arguments: list[object] = [claim_rows(calls), started]
        if resumes or events:
            locking = [each._asdict() for each in sorted(resumes, key=_locking_order)]
            statement = _START_AND_RESUME
            arguments += [append_rows(events), as_rows(locking), self._grace]
        rows = await self._database.execute_write(
            statement, *arguments, deadline=deadline, name="insert_sessions"
        )
        return {(row["user_id"], row["key"]) for row in rows}


def _locking_order(resume: Resume) -> tuple[str, SessionId, str]:
    """Sessions are locked in the order of their keys by whoever locks several."""
    return resume.user_id, resume.session_id, resume.key


def _wanted_edition(row: asyncpg.Record, latest: Session | None) -> EditionKey | None:
    """What a start needs: the edition of the live session, else that of the test as it is now.

    It is None when there is no such test, and when the key has an answer already.
    """
    current: int | None = row["current_revision"]
    if current is None or row["stored_state"] is not None:
        return None
    revision = latest.revision if latest is not None and latest.live else current
    return EditionKey(row["wanted_test_id"], revision)


async def _enrolled(
    connection: Connection,
    items: Sequence[Item[StartRequest]],
    keys: Sequence[EditionKey | None],
    editions: Mapping[EditionKey, Edition],
) -> set[str]:
    """The learners who have identity questions, among those whose tests ask them."""
    asked = {
        item.user_id
        for item, key in zip(items, keys, strict=True)
        if key is not None and editions[key].definition.identity_checks
    }
    if not asked:
        return set()
    rows = await connection.fetch(_READ_ENROLLED, as_rows([{"user_id": user_id} for user_id in asked]))
    return {row["user_id"] for row in rows}


async def _attempts_before(connection: Connection, latest: Sequence[Session | None]) -> list[int]:
    """How many attempts each learner had used before the latest session; 0 if there is none.

    The sessions of an earlier release do not say it, so their predecessors are counted. These have ended, so
    their number does not change any more. A second statement does it: within the first one it would cost
    every start 20 µs of PostgreSQL.
    """
    uncounted = [each for each in latest if each is not None and each.attempts_before is None]
    counted: dict[SessionKey, int] = {}
    if uncounted:
        wanted = [
            {**each.key._asdict(), "test_id": each.test_id, "attempt": each.attempt} for each in uncounted
        ]
        rows = await connection.fetch(_COUNT_ATTEMPTS, as_rows(wanted))
        counted = {SessionKey(row["user_id"], row["session_id"]): row["before"] for row in rows}
    return [0 if each is None else counted.get(each.key, each.attempts_before or 0) for each in latest]


_COUNT_ATTEMPTS = f"""
    SELECT wanted.user_id, wanted.session_id,
           (SELECT count(*)::integer
              FROM sessions
             WHERE user_id = wanted.user_id AND test_id = wanted.test_id
               AND attempt < wanted.attempt AND {USES_ATTEMPT}) AS before
      FROM json_to_recordset($1) AS wanted (user_id text, session_id uuid, test_id text, attempt integer)
"""

_READ_ENROLLED = """
    SELECT question.user_id
      FROM json_to_recordset($1) AS wanted (user_id text)
     CROSS JOIN LATERAL (
           SELECT user_id
             FROM identity_questions
            WHERE user_id = wanted.user_id
            LIMIT 1
           ) AS question
"""

_WANTED = RowType("wanted_start", "user_id text, method text, key text, test_id text")
_READ_FACTS = f"""
    SELECT now() AS now, {STORED_COLUMNS}, wanted.test_id AS wanted_test_id,
           tests.revision AS current_revision, {names(SESSION, of="latest")}
      FROM {_WANTED.unnest(1)} WITH ORDINALITY AS wanted ({names(_WANTED.columns)}, place)
    {STORED_OF_WANTED}
      LEFT JOIN LATERAL (
           SELECT revision
             FROM tests
            WHERE test_id = wanted.test_id
            LIMIT 1
           ) AS tests ON true
      LEFT JOIN LATERAL (
           SELECT {SESSION_COLUMNS}
             FROM sessions
            WHERE user_id = wanted.user_id AND test_id = wanted.test_id
            ORDER BY attempt DESC
            LIMIT 1
           ) AS latest ON true
     ORDER BY wanted.place
"""

_CLAIMED = f"{COMPLETED_CALL.unnest(1)} AS call CROSS JOIN patience"
_STARTED = f"""
    INSERT INTO sessions ({names(STARTED.columns)})
    SELECT {names(STARTED.columns)}
      FROM {STARTED.unnest(2)} AS session
     CROSS JOIN patience
"""

# Nearly all batches only start sessions. PostgreSQL sets up every part of a statement in each execution, also
# the parts that get no rows: with resumes and events, a single start would cost 45 µs more of 265.
#
# Both statements claim the keys before they insert sessions, so that they cannot deadlock each other. In the
# first one, what follows WITH runs before the changes in it. In the second one, the sessions need the number
# of claims: PostgreSQL would insert them before the keys otherwise, and promises no order (18, 7.8.4).
_START_SESSIONS = f"""
    WITH {PATIENCE}, started AS (
        {_STARTED}
    )
    {claim_from(_CLAIMED)}
"""

# The lock timeout is set first: the locked rows of one learner must not hold up the whole batch. FOR SHARE
# waits for a change of the session that is under way, and sees its result.
_START_AND_RESUME = f"""
    WITH {PATIENCE}, resumed AS MATERIALIZED (
        SELECT resume.user_id, resume.key, resume.event_id, live.session_id IS NULL AS ended
          FROM patience
         CROSS JOIN json_to_recordset($4)
               AS resume (user_id text, key text, session_id uuid, event_id uuid)
          LEFT JOIN LATERAL (
               SELECT session_id
                 FROM sessions
                WHERE user_id = resume.user_id AND session_id = resume.session_id
                  AND {LIVE} AND (deadline_at IS NULL OR deadline_at > clock_timestamp() - $5::interval)
                  AND patience.lock_timeout IS NOT NULL
                LIMIT 1
                  FOR SHARE
               ) AS live ON true
    ), claimed AS (
        {
    claim_from(f'''{_CLAIMED}
         WHERE NOT EXISTS (
               SELECT 1
                 FROM resumed
                WHERE resumed.ended AND resumed.user_id = call.user_id AND resumed.key = call.key)''')
}
        RETURNING 1
    ), started AS (
        {_STARTED}
         CROSS JOIN (SELECT count(*) FROM claimed) AS claims
    ), told AS (
        {
    append_from(f'''json_to_recordset($3) {APPEND_ROWS}
         CROSS JOIN patience
         WHERE NOT EXISTS (
               SELECT 1
                 FROM resumed
                WHERE resumed.ended AND resumed.event_id = event.event_id)''')
}
    )
    SELECT user_id, key
      FROM resumed
     WHERE ended
"""
