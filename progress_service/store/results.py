"""Session results: recorded once, together with the totals, XP entries and active days they bring."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.postgres.isolation import Locked
from chassis.postgres import Connection, Database
from progress_service.domain.statistics import (
    Recording,
    ResultKey,
    SessionResult,
    Statistics,
    UserId,
    decide,
)


class ResultStore:
    """Raises what `Database` raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert_learners(self, user_ids: Sequence[UserId], *, deadline: float) -> None:
        """See to it that each learner has a row of totals, which is also the lock on all that is theirs."""
        await self._database.execute_write(
            """
            INSERT INTO learner_statistics (user_id)
            SELECT user_id
              FROM (SELECT DISTINCT unnest($1::text[]) AS user_id) AS learner
             WHERE NOT EXISTS (SELECT 1
                                 FROM learner_statistics AS known
                                WHERE known.user_id = learner.user_id)
             ORDER BY user_id
                ON CONFLICT DO NOTHING
            """,
            user_ids,
            deadline=deadline,
            name="insert_learners",
        )

    async def insert_results(
        self, results: Sequence[SessionResult], *, wait: bool, deadline: float
    ) -> list[Recording | Locked]:
        """Count the results that are new, in one transaction; the learners must have their rows.

        Results of a learner whose row someone else holds locked are passed over; with `wait` they wait, up to
        the lock timeout.
        """

        async def work(connection: Connection) -> list[Recording | Locked]:
            locked = await _lock_learners(connection, results, wait=wait)
            ours = [result for result in results if result.user_id in locked]
            if not ours:
                return [Locked.ELSEWHERE] * len(results)
            # New statements: what the lock's own statement saw may be older than the lock.
            decision = decide(
                ours,
                statistics=await _select_statistics(connection, sorted(locked)),
                recorded=await _select_results(connection, ours),
            )
            if decision.new_results:
                await _insert_results(connection, decision.new_results)
                await _insert_xp_entries(connection, decision.new_results)
                await _insert_activity_days(connection, decision.new_results)
                await _update_statistics(connection, decision.changed_statistics)
            recordings = iter(decision.recordings)
            return [next(recordings) if result.user_id in locked else Locked.ELSEWHERE for result in results]

        return await self._database.write(work, deadline=deadline, name="insert_results")


async def _lock_learners(
    connection: Connection, results: Sequence[SessionResult], *, wait: bool
) -> frozenset[UserId]:
    rows = await connection.fetch(
        f"""
        SELECT user_id
          FROM learner_statistics
         WHERE user_id = ANY($1::text[])
         ORDER BY user_id
           FOR NO KEY UPDATE {"" if wait else "SKIP LOCKED"}
        """,  # noqa: S608 — one of two constants
        list({result.user_id for result in results}),
    )
    return frozenset(UserId(row["user_id"]) for row in rows)


async def _select_statistics(connection: Connection, user_ids: Sequence[UserId]) -> dict[UserId, Statistics]:
    rows = await connection.fetch(
        """
        SELECT user_id, completed_sessions, questions_answered, answers, correct, xp, version, updated_at
          FROM learner_statistics
         WHERE user_id = ANY($1::text[])
        """,
        user_ids,
    )
    return {UserId(row["user_id"]): Statistics(*row) for row in rows}


async def _select_results(
    connection: Connection, results: Sequence[SessionResult]
) -> dict[ResultKey, SessionResult]:
    """Those of these sessions' results that were recorded before."""
    rows = await connection.fetch(
        """
        SELECT user_id, session_id, test_id, specialization, completed, answered, total, answers, correct,
               score, passed, xp, closed_at
          FROM session_results
          JOIN unnest($1::text[], $2::text[]) AS asked (user_id, session_id) USING (user_id, session_id)
        """,
        [result.user_id for result in results],
        [result.session_id for result in results],
    )
    recorded = [SessionResult(**row) for row in rows]
    return {result.key: result for result in recorded}


async def _insert_results(connection: Connection, results: Sequence[SessionResult]) -> None:
    await connection.execute(
        """
        INSERT INTO session_results (user_id, session_id, test_id, specialization, completed, answered, total,
                                     answers, correct, score, passed, xp, closed_at)
        SELECT user_id, session_id, test_id, specialization, completed, answered, total,
               answers, correct, score, passed, xp, closed_at
          FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[], $6::int[], $7::int[],
                      $8::int[], $9::int[], $10::float8[], $11::boolean[], $12::int[], $13::timestamptz[])
               AS result (user_id, session_id, test_id, specialization, completed, answered, total,
                          answers, correct, score, passed, xp, closed_at)
        """,
        [result.user_id for result in results],
        [result.session_id for result in results],
        [result.test_id for result in results],
        [result.specialization for result in results],
        [result.completed for result in results],
        [result.answered for result in results],
        [result.total for result in results],
        [result.answers for result in results],
        [result.correct for result in results],
        [result.score for result in results],
        [result.passed for result in results],
        [result.xp for result in results],
        [result.closed_at for result in results],
    )


async def _insert_xp_entries(connection: Connection, results: Sequence[SessionResult]) -> None:
    earning = [result for result in results if result.xp]
    await connection.execute(
        """
        INSERT INTO xp_entries (user_id, operation_id, amount, specialization, earned_at)
        SELECT user_id, operation_id, amount, specialization, earned_at
          FROM unnest($1::text[], $2::uuid[], $3::int[], $4::text[], $5::timestamptz[])
               AS entry (user_id, operation_id, amount, specialization, earned_at)
        """,
        [result.user_id for result in earning],
        [result.xp_operation_id for result in earning],
        [result.xp for result in earning],
        [result.specialization for result in earning],
        [result.closed_at for result in earning],
    )


async def _insert_activity_days(connection: Connection, results: Sequence[SessionResult]) -> None:
    active = [(result.user_id, result.activity_day) for result in results if result.activity_day]
    await connection.execute(
        """
        INSERT INTO activity_days (user_id, day)
        SELECT user_id, day
          FROM unnest($1::text[], $2::date[]) AS active (user_id, day)
            ON CONFLICT ON CONSTRAINT activity_days_once DO NOTHING
        """,
        [user_id for user_id, _ in active],
        [day for _, day in active],
    )


async def _update_statistics(connection: Connection, statistics: Sequence[Statistics]) -> None:
    await connection.execute(
        """
        UPDATE learner_statistics
           SET completed_sessions = changed.completed_sessions,
               questions_answered = changed.questions_answered,
               answers = changed.answers,
               correct = changed.correct,
               xp = changed.xp,
               version = changed.version,
               updated_at = clock_timestamp()
          FROM unnest($1::text[], $2::int[], $3::int[], $4::int[], $5::int[], $6::int[], $7::int[])
               AS changed (user_id, completed_sessions, questions_answered, answers, correct, xp, version)
         WHERE learner_statistics.user_id = changed.user_id
        """,
        [each.user_id for each in statistics],
        [each.completed_sessions for each in statistics],
        [each.questions_answered for each in statistics],
        [each.answers for each in statistics],
        [each.correct for each in statistics],
        [each.xp for each in statistics],
        [each.version for each in statistics],
    )
