"""The repair of the order of a course."""

from __future__ import annotations

from chassis.diagnostics.repairs import Repair, Version, planned_by

RESTORE_ORDER = "progress.restore_order"

# The course gets a new revision: processes keep an edition as long as the revision stays. A step of the order
# that is too much ends with the new revision, so what it has opened stays open.
_RESTORE = """
    WITH wanted AS (
        SELECT DISTINCT found.row ->> 'course_id' AS course_id FROM found
    ), ordered AS (
        SELECT place.course_id, place.module_id, place.lesson_id, place.after_module_id, place.after_lesson_id
          FROM (SELECT lesson.course_id, lesson.module_id, lesson.lesson_id,
                       lag(lesson.module_id, 1, '') OVER places AS after_module_id,
                       lag(lesson.lesson_id, 1, '') OVER places AS after_lesson_id
                  FROM wanted
                  JOIN lessons AS lesson ON lesson.course_id = wanted.course_id AND NOT lesson.removed
                WINDOW places AS (PARTITION BY lesson.course_id ORDER BY lesson.position)) AS place
    ), changed AS (
        SELECT course.course_id, 1 AS step, 'courses' AS table_name, to_jsonb(course) AS before,
               to_jsonb(course) || jsonb_build_object(
                   'revision', course.revision + 1, 'updated_at', clock_timestamp(),
                   'total_lessons', (SELECT count(*) FROM ordered
                                      WHERE ordered.course_id = course.course_id)) AS after
          FROM wanted
          JOIN courses AS course ON course.course_id = wanted.course_id
        UNION ALL
        SELECT kept.course_id, 2, 'lesson_successions', to_jsonb(kept),
               to_jsonb(kept) || jsonb_build_object('until_revision', course.revision + 1)
          FROM wanted
          JOIN courses AS course ON course.course_id = wanted.course_id
          JOIN lesson_successions AS kept
            ON kept.course_id = wanted.course_id AND kept.until_revision IS NULL
         WHERE NOT EXISTS (SELECT
                             FROM ordered
                            WHERE ordered.course_id = kept.course_id AND ordered.module_id = kept.module_id
                              AND ordered.lesson_id = kept.lesson_id
                              AND ordered.after_module_id = kept.after_module_id
                              AND ordered.after_lesson_id = kept.after_lesson_id)
        UNION ALL
        SELECT ordered.course_id, 3, 'lesson_successions',
               CASE WHEN ended.course_id IS NOT NULL THEN to_jsonb(ended) END,
               jsonb_build_object(
                   'course_id', ordered.course_id, 'module_id', ordered.module_id,
                   'lesson_id', ordered.lesson_id, 'after_module_id', ordered.after_module_id,
                   'after_lesson_id', ordered.after_lesson_id, 'until_revision', NULL)
          FROM ordered
          LEFT JOIN lesson_successions AS ended
                 ON ended.course_id = ordered.course_id AND ended.module_id = ordered.module_id
                AND ended.lesson_id = ordered.lesson_id
                AND ended.after_module_id = ordered.after_module_id
                AND ended.after_lesson_id = ordered.after_lesson_id
         WHERE ended.course_id IS NULL OR ended.until_revision IS NOT NULL
    )
    SELECT course_id AS unit, '' AS user_id, table_name, before, after
      FROM changed
     ORDER BY course_id, step, after::text
"""

COURSE_REPAIRS = (
    Repair(
        repair_id=RESTORE_ORDER,
        meaning="Restores which lesson follows which, as their places say. Nothing open is locked.",
        tables=("courses", "lesson_successions"),
        plan=planned_by(_RESTORE),
        versions={"courses": Version("revision")},
    ),
)
