"""A store of progress_service as a year of use leaves it, made by PostgreSQL itself.

Each learner has completed the first lessons of two courses and a few sessions, one after the other. Every
total is the sum of its rows; `tests/progress/test_population.py` holds it to that. The ids of the entries in
the ledger are not those that the service makes, so its checks would miss the entries of the results.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from chassis.postgres import Connection

COURSES = 20
COURSES_PER_LEARNER = 2
LESSONS = 100
"""Of each course, in modules of 20."""
LESSONS_PER_MODULE = 20
COMPLETED = 10
"""Of each course, by each learner."""
COMPLETIONS_PER_LEARNER = COURSES_PER_LEARNER * COMPLETED
RESULTS_PER_LEARNER = 5
RESET_ONE_IN = 20
"""One learner in so many has begun anew in a course in which they had done nothing."""
NEVER_ATTENDED = "course-reset"
DAYS = 399
KEYS_KEPT = timedelta(days=7)
SLICE = 5_000
"""Learners in one transaction."""


def learner(number: int) -> str:
    return f"learner-{number:08d}"


def course_of(learner_number: int, which: int) -> int:
    """The number of the first or second course of a learner."""
    return (learner_number + 7 * which) % COURSES


def lesson_name(course: int, place: int) -> tuple[str, str]:
    """The ids of the module and of the lesson at this place of a course."""
    return f"course-{course:02d}-m{place // LESSONS_PER_MODULE + 1}", f"lesson-{place:03d}"


async def build(
    connection: Connection,
    completions: int,
    *,
    told: Callable[[int], object] = lambda _: None,
    verify: bool = False,
) -> int:
    """Fill an empty, migrated database of progress_service; how many learners there are.

    Args:
        connection: of a superuser: the foreign keys are not checked row by row.
        completions: of lessons; for each there is an entry of XP, and more rows for each learner.
        told: called with the number of completions that there are, after each slice.
        verify: check the foreign keys all the same.
    """
    learners = completions // COMPLETIONS_PER_LEARNER
    now: datetime = await connection.fetchval("SELECT date_trunc('second', now())")
    if not verify:
        await connection.execute("SET session_replication_role = replica")
    await connection.execute(_ADD_CATALOG)
    for first in range(0, learners, SLICE):
        last = min(first + SLICE, learners) - 1
        since = now - timedelta(days=DAYS + 12)
        await connection.execute(
            _ADD_LEARNERS, first, last, since, timedelta(days=DAYS) / learners, now - KEYS_KEPT
        )
        told((last + 1) * COMPLETIONS_PER_LEARNER)
    await connection.execute("RESET session_replication_role")
    await connection.execute("VACUUM (ANALYZE)")
    return learners


_ADD_CATALOG = f"""
    INSERT INTO specializations (specialization, name, updated_at) VALUES ('PLAYER', 'Player', now());
    INSERT INTO specialization_levels (specialization, level, name, xp_required)
    SELECT 'PLAYER', level, 'Level ' || level, (level - 1) * level * 50 FROM generate_series(1, 8) AS level;

    INSERT INTO courses (course_id) VALUES ('{NEVER_ATTENDED}');
    INSERT INTO courses (course_id, title, specialization, revision, total_lessons)
    SELECT 'course-' || lpad(number::text, 2, '0'), 'Course ' || number, 'PLAYER', 1, {LESSONS}
      FROM generate_series(0, {COURSES - 1}) AS number;
    INSERT INTO modules (module_id, course_id, title, position)
    SELECT course_id || '-m' || place + 1, course_id, 'Module ' || place + 1, place
      FROM courses
     CROSS JOIN generate_series(0, {LESSONS // LESSONS_PER_MODULE - 1}) AS place
     WHERE revision > 0;
    INSERT INTO lessons (module_id, lesson_id, course_id, title, xp, video_seconds, position)
    SELECT course_id || '-m' || place / {LESSONS_PER_MODULE} + 1, 'lesson-' || lpad(place::text, 3, '0'),
           course_id, 'Lesson ' || place, 10, 600, place
      FROM courses
     CROSS JOIN generate_series(0, {LESSONS - 1}) AS place
     WHERE revision > 0;
    INSERT INTO lesson_successions (course_id, module_id, lesson_id, after_module_id, after_lesson_id)
    SELECT lesson.course_id, lesson.module_id, lesson.lesson_id, coalesce(before.module_id, ''),
           coalesce(before.lesson_id, '')
      FROM lessons AS lesson
      LEFT JOIN lessons AS before
             ON before.course_id = lesson.course_id AND before.position = lesson.position - 1;
"""  # noqa: S608 - our own numbers

# A lesson comes every half day, so each learner is active on ten days in a row; the sessions are on the first
# of them.
_ADD_LEARNERS = f"""
    WITH learner AS MATERIALIZED (
        SELECT number, 'learner-' || lpad(number::text, 8, '0') AS user_id,
               date_trunc('day', $3::timestamptz + number * $4::interval) AS began_at
          FROM generate_series($1::integer, $2::integer) AS number
    ), attended AS MATERIALIZED (
        SELECT learner.*, which,
               'course-' || lpad(((number + 7 * which) % {COURSES})::text, 2, '0') AS course_id
          FROM learner
         CROSS JOIN generate_series(0, {COURSES_PER_LEARNER - 1}) AS which
    ), completed AS MATERIALIZED (
        SELECT user_id, course_id, course_id || '-m1' AS module_id,
               'lesson-' || lpad(place::text, 3, '0') AS lesson_id,
               began_at + (place * {COURSES_PER_LEARNER} + which) * interval '12 hours' AS occurred_at
          FROM attended
         CROSS JOIN generate_series(0, {COMPLETED - 1}) AS place
    ), resulted AS MATERIALIZED (
        SELECT user_id, md5(user_id || turn)::uuid::text AS session_id,
               began_at + turn * interval '1 day' + interval '1 hour' AS closed_at
          FROM learner
         CROSS JOIN generate_series(0, {RESULTS_PER_LEARNER - 1}) AS turn
    ), results_made AS (
        INSERT INTO session_results
               (user_id, session_id, test_id, specialization, completed, answered, total, answers, correct,
                score, passed, xp, closed_at, recorded_at)
        SELECT user_id, session_id, 'bench-00', 'PLAYER', true, 10, 12, 11, 8, 0.6, true, 10, closed_at,
               closed_at
          FROM resulted
    ), enrollments_made AS (
        INSERT INTO enrollments (user_id, course_id, epoch, since_revision, completed_lessons, enrolled_at)
        SELECT user_id, course_id, 0, 1, {COMPLETED}, began_at FROM attended
    ), completions_made AS (
        INSERT INTO lesson_completions
               (user_id, course_id, epoch, module_id, lesson_id, revision, xp, occurred_at, completed_at)
        SELECT user_id, course_id, 0, module_id, lesson_id, 1, 10, occurred_at, occurred_at FROM completed
    ), entries_made AS (
        INSERT INTO xp_entries (user_id, operation_id, amount, specialization, earned_at, recorded_at)
        SELECT user_id, md5(user_id || course_id || lesson_id)::uuid, 10, 'PLAYER', occurred_at, occurred_at
          FROM completed
         UNION ALL
        SELECT user_id, md5(user_id || session_id)::uuid, 10, 'PLAYER', closed_at, closed_at FROM resulted
    ), days_made AS (
        INSERT INTO activity_days (user_id, day)
        SELECT user_id, (occurred_at AT TIME ZONE 'utc')::date FROM completed
         UNION
        SELECT user_id, (closed_at AT TIME ZONE 'utc')::date FROM resulted
    ), watched_made AS (
        INSERT INTO watched_videos (user_id, course_id, epoch, module_id, lesson_id, ranges, updated_at)
        SELECT user_id, course_id, 0, course_id || '-m1', 'lesson-000', '{{[0,300000)}}', began_at
          FROM attended
    ), levels_made AS (
        INSERT INTO specialization_progress
               (user_id, specialization, xp, level, max_level, granted_level, epoch, catalog_version, version,
                updated_at)
        SELECT user_id, 'PLAYER', xp,
               (SELECT max(level)
                  FROM specialization_levels
                 WHERE specialization = 'PLAYER' AND xp_required <= xp),
               8, 0, 0, 1, {COMPLETIONS_PER_LEARNER + RESULTS_PER_LEARNER}, began_at + interval '10 days'
          FROM learner
         CROSS JOIN (SELECT 10 * {COMPLETIONS_PER_LEARNER + RESULTS_PER_LEARNER} AS xp) AS earned
    ), achievements_made AS (
        INSERT INTO learner_achievements (user_id, achievement, earned_at)
        SELECT user_id, achievement, began_at + interval '10 days'
          FROM learner
         CROSS JOIN unnest(ARRAY['first-lesson', 'first-session', 'streak-3', 'streak-7', 'first-level-up'])
                    AS achievement
    ), resets_made AS (
        INSERT INTO progress_resets (user_id, epoch, scope, name, ordered_by, reason, reset_at)
        SELECT user_id, 1, 'course', '{NEVER_ATTENDED}', 'admin', 'The learner asked for it', began_at
          FROM learner
         WHERE number % {RESET_ONE_IN} = 0
    ), keys_made AS (
        INSERT INTO idempotency_keys (user_id, method, key, state, fingerprint, response, created_at)
        SELECT user_id, '/homeroom.progress.v1.LessonService/CompleteLesson',
               'key-' || course_id || lesson_id, 'completed', sha256(convert_to(lesson_id, 'UTF8')),
               '\\x08011001', occurred_at
          FROM completed
         WHERE occurred_at >= $5::timestamptz
    )
    INSERT INTO learner_statistics
           (user_id, completed_sessions, questions_answered, answers, correct, xp, version, updated_at,
            enrolled, completed_lessons, epoch)
    SELECT user_id, {RESULTS_PER_LEARNER}, 10 * {RESULTS_PER_LEARNER}, 11 * {RESULTS_PER_LEARNER},
           8 * {RESULTS_PER_LEARNER}, 10 * {COMPLETIONS_PER_LEARNER + RESULTS_PER_LEARNER},
           {2 * COURSES_PER_LEARNER + COMPLETIONS_PER_LEARNER + RESULTS_PER_LEARNER} + was_reset,
           began_at + interval '10 days', {COURSES_PER_LEARNER}, {COMPLETIONS_PER_LEARNER}, was_reset
      FROM learner
     CROSS JOIN LATERAL (
           SELECT CASE WHEN number % {RESET_ONE_IN} = 0 THEN 1 ELSE 0 END AS was_reset
           ) AS epochs
"""  # noqa: S608 - our own numbers
