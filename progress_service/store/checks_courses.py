"""Checks of courses and of learners in them: order, enrollments, rows without their lesson, videos."""

from __future__ import annotations

from chassis.diagnostics.chaining import ChainedWalk
from chassis.diagnostics.checks import Check, SqlWalk
from chassis.diagnostics.findings import Severity
from chassis.postgres import Database
from progress_service.store.history import enrollment_of
from progress_service.store.rebuilding import REBUILD, REMOVE_ORPHANS
from progress_service.store.repairs_courses import RESTORE_ORDER

_OF_LESSON = "user_id text, course_id text, epoch integer, module_id text, lesson_id text"

_ENROLLMENT = f"""
    SELECT step.user_id, jsonb_build_object('user_id', step.user_id, 'course_id', step.course_id) AS row,
           format('%s completed lessons, %s', step.completed_lessons,
                  CASE WHEN step.completed_at IS NULL THEN 'not finished' ELSE 'finished' END) AS observed,
           format('%s completed lessons, %s', done.lessons,
                  CASE WHEN done.finished THEN 'finished'
                       WHEN step.completed_at IS NULL THEN 'not finished'
                       ELSE 'finished' END) AS expected,
           NULL::timestamptz AS since,
           jsonb_build_object('epoch', step.epoch, 'enrolledAt', step.enrolled_at) AS evidence
      FROM step
      JOIN courses AS course ON course.course_id = step.course_id
     {enrollment_of("step")}
     WHERE step.completed_lessons <> done.lessons OR (done.finished AND step.completed_at IS NULL)
"""
_NOT_ENROLLED = """
    SELECT DISTINCT ON (step.user_id, step.course_id)
           step.user_id, jsonb_build_object('user_id', step.user_id, 'course_id', step.course_id) AS row,
           'completed lessons without an enrollment' AS observed, 'an enrollment' AS expected,
           NULL::timestamptz AS since, jsonb_build_object('epoch', step.epoch) AS evidence
      FROM step
      JOIN courses AS course ON course.course_id = step.course_id
     WHERE (SELECT true
              FROM enrollments
             WHERE user_id = step.user_id AND course_id = step.course_id
             LIMIT 1) IS NULL
     ORDER BY step.user_id, step.course_id
"""
_WITHOUT_LESSON = """
    SELECT step.user_id,
           jsonb_build_object('table', '{table}', 'user_id', step.user_id, 'course_id', step.course_id,
                              'epoch', step.epoch, 'module_id', step.module_id, 'lesson_id', step.lesson_id)
               AS row,
           'the course has no such lesson' AS observed, 'a lesson of the course' AS expected,
           NULL::timestamptz AS since, '{{}}'::jsonb AS evidence
      FROM step
     WHERE NOT EXISTS (SELECT
                         FROM lessons AS lesson
                        WHERE lesson.module_id = step.module_id AND lesson.lesson_id = step.lesson_id
                          AND lesson.course_id = step.course_id)
"""
_WITHOUT_COURSE = """
    SELECT step.user_id,
           jsonb_build_object('table', 'enrollments', 'user_id', step.user_id, 'course_id', step.course_id)
               AS row,
           'there is no such course' AS observed, 'a course' AS expected, NULL::timestamptz AS since,
           '{}'::jsonb AS evidence
      FROM step
     WHERE NOT EXISTS (SELECT FROM courses AS course WHERE course.course_id = step.course_id)
"""
# The position of a lesson is its place within the course.
_ORDER = """
    SELECT '' AS user_id, jsonb_build_object('course_id', step.course_id) AS row,
           format('%s lessons; of the order %s steps are missing, %s are too many', step.total_lessons,
                  ordered.missing, ordered.extra) AS observed,
           format('%s lessons, each after the one before it', ordered.lessons) AS expected,
           step.updated_at AS since, jsonb_build_object('revision', step.revision) AS evidence
      FROM step
     CROSS JOIN LATERAL (
           SELECT count(place.module_id) AS lessons,
                  count(*) FILTER (WHERE kept.module_id IS NULL) AS missing,
                  count(*) FILTER (WHERE place.module_id IS NULL) AS extra
             FROM (SELECT module_id, lesson_id,
                          lag(module_id, 1, '') OVER places AS after_module_id,
                          lag(lesson_id, 1, '') OVER places AS after_lesson_id
                     FROM lessons
                    WHERE course_id = step.course_id AND NOT removed
                   WINDOW places AS (ORDER BY position)) AS place
             FULL JOIN (SELECT module_id, lesson_id, after_module_id, after_lesson_id
                          FROM lesson_successions
                         WHERE course_id = step.course_id AND until_revision IS NULL) AS kept
                  USING (module_id, lesson_id, after_module_id, after_lesson_id)
           ) AS ordered
     WHERE ordered.missing > 0 OR ordered.extra > 0 OR ordered.lessons <> step.total_lessons
"""
# A course that was never changed has had these videos from the beginning.
_BEYOND = """
    SELECT step.user_id,
           jsonb_build_object('user_id', step.user_id, 'course_id', step.course_id, 'epoch', step.epoch,
                              'module_id', step.module_id, 'lesson_id', step.lesson_id) AS row,
           format('watched to %s ms', upper(step.ranges)) AS observed,
           format('a video of %s ms', coalesce(round(lesson.video_seconds * 1000), 0)) AS expected,
           step.updated_at AS since, '{}'::jsonb AS evidence
      FROM step
      JOIN courses AS course ON course.course_id = step.course_id AND course.revision = 1
      JOIN lessons AS lesson ON lesson.module_id = step.module_id AND lesson.lesson_id = step.lesson_id
     WHERE upper(step.ranges) > coalesce(round(lesson.video_seconds * 1000), 0)
"""
# What the lesson demanded at the completion is known while the course is as it was then. An import brings
# lessons without XP, and demands nothing.
_TOO_LITTLE = """
    SELECT step.user_id,
           jsonb_build_object('user_id', step.user_id, 'course_id', step.course_id, 'epoch', step.epoch,
                              'module_id', step.module_id, 'lesson_id', step.lesson_id) AS row,
           format('%s of the video watched', round(coalesce(watched.share, 0)::numeric, 3)) AS observed,
           format('at least %s', lesson.min_watched_ratio) AS expected, step.completed_at AS since,
           jsonb_build_object('revision', step.revision) AS evidence
      FROM step
      JOIN courses AS course ON course.course_id = step.course_id AND course.revision = step.revision
      JOIN lessons AS lesson ON lesson.module_id = step.module_id AND lesson.lesson_id = step.lesson_id
      LEFT JOIN LATERAL (
           SELECT sum(upper(part) - lower(part)) / nullif(round(lesson.video_seconds * 1000), 0) AS share
             FROM watched_videos AS video
            CROSS JOIN LATERAL unnest(
                  video.ranges * int4multirange(int4range(0, round(lesson.video_seconds * 1000)::integer))
                  ) AS part
            WHERE video.user_id = step.user_id AND video.course_id = step.course_id
              AND video.epoch = step.epoch AND video.module_id = step.module_id
              AND video.lesson_id = step.lesson_id
           ) AS watched ON true
     WHERE lesson.min_watched_ratio > 0 AND step.xp > 0
       AND coalesce(watched.share, 0) < lesson.min_watched_ratio - 1e-9
"""


