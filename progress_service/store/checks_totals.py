"""Checks of totals: statistics, active days and the XP ledger against the history of the learner."""

from __future__ import annotations

from chassis.diagnostics.chaining import ChainedWalk
from chassis.diagnostics.checks import Check, SqlWalk
from chassis.diagnostics.findings import Severity
from chassis.postgres import Database
from progress_service.store.history import days_of, totals_of
from progress_service.store.ledger import LESSONS, RESULTS, LedgerWalk
from progress_service.store.rebuilding import REBUILD

_TOTALS = f"""
    SELECT step.user_id, jsonb_build_object('user_id', step.user_id) AS row, compared.observed,
           compared.expected, NULL::timestamptz AS since,
           jsonb_build_object('version', step.version, 'changedAt', step.updated_at) AS evidence
      FROM step
     {totals_of("step.user_id")}
     CROSS JOIN LATERAL (
           SELECT string_agg(total || ' ' || stored, ', ' ORDER BY total) AS observed,
                  string_agg(total || ' ' || counted, ', ' ORDER BY total) AS expected
             FROM (VALUES ('answers', step.answers, history.answers),
                          ('completed lessons', step.completed_lessons, history.completed_lessons),
                          ('completed sessions', step.completed_sessions, history.completed_sessions),
                          ('correct', step.correct, history.correct),
                          ('enrolled', step.enrolled, history.enrolled),
                          ('questions answered', step.questions_answered, history.questions_answered),
                          ('resets', step.epoch::bigint, history.epoch::bigint),
                          ('xp', step.xp, history.xp)) AS each (total, stored, counted)
            WHERE stored <> counted
           ) AS compared
     WHERE compared.observed IS NOT NULL
"""
_DAYS = f"""
    SELECT step.user_id, jsonb_build_object('user_id', step.user_id) AS row,
           format('%s days are missing, %s have no cause', differing.missing, differing.extra) AS observed,
           'the days of completed sessions and lessons' AS expected, NULL::timestamptz AS since,
           jsonb_build_object('firstDay', differing.first_day) AS evidence
      FROM step
     CROSS JOIN LATERAL (
           SELECT count(*) FILTER (WHERE active.day IS NULL) AS missing,
                  count(*) FILTER (WHERE cause.day IS NULL) AS extra,
                  min(coalesce(active.day, cause.day)) AS first_day
             FROM (SELECT day FROM activity_days WHERE user_id = step.user_id) AS active
             FULL JOIN ({days_of("step.user_id")}) AS cause ON cause.day = active.day
            WHERE active.day IS NULL OR cause.day IS NULL
           ) AS differing
     WHERE differing.missing + differing.extra > 0
"""
# Each LIMIT makes a probe of the primary key of a look, whatever plan was made when the table was small.
_WITHOUT_TOTALS = """
    SELECT DISTINCT ON (step.user_id)
           step.user_id, jsonb_build_object('user_id', step.user_id) AS row, 'no totals' AS observed,
           'totals of all that the learner has' AS expected, NULL::timestamptz AS since,
           jsonb_build_object('table', '%s') AS evidence
      FROM step
     WHERE (SELECT true FROM learner_statistics WHERE user_id = step.user_id LIMIT 1) IS NULL
       %s
     ORDER BY step.user_id
"""
_KEYS_OF_LEARNERS = {
    "session_results": "user_id text, session_id text",
    "xp_entries": "user_id text, operation_id uuid",
    "enrollments": "user_id text, course_id text",
    "specialization_progress": "user_id text, specialization text",
    "progress_resets": "user_id text, epoch integer",
}


def _without_totals(table: str) -> str:
    """Learners without totals in a table; those that an earlier table has are told there."""
    tables = list(_KEYS_OF_LEARNERS)
    told = (
        f"AND (SELECT true FROM {each} AS told WHERE told.user_id = step.user_id LIMIT 1) IS NULL"
        for each in tables[: tables.index(table)]
    )
    return _WITHOUT_TOTALS % (table, " ".join(told))


def totals_checks(database: Database) -> list[Check]:
    """The checks of totals. Totals and history change in one transaction, so no age is needed."""
    learners = "learner_statistics"
    return [
        Check(
            check_id="progress.totals",
            severity=Severity.HIGH,
            meaning="The learner's statistics or XP are not what the learner has done.",
            repairs=(REBUILD,),
            walk=SqlWalk(database, table=learners, key="user_id text", find=_TOTALS),
        ),
        Check(
            check_id="progress.active_days",
            severity=Severity.MEDIUM,
            meaning="The learner's streak is too short or too long.",
            repairs=(REBUILD,),
            walk=SqlWalk(database, table=learners, key="user_id text", find=_DAYS),
        ),
        Check(
            check_id="progress.without_totals",
            severity=Severity.CRITICAL,
            meaning="The learner's statistics are gone: all of them are shown as zero.",
            repairs=(REBUILD,),
            walk=ChainedWalk(
                [
                    SqlWalk(database, table=table, key=key, find=_without_totals(table))
                    for table, key in _KEYS_OF_LEARNERS.items()
                ]
            ),
        ),
        Check(
            check_id="progress.unpaid_result",
            severity=Severity.HIGH,
            meaning="The learner has not got the XP of a session.",
            repairs=(REBUILD,),
            walk=LedgerWalk(database, RESULTS),
        ),
        Check(
            check_id="progress.unpaid_lesson",
            severity=Severity.HIGH,
            meaning="The learner has not got the XP of a lesson.",
            repairs=(REBUILD,),
            walk=LedgerWalk(database, LESSONS),
        ),
    ]
