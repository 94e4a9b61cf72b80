"""Whether the totals agree with the rows that they are sums of."""

from __future__ import annotations

from dataclasses import dataclass

from chassis.postgres import Connection
from progress_service.domain.statistics import UserId


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """A total of a learner that is not the sum of its rows."""

    user_id: UserId
    total: str
    stored: int
    counted: int


async def read_discrepancies(connection: Connection) -> list[Discrepancy]:
    """The totals that disagree with the results, the lessons, the XP or the active days, learner by learner.

    It reads every row while nobody writes. A level that was granted raises a version, and no row says so:
    then the version is a discrepancy.
    """
    rows = await connection.fetch(
        """
        WITH results AS (
            SELECT user_id,
                   count(*) AS counted,
                   count(*) FILTER (WHERE completed) AS completed,
                   sum(answered) AS answered,
                   sum(answers) AS answers,
                   sum(correct) AS correct,
                   sum(xp) AS xp
              FROM session_results
             WHERE answered > 0 OR total = 0  -- the others do not count
             GROUP BY user_id
        ), lessons AS (
            SELECT user_id, count(*) AS completed, sum(xp) AS xp FROM lesson_completions GROUP BY user_id
        ), enrolled AS (
            SELECT user_id, count(*) AS courses FROM enrollments GROUP BY user_id
        ), entries AS (
            SELECT user_id, sum(amount) AS xp FROM xp_entries GROUP BY user_id
        ), active AS (
            SELECT user_id, count(DISTINCT (acted_at AT TIME ZONE 'utc')::date) AS days
              FROM (SELECT user_id, closed_at AS acted_at
                      FROM session_results
                     WHERE completed AND (answered > 0 OR total = 0)
                     UNION ALL
                    SELECT user_id, occurred_at FROM lesson_completions) AS acted
             GROUP BY user_id
        ), days AS (
            SELECT user_id, count(*) AS days FROM activity_days GROUP BY user_id
        )
        SELECT user_id, compared.total, compared.stored, compared.counted
          FROM learner_statistics AS totals
          FULL JOIN results USING (user_id)
          FULL JOIN entries USING (user_id)
          FULL JOIN lessons USING (user_id)
          FULL JOIN enrolled USING (user_id)
          FULL JOIN active USING (user_id)
          FULL JOIN days USING (user_id)
         CROSS JOIN LATERAL (
               VALUES ('version', coalesce(totals.version, 0),
                                 coalesce(results.counted, 0) + coalesce(lessons.completed, 0)
                                 + coalesce(enrolled.courses, 0) + coalesce(totals.epoch, 0)),
                      ('enrolled', coalesce(totals.enrolled, 0), coalesce(enrolled.courses, 0)),
                      ('completed_lessons',
                       coalesce(totals.completed_lessons, 0), coalesce(lessons.completed, 0)),
                      ('completed_sessions',
                       coalesce(totals.completed_sessions, 0), coalesce(results.completed, 0)),
                      ('questions_answered',
                       coalesce(totals.questions_answered, 0), coalesce(results.answered, 0)),
                      ('answers', coalesce(totals.answers, 0), coalesce(results.answers, 0)),
                      ('correct', coalesce(totals.correct, 0), coalesce(results.correct, 0)),
                      ('xp', coalesce(totals.xp, 0), coalesce(entries.xp, 0)),
                      ('xp_entries',
                       coalesce(entries.xp, 0), coalesce(results.xp, 0) + coalesce(lessons.xp, 0)),
                      ('activity_days', coalesce(days.days, 0), coalesce(active.days, 0))
               ) AS compared (total, stored, counted)
         WHERE compared.stored <> compared.counted
         ORDER BY user_id, compared.total
        """
    )
    rows += await connection.fetch(
        """
        SELECT user_id, 'xp of ' || specialization AS total,
               coalesce(progress.xp, 0) AS stored, coalesce(entries.xp, 0) AS counted
          FROM specialization_progress AS progress
          FULL JOIN (SELECT entry.user_id, entry.specialization, sum(entry.amount) AS xp
                       FROM xp_entries AS entry
                      WHERE entry.specialization <> ''
                        AND entry.epoch = (SELECT coalesce(max(reset.epoch), 0)
                                             FROM progress_resets AS reset
                                            WHERE reset.user_id = entry.user_id
                                              AND (reset.scope = 'all'
                                                   OR (reset.scope = 'specialization'
                                                       AND reset.name = entry.specialization)))
                      GROUP BY entry.user_id, entry.specialization) AS entries
               USING (user_id, specialization)
         WHERE coalesce(progress.xp, 0) <> coalesce(entries.xp, 0)
         ORDER BY user_id, specialization
        """
    )
    return [
        Discrepancy(UserId(row["user_id"]), row["total"], int(row["stored"]), int(row["counted"]))
        for row in rows
    ]