def courses_checks(database: Database) -> list[Check]:
    """The checks of courses and of learners in them."""

    def of_lessons(table: str, find: str) -> SqlWalk:
        return SqlWalk(database, table=table, key=_OF_LESSON, find=find)

    return [
        Check(
            check_id="progress.enrollment_totals",
            severity=Severity.HIGH,
            meaning="A course shows the learner another number of completed lessons than there are.",
            repairs=(REBUILD,),
            walk=ChainedWalk(
                [
                    SqlWalk(
                        database, table="enrollments", key="user_id text, course_id text", find=_ENROLLMENT
                    ),
                    of_lessons("lesson_completions", _NOT_ENROLLED),
                ]
            ),
        ),
        Check(
            check_id="progress.orphan",
            severity=Severity.LOW,
            meaning="The learner has something in a lesson or a course that does not exist.",
            repairs=(REMOVE_ORPHANS,),
            walk=ChainedWalk(
                [
                    of_lessons(table, _WITHOUT_LESSON.format(table=table))
                    for table in ("lesson_completions", "watched_videos")
                ]
                + [
                    SqlWalk(
                        database,
                        table="enrollments",
                        key="user_id text, course_id text",
                        find=_WITHOUT_COURSE,
                    )
                ]
            ),
        ),
        Check(
            check_id="progress.course_order",
            severity=Severity.CRITICAL,
            meaning="A lesson of the course stays locked, or is open too early, for everybody in the course.",
            repairs=(RESTORE_ORDER,),
            walk=SqlWalk(database, table="courses", key="course_id text", find=_ORDER, learner=""),
        ),
        Check(
            check_id="progress.watched_beyond_video",
            severity=Severity.LOW,
            meaning="The learner has watched more of a video than there is.",
            advice="What lies behind the end of a video counts for nothing. Look at what the player reports.",
            walk=of_lessons("watched_videos", _BEYOND),
        ),
        Check(
            check_id="progress.watched_too_little",
            severity=Severity.LOW,
            meaning="A lesson counts as completed although too little of its video was watched.",
            advice="Nothing takes a completed lesson back but a reset of the course.",
            walk=of_lessons("lesson_completions", _TOO_LITTLE),
        ),
    ]
