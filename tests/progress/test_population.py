"""The store that the bench makes is one that the service could have written."""

from __future__ import annotations

from bench.scale.progress_population import build
from chassis.postgres import Connection

COMPLETIONS = 2000

SUMS = """
    WITH known AS (
        SELECT * FROM learner_statistics
    ), lessons AS (
        SELECT user_id, count(*) AS lessons, sum(xp) AS xp FROM lesson_completions GROUP BY user_id
    ), results AS (
        SELECT user_id, count(*) AS sessions, sum(answered) AS answered, sum(answers) AS answers,
               sum(correct) AS correct, sum(xp) AS xp
          FROM session_results
         GROUP BY user_id
    ), entries AS (
        SELECT user_id, sum(amount) AS xp FROM xp_entries GROUP BY user_id
    ), attended AS (
        SELECT user_id, count(*) AS courses, sum(completed_lessons) AS lessons
          FROM enrollments
         GROUP BY user_id
    ), watched AS (
        SELECT user_id, count(*) AS videos FROM watched_videos GROUP BY user_id
    ), resets AS (
        SELECT user_id, count(*) AS resets FROM progress_resets GROUP BY user_id
    )
    SELECT user_id
      FROM known
      FULL JOIN lessons USING (user_id)
      FULL JOIN results USING (user_id)
      FULL JOIN entries USING (user_id)
      FULL JOIN attended USING (user_id)
      FULL JOIN watched USING (user_id)
      FULL JOIN specialization_progress AS levels USING (user_id)
      LEFT JOIN resets USING (user_id)
     WHERE (known.completed_lessons, known.completed_sessions, known.questions_answered, known.answers,
            known.correct, known.xp, known.enrolled, known.version, known.epoch)
           IS DISTINCT FROM
           (lessons.lessons, results.sessions, results.answered, results.answers, results.correct, entries.xp,
            attended.courses,
            attended.courses + lessons.lessons + results.sessions + watched.videos + coalesce(resets, 0),
            coalesce(resets, 0))
        OR entries.xp <> lessons.xp + results.xp OR attended.lessons <> lessons.lessons
        OR levels.xp <> entries.xp
        OR levels.level <> (SELECT max(level) FROM specialization_levels WHERE xp_required <= levels.xp)
"""

DAYS = """
    SELECT user_id, day FROM activity_days
    EXCEPT
    (SELECT user_id, (occurred_at AT TIME ZONE 'utc')::date FROM lesson_completions
      UNION
     SELECT user_id, (closed_at AT TIME ZONE 'utc')::date FROM session_results WHERE completed)
"""


async def test_each_total_is_the_sum_of_its_rows(truth: Connection) -> None:
    learners = await build(truth, COMPLETIONS, verify=True)
    assert learners == await truth.fetchval("SELECT count(*) FROM learner_statistics")
    assert await rows(truth, SUMS) == []
    assert await rows(truth, DAYS) == []
    assert await truth.fetchval("SELECT count(*) FROM lesson_completions") == COMPLETIONS


async def rows(truth: Connection, sql: str) -> list[tuple[object, ...]]:
    return [tuple(row) for row in await truth.fetch(sql)]
