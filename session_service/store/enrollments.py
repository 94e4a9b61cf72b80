"""Enrollments in the database: what a learner is asked, and the hashes of the answers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import NamedTuple

from chassis.batch import Item, latest_deadline
from chassis.postgres import Connection, Database
from chassis.postgres.isolation import Locked
from chassis.postgres.rows import as_rows
from session_service.domain.identity import QUESTIONS_MAX, Enrollment, HashedAnswer, IdentityQuestion
from session_service.domain.ids import SessionId
from session_service.store.session_rows import LIVE


@dataclass(frozen=True, slots=True)
class WantedEnrollment:
    """The questions that a learner enrolls."""

    questions: Sequence[IdentityQuestion]


class StoredEnrollment(NamedTuple):
    """An enrollment that was written, or the session that keeps it from being written."""

    enrollment: Enrollment | None
    blocking_session: SessionId | None


class EnrollmentStore:
    """Reads and replaces enrollments. A session is under way until the grace after its deadline is over."""

    def __init__(self, *, database: Database, grace: timedelta) -> None:
        self._database = database
        self._grace = grace

    async def put_enrollments(
        self, items: Sequence[Item[WantedEnrollment]], wait: bool
    ) -> list[StoredEnrollment | Locked]:
        """Replace each learner's questions, unless a session that still asks some of them is under way."""

        async def work(connection: Connection) -> list[StoredEnrollment | Locked]:
            learners = [{"user_id": user_id} for user_id in sorted({item.user_id for item in items})]
            await connection.execute(_MAKE_ENROLLMENTS, as_rows(learners))
            locked = await _lock_learners(connection, {item.user_id for item in items}, wait=wait)
            return [
                await self._put(connection, item) if item.user_id in locked else Locked.HELD_BY_ANOTHER
                for item in items
            ]

        return await self._database.write(work, deadline=latest_deadline(items), name="put_enrollments")

    async def get_enrollments(self, user_ids: Collection[str], *, deadline: float) -> dict[str, Enrollment]:
        """The enrollments of these learners; absent for those who have not enrolled."""

        async def work(connection: Connection) -> dict[str, Enrollment]:
            return await read_enrollments(connection, user_ids)

        return await self._database.read(work, deadline=deadline, name="get_enrollments")

    async def _put(self, connection: Connection, item: Item[WantedEnrollment]) -> StoredEnrollment:
        blocking = await connection.fetchval(_BLOCKING_SESSION, item.user_id, self._grace)
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


async def _lock_learners(connection: Connection, user_ids: Collection[str], *, wait: bool) -> set[str]:
    """Lock the enrollments in the order of their learners; returns those that are locked."""
    learners = as_rows([{"user_id": user_id} for user_id in sorted(user_ids)])
    rows = await connection.fetch(_LOCK_LEARNERS if wait else _LOCK_FREE_LEARNERS, learners)
    return {row["user_id"] for row in rows}


async def held_by_another(connection: Connection, user_ids: Collection[str], *, wait: bool) -> set[str]:
    """Lock the enrollments of these learners; returns the learners whose enrollment is locked elsewhere.

    A learner without an enrollment has nothing to lock.
    """
    unlocked = set(user_ids) - await _lock_learners(connection, user_ids, wait=wait)
    if not unlocked:
        return unlocked
    learners = as_rows([{"user_id": user_id} for user_id in unlocked])
    return {row["user_id"] for row in await connection.fetch(_FIND_LEARNERS, learners)}


async def read_enrollments(connection: Connection, user_ids: Collection[str]) -> dict[str, Enrollment]:
    """The enrollments of these learners; absent for those who have not enrolled."""
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

_FIND_LEARNERS = _LOCK_LEARNERS.replace("FOR NO KEY UPDATE", "")

_BLOCKING_SESSION = f"""
    SELECT session_id
      FROM sessions
     WHERE user_id = $1 AND {LIVE} AND identity_due_seconds IS NOT NULL
       AND (deadline_at IS NULL OR deadline_at > clock_timestamp() - $2::interval)
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

_READ_ENROLLMENTS = f"""
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
            LIMIT {QUESTIONS_MAX:d}
           ) AS question
     ORDER BY enrollment.user_id, question.position
"""
