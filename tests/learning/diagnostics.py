"""Whether the totals agree with the rows that they are sums of."""

from __future__ import annotations

from typing import Any

from chassis.postgres import Connection

# One statement, so that totals and rows are those of the same moment.
_DISCREPANCIES = """
    WITH completions AS (
        SELECT user_id, count(*) AS lessons, sum(xp) AS xp FROM lesson_completions GROUP BY user_id
    ), results AS (
        SELECT user_id, sum(xp) AS xp FROM session_results WHERE answered > 0 OR total = 0 GROUP BY user_id
    ), entries AS (
        SELECT user_id, sum(amount) AS xp FROM xp_entries GROUP BY user_id
    ), enrolled AS (
        SELECT user_id, count(*) AS courses, sum(completed_lessons) AS lessons
          FROM enrollments
         GROUP BY user_id
    )
    SELECT totals.user_id, compared.what, compared.stored, compared.counted
      FROM learner_statistics AS totals
      LEFT JOIN completions USING (user_id)
      LEFT JOIN results USING (user_id)
      LEFT JOIN entries USING (user_id)
      LEFT JOIN enrolled USING (user_id)
     CROSS JOIN LATERAL (
           VALUES ('completed_lessons', totals.completed_lessons, coalesce(completions.lessons, 0)),
                  ('completed_lessons of enrollments', coalesce(enrolled.lessons, 0),
                   coalesce(completions.lessons, 0)),
                  ('enrolled', totals.enrolled, coalesce(enrolled.courses, 0)),
                  ('xp', totals.xp, coalesce(entries.xp, 0)),
                  ('xp_entries', coalesce(entries.xp, 0),
                   coalesce(completions.xp, 0) + coalesce(results.xp, 0))
           ) AS compared (what, stored, counted)
     WHERE compared.stored <> compared.counted
     ORDER BY totals.user_id, compared.what
"""


async def discrepancies(connection: Connection) -> list[dict[str, Any]]:
    """The totals that disagree with their rows; without learners whose progress was reset."""
    return [dict(row) for row in await connection.fetch(_DISCREPANCIES)]
