"""What the history of a learner comes to: parts of statements that checks compare with, and repairs write.

The ledger, the results, the completions and the resets are the history. All else is computed from them.
"""

from __future__ import annotations

# A result that counts, see `SessionResult.counts`.
_COUNTS = "(result.answered > 0 OR result.total = 0)"


def completions_of(learner: str) -> str:
    """The rows of completions whose lesson exists, of the learner in this expression, as a SELECT."""
    return f"""
        SELECT completion.course_id, completion.epoch, completion.module_id, completion.lesson_id,
               completion.revision, completion.occurred_at, completion.completed_at, lesson.removed
          FROM lesson_completions AS completion
          JOIN lessons AS lesson
            ON lesson.module_id = completion.module_id AND lesson.lesson_id = completion.lesson_id
           AND lesson.course_id = completion.course_id
         WHERE completion.user_id = {learner}
    """


def epoch_of(learner: str, specialization: str) -> str:
    """The epoch of a learner's specialization: that of the last reset that covers it."""
    return f"""
        (SELECT coalesce(max(reset.epoch), 0)
           FROM progress_resets AS reset
          WHERE reset.user_id = {learner}
            AND (reset.scope = 'all' OR (reset.scope = 'specialization' AND reset.name = {specialization})))
    """


def totals_of(learner: str) -> str:
    """The totals of a learner by the history, as one row that is joined.

    Each operation that counted has raised the learner's version, so it is at least `operations`.
    """
    return f"""
        CROSS JOIN LATERAL (
            SELECT ledger.xp, results.completed_sessions, results.questions_answered, results.answers,
                   results.correct, courses.enrolled, lessons.completed_lessons, resets.epoch,
                   results.counted + courses.enrolled + lessons.completed_lessons + resets.epoch AS operations
              FROM (SELECT count(*) AS counted,
                           count(*) FILTER (WHERE result.completed) AS completed_sessions,
                           coalesce(sum(result.answered), 0) AS questions_answered,
                           coalesce(sum(result.answers), 0) AS answers,
                           coalesce(sum(result.correct), 0) AS correct
                      FROM session_results AS result
                     WHERE result.user_id = {learner} AND {_COUNTS}) AS results
             CROSS JOIN (SELECT coalesce(sum(entry.amount), 0)::bigint AS xp
                           FROM xp_entries AS entry
                          WHERE entry.user_id = {learner}) AS ledger
             CROSS JOIN (SELECT count(*) AS completed_lessons
                           FROM ({completions_of(learner)}) AS completion) AS lessons
             CROSS JOIN (SELECT count(*) AS enrolled
                           FROM (SELECT enrollment.course_id
                                   FROM enrollments AS enrollment
                                   JOIN courses AS course ON course.course_id = enrollment.course_id
                                  WHERE enrollment.user_id = {learner}
                                  UNION
                                 SELECT course_id FROM ({completions_of(learner)}) AS completion
                                ) AS course) AS courses
             CROSS JOIN (SELECT coalesce(max(reset.epoch), 0) AS epoch
                           FROM progress_resets AS reset
                          WHERE reset.user_id = {learner}) AS resets
        ) AS history
    """


def days_of(learner: str) -> str:
    """The UTC days on which a learner was active by the history, as a SELECT of `day`."""
    return f"""
        SELECT (result.closed_at AT TIME ZONE 'utc')::date AS day
          FROM session_results AS result
         WHERE result.user_id = {learner} AND result.completed AND {_COUNTS}
         UNION
        SELECT (completion.occurred_at AT TIME ZONE 'utc')::date
          FROM ({completions_of(learner)}) AS completion
    """


def gained_by(learner: str) -> str:
    """A learner's XP by specialization in the current epochs, by the ledger, as a SELECT."""
    return f"""
        SELECT entered.specialization, entered.xp, entered.epoch
          FROM (SELECT entry.specialization, entry.epoch, sum(entry.amount)::bigint AS xp
                  FROM xp_entries AS entry
                 WHERE entry.user_id = {learner} AND entry.specialization <> ''
                 GROUP BY entry.specialization, entry.epoch) AS entered
         WHERE entered.epoch = {epoch_of(learner, "entered.specialization")}
    """


def enrollment_of(enrollment: str) -> str:
    """What an enrollment must be by its completions, as one row that is joined.

    `finished` says that it must have an end: all that is on offer was completed while the course was as it
    is. A course that loses lessons ends an enrollment with the learner's next step only.
    """
    return f"""
        CROSS JOIN LATERAL (
            SELECT count(*)::integer AS lessons, max(completion.completed_at) AS last_at,
                   coalesce(max(completion.revision) = course.revision
                            AND count(*) FILTER (WHERE NOT completion.removed) = course.total_lessons,
                            false) AS finished
              FROM ({completions_of(f"{enrollment}.user_id")}) AS completion
             WHERE completion.course_id = {enrollment}.course_id AND completion.epoch = {enrollment}.epoch
        ) AS done
    """
