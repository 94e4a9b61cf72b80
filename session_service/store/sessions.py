"""Sessions as they are read, outside of any change to them."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.postgres import Connection, Database
from session_service.domain.ids import HoldId, SessionId
from session_service.domain.sessions import Session
from session_service.domain.states import SessionState
from session_service.domain.tests import Edition
from session_service.store.changes import SessionKey
from session_service.store.editions import EditionCache, EditionKey
from session_service.store.rows import session_from


class SessionStore:
    """Reads sessions."""

    def __init__(self, *, database: Database, editions: EditionCache) -> None:
        self._database = database
        self._editions = editions

    async def get_sessions(
        self, wanted: Sequence[SessionKey], *, deadline: float
    ) -> dict[SessionKey, tuple[Session, Edition]]:
        """These sessions with what they ask; those that do not exist are absent."""

        async def work(connection: Connection) -> dict[SessionKey, tuple[Session, Edition]]:
            rows = await connection.fetch(
                """
                SELECT session.user_id, session.session_id, session.hold_id, session.test_id,
                       session.revision, session.attempt, session.state, session.title, session.kind,
                       session.difficulty, session.metadata, session.total, session.answered, session.solved,
                       session.answers_given, session.answers_correct, session.version, session.started_at,
                       session.deadline_at, session.last_answer_at, session.submitted_at, session.closed_at,
                       session.close_reason, session.score, session.passed,
                       tests.content_version
                  FROM unnest($1::text[], $2::uuid[]) AS wanted (user_id, session_id)
                 CROSS JOIN LATERAL (
                       SELECT user_id, session_id, hold_id, test_id, revision, attempt, state, title, kind,
                              difficulty, metadata, total, answered, solved, answers_given, answers_correct,
                              version, started_at, deadline_at, last_answer_at, submitted_at, closed_at,
                              close_reason, score, passed
                         FROM sessions
                        WHERE user_id = wanted.user_id AND session_id = wanted.session_id
                        LIMIT 1
                       ) AS session
                  JOIN tests ON tests.test_id = session.test_id
                """,
                [key.user_id for key in wanted],
                [key.session_id for key in wanted],
            )
            keys = [EditionKey(row["test_id"], row["revision"], row["content_version"]) for row in rows]
            editions = await self._editions.get(connection, set(keys))
            return {
                SessionKey(row["user_id"], row["session_id"]): (session_from(row), editions[key])
                for row, key in zip(rows, keys, strict=True)
            }

        return await self._database.read(work, deadline=deadline, name="get_sessions")

    async def list_sessions(
        self,
        user_id: str,
        *,
        state: SessionState | None,
        test_id: str | None,
        before: SessionId | None,
        limit: int,
        deadline: float,
    ) -> list[Session]:
        """The learner's sessions, newest first (their ids sort by time), those before `before`."""

        async def work(connection: Connection) -> list[Session]:
            rows = await connection.fetch(
                """
                SELECT user_id, session_id, hold_id, test_id, revision, attempt, state, title, kind,
                       difficulty, metadata, total, answered, solved, answers_given, answers_correct, version,
                       started_at, deadline_at, last_answer_at, submitted_at, closed_at, close_reason, score,
                       passed
                  FROM sessions
                 WHERE user_id = $1
                   AND ($2::text IS NULL OR state = $2)
                   AND ($3::text IS NULL OR test_id = $3)
                   AND ($4::uuid IS NULL OR session_id < $4)
                 ORDER BY session_id DESC
                 LIMIT $5
                """,
                user_id,
                state,
                test_id,
                before,
                limit,
            )
            return [session_from(row) for row in rows]

        return await self._database.read(work, deadline=deadline, name="list_sessions")

    async def list_overdue(self, limit: int, *, deadline: float) -> list[SessionKey]:
        """Live sessions whose deadline has passed, the longest overdue first."""

        async def work(connection: Connection) -> list[SessionKey]:
            rows = await connection.fetch(
                """
                SELECT user_id, session_id
                  FROM sessions
                 WHERE state IN ('active', 'paused') AND deadline_at <= now()
                 ORDER BY deadline_at
                 LIMIT $1
                """,
                limit,
            )
            return [SessionKey(row["user_id"], row["session_id"]) for row in rows]

        return await self._database.read(work, deadline=deadline, name="list_overdue")

    async def sessions_of_holds(
        self, holds: Sequence[tuple[str, HoldId]], *, deadline: float
    ) -> dict[tuple[str, HoldId], Session]:
        """The session that each of these holds (user and hold id) pays for; absent where there is none."""

        async def work(connection: Connection) -> dict[tuple[str, HoldId], Session]:
            rows = await connection.fetch(
                """
                SELECT session.user_id, session.session_id, session.hold_id, session.test_id,
                       session.revision, session.attempt, session.state, session.title, session.kind,
                       session.difficulty, session.metadata, session.total, session.answered, session.solved,
                       session.answers_given, session.answers_correct, session.version, session.started_at,
                       session.deadline_at, session.last_answer_at, session.submitted_at, session.closed_at,
                       session.close_reason, session.score, session.passed
                  FROM unnest($1::text[], $2::uuid[]) AS wanted (user_id, hold_id)
                 CROSS JOIN LATERAL (
                       SELECT user_id, session_id, hold_id, test_id, revision, attempt, state, title, kind,
                              difficulty, metadata, total, answered, solved, answers_given, answers_correct,
                              version, started_at, deadline_at, last_answer_at, submitted_at, closed_at,
                              close_reason, score, passed
                         FROM sessions
                        WHERE user_id = wanted.user_id AND hold_id = wanted.hold_id
                        LIMIT 1
                       ) AS session
                """,
                [user_id for user_id, _ in holds],
                [hold_id for _, hold_id in holds],
            )
            return {(row["user_id"], HoldId(row["hold_id"])): session_from(row) for row in rows}

        return await self._database.read(work, deadline=deadline, name="sessions_of_holds")
