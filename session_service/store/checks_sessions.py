"""The checks of sessions and answers that one statement makes for each step."""

from __future__ import annotations

from datetime import timedelta

from chassis.diagnostics.checks import SqlWalk
from chassis.postgres import Database
from session_service.domain.sessions import CloseReason
from session_service.domain.timeline import ENDS
from session_service.store.catalog_rows import HOLDS_FOR_REVISION
from session_service.store.session_rows import ENDED, LIVE, USES_ATTEMPT

SESSION_KEY = "user_id text, session_id uuid"
ANSWER_KEY = "user_id text, session_id uuid, question_id text, attempt integer"
# What two clocks of one database may differ by after it has moved to another machine.
CLOCK_SECONDS_MAX = 5.0


def without_end_marks(database: Database) -> SqlWalk:
    """Sessions whose state says other than their end: the time, the reason, the submission."""
    return SqlWalk(database, table="sessions", key=SESSION_KEY, find=_WITHOUT_END_MARKS)


def without_questions(database: Database) -> SqlWalk:
    """Sessions whose questions are not there, or are not as many as the session says."""
    return SqlWalk(database, table="sessions", key=SESSION_KEY, find=_WITHOUT_QUESTIONS)


def wrong_counters(database: Database, retention: timedelta) -> SqlWalk:
    """Sessions whose counts and score are not those of their answers. `retention` is that of the answers."""
    find = _WRONG_COUNTERS.replace("{kept}", history_is_kept("step", retention))
    return SqlWalk(database, table="sessions", key=SESSION_KEY, find=find)


def answer_gaps(database: Database, retention: timedelta) -> SqlWalk:
    """Questions whose answers are not numbered from 1 without gaps."""
    find = _ANSWER_GAPS.replace("{kept}", history_is_kept("step", retention))
    return SqlWalk(database, table="sessions", key=SESSION_KEY, find=find)


def attempt_gaps(database: Database) -> SqlWalk:
    """Sessions whose number is not the next one of their learner and test."""
    key = "user_id text, test_id text, attempt integer, session_id uuid"
    return SqlWalk(database, table="sessions", key=key, find=_ATTEMPT_GAPS)


def late_answers(database: Database) -> SqlWalk:
    """Answers that were taken after the end of their session."""
    return SqlWalk(database, table="answers", key=ANSWER_KEY, find=_LATE_ANSWERS)


def orphaned(database: Database, table: str, key: str) -> SqlWalk:
    """Rows of a table that name a session that does not exist. `key` is the primary key, with types."""
    named = ", ".join(f"'{column.split()[0]}', {column.split()[0]}" for column in key.split(","))
    return SqlWalk(
        database,
        table=table,
        key=key,
        find=f"""
            SELECT user_id, jsonb_build_object({named}) AS row, 'no such session' AS observed,
                   'a session' AS expected, NULL::timestamptz AS since, '{{}}'::jsonb AS evidence
              FROM step
             WHERE NOT EXISTS (
                   SELECT 1
                     FROM sessions
                    WHERE sessions.user_id = step.user_id AND sessions.session_id = step.session_id)
        """,
    )


def history_is_kept(session: str, retention: timedelta) -> str:
    """The condition that no answer of a session can have been purged."""
    return f"""
        ({session}.closed_at IS NULL
         OR ({session}.closed_at > clock_timestamp() - interval '{retention.total_seconds():.0f} s'
             AND NOT EXISTS (
                 SELECT 1
                   FROM purge_watermarks AS purged
                  WHERE purged.table_name = 'answers'
                    AND ({session}.closed_at, {session}.user_id, {session}.session_id)
                        <= (purged.closed_at, purged.user_id, purged.session_id))))
    """


_SESSION = "jsonb_build_object('user_id', step.user_id, 'session_id', step.session_id) AS row"
_SINCE = "coalesce(step.closed_at, step.last_answer_at, step.started_at) AS since"

_WITHOUT_END_MARKS = f"""
    SELECT step.user_id, {_SESSION},
           format('%s, closed %s, reason %s, submitted %s', state, coalesce(closed_at::text, 'never'),
                  coalesce(close_reason, 'none'), coalesce(submitted_at::text, 'never')) AS observed,
           CASE WHEN {LIVE} THEN 'no end, or an ended state'
                ELSE 'a time and a reason of the end'
           END AS expected,
           {_SINCE}, jsonb_build_object('testId', test_id, 'answered', answered) AS evidence
      FROM step
     WHERE ({LIVE}) <> (closed_at IS NULL) OR (closed_at IS NULL) <> (close_reason IS NULL)
        OR (state = 'completed') <> (submitted_at IS NOT NULL) OR NOT ({LIVE} OR {ENDED})
"""

# The revisions of a step are few, and each is looked at once.
_WITHOUT_QUESTIONS = f"""
    SELECT step.user_id, {_SESSION},
           CASE WHEN revisions.revision IS NULL THEN 'no such revision'
                ELSE format('%s questions', step.total)
           END AS observed,
           CASE WHEN revisions.revision IS NULL THEN 'the revision that the session began with'
                ELSE format('%s questions, of a pool of %s', coalesce(cardinality(step.drawn), asked), pool)
           END AS expected,
           step.started_at AS since,
           jsonb_build_object('testId', step.test_id, 'revision', step.revision, 'state', step.state,
                              'asked', asked, 'found', found) AS evidence
      FROM step
      LEFT JOIN (
           SELECT revisions.test_id, revisions.revision, cardinality(revisions.question_ids) AS asked,
                  counted.pool, counted.found
             FROM (SELECT DISTINCT test_id, revision FROM step) AS wanted
             JOIN test_revisions AS revisions USING (test_id, revision)
            CROSS JOIN LATERAL (
                  SELECT count(*) AS pool,
                         count(*) FILTER (WHERE question_id = ANY (revisions.question_ids)) AS found
                    FROM questions
                   WHERE questions.test_id = revisions.test_id AND {HOLDS_FOR_REVISION}
                  ) AS counted
           ) AS revisions ON revisions.test_id = step.test_id AND revisions.revision = step.revision
     WHERE revisions.revision IS NULL OR found < asked
        OR step.total <> coalesce(cardinality(step.drawn), asked)
        OR EXISTS (SELECT 1 FROM unnest(step.drawn) AS place WHERE place >= pool)
"""

_WRONG_COUNTERS = f"""
    SELECT step.user_id, {_SESSION},
           format('answered %s, right %s, answers %s, right answers %s, score %s', step.answered, step.solved,
                  step.answers_given, step.answers_correct, coalesce(step.score::text, 'none')) AS observed,
           format('answered %s, right %s, answers %s, right answers %s, score %s', history.answered,
                  history.solved, history.given, history.correct, coalesce(due.score::text, 'none'))
               AS expected,
           {_SINCE}, jsonb_build_object('testId', step.test_id, 'state', step.state) AS evidence
      FROM step
     CROSS JOIN LATERAL (
           SELECT count(*) AS given, count(*) FILTER (WHERE correct) AS correct,
                  count(*) FILTER (WHERE latest) AS answered,
                  count(*) FILTER (WHERE latest AND correct) AS solved
             FROM (
                  SELECT correct, attempt = max(attempt) OVER (PARTITION BY question_id) AS latest
                    FROM answers
                   WHERE answers.user_id = step.user_id AND answers.session_id = step.session_id
                  ) AS answer
           ) AS history
     CROSS JOIN LATERAL (
           SELECT CASE WHEN step.closed_at IS NOT NULL AND step.total > 0
                       THEN history.solved::float8 / step.total
                  END AS score
           ) AS due
     WHERE ((step.answered, step.solved, step.answers_given, step.answers_correct)
            <> (history.answered, history.solved, history.given, history.correct)
            OR (due.score IS NULL) <> (step.score IS NULL) OR abs(due.score - step.score) > 1e-9)
       AND {{kept}}
"""

_ANSWER_GAPS = f"""
    SELECT step.user_id,
           jsonb_build_object('user_id', step.user_id, 'session_id', step.session_id,
                              'question_id', question.question_id) AS row,
           format('%s answers, numbered %s to %s', given, earliest, latest) AS observed,
           format('numbered 1 to %s', given) AS expected, {_SINCE},
           jsonb_build_object('testId', step.test_id, 'state', step.state) AS evidence
      FROM step
     CROSS JOIN LATERAL (
           SELECT question_id, count(*) AS given, min(attempt) AS earliest, max(attempt) AS latest
             FROM answers
            WHERE answers.user_id = step.user_id AND answers.session_id = step.session_id
            GROUP BY question_id
           HAVING max(attempt) <> count(*) OR min(attempt) <> 1
           ) AS question
     WHERE {{kept}}
"""

# Each session is compared with the one before it, by a look into the index that the walk goes along.
_ATTEMPT_GAPS = f"""
    SELECT step.user_id, {_SESSION},
           format('attempt %s, after %s that count', step.attempt,
                  coalesce(step.attempts_before::text, 'an unknown number')) AS observed,
           CASE WHEN twin.attempt IS NOT NULL THEN 'a number of its own'
                WHEN step.attempt > 1 AND earlier.attempt IS NULL THEN 'the number after the one before'
                ELSE format('after %s that count', coalesce(earlier.attempts_before + earlier.counts, 0))
           END AS expected,
           step.started_at AS since,
           jsonb_build_object('testId', step.test_id, 'state', step.state) AS evidence
      FROM step
      LEFT JOIN LATERAL (
           SELECT attempt, attempts_before, ({USES_ATTEMPT})::integer AS counts, {ENDED} AS ended
             FROM sessions
            WHERE sessions.user_id = step.user_id AND sessions.test_id = step.test_id
              AND sessions.attempt = step.attempt - 1
            LIMIT 1
           ) AS earlier ON true
      LEFT JOIN LATERAL (
           SELECT attempt
             FROM sessions
            WHERE sessions.user_id = step.user_id AND sessions.test_id = step.test_id
              AND sessions.attempt = step.attempt AND sessions.session_id < step.session_id
            LIMIT 1
           ) AS twin ON true
     WHERE twin.attempt IS NOT NULL
        OR (step.attempt > 1 AND earlier.attempt IS NULL)
        OR (step.attempt = 1 AND step.attempts_before <> 0)
        OR (earlier.ended AND step.attempts_before <> earlier.attempts_before + earlier.counts)
"""

_LATE_ANSWERS = f"""
    SELECT step.user_id,
           jsonb_build_object('user_id', step.user_id, 'session_id', step.session_id,
                              'question_id', step.question_id, 'attempt', step.attempt) AS row,
           format('taken at %s', step.answered_at) AS observed,
           format('before the end at %s', ended.closed_at) AS expected, step.answered_at AS since,
           jsonb_build_object('state', ended.state, 'reason', ended.close_reason,
                              'version', step.version, 'versionAtEnd', ended.version) AS evidence
      FROM step
     CROSS JOIN LATERAL (
           SELECT state, close_reason, closed_at, version
             FROM sessions
            WHERE sessions.user_id = step.user_id AND sessions.session_id = step.session_id AND {ENDED}
            LIMIT 1
           ) AS ended
     WHERE step.answered_at > ended.closed_at + interval '{CLOCK_SECONDS_MAX} s'
        OR step.version >= ended.version
"""

_KNOWN_REASONS = ", ".join(f"'{reason}'" for reason in CloseReason)
_ENDS = ", ".join(f"'{kind}'" for kind in sorted(ENDS))
END_FROM_TIMELINE = f"""
    SELECT DISTINCT ON (session.user_id, session.session_id)
           session.session_id::text AS unit, session.user_id, 'sessions' AS table_name,
           to_jsonb(session) AS before,
           to_jsonb(session) || CASE
               WHEN session.{LIVE} AND ended.kind IS NULL
               THEN jsonb_build_object('closed_at', NULL, 'close_reason', NULL, 'submitted_at', NULL,
                                       'score', NULL, 'passed', NULL)
               ELSE jsonb_build_object(
                   'state', due.state, 'closed_at', due.closed_at,
                   'close_reason', coalesce(session.close_reason, ended.reason,
                                            CASE due.state WHEN 'completed' THEN 'submitted'
                                                           WHEN 'abandoned' THEN 'learner_left'
                                                           ELSE CASE WHEN session.deadline_at IS NULL
                                                                     THEN 'lease_lost'
                                                                     ELSE 'timed_out'
                                                                END
                                            END),
                   'submitted_at', CASE WHEN due.state = 'completed'
                                        THEN coalesce(session.submitted_at, due.closed_at)
                                   END)
           END AS after
      FROM found
     CROSS JOIN LATERAL (
           SELECT *
             FROM sessions
            WHERE sessions.user_id = found.user_id
              AND sessions.session_id = (found.row ->> 'session_id')::uuid
              AND ({LIVE} OR {ENDED})
            LIMIT 1
           ) AS session
      LEFT JOIN LATERAL (
           SELECT kind, happened_at, CASE WHEN reason IN ({_KNOWN_REASONS}) THEN reason END AS reason
             FROM session_events
            WHERE session_events.user_id = session.user_id
              AND session_events.session_id = session.session_id AND kind IN ({_ENDS})
            ORDER BY version DESC, number DESC
            LIMIT 1
           ) AS ended ON true
     CROSS JOIN LATERAL (
           SELECT CASE WHEN session.{LIVE} THEN ended.kind ELSE session.state END AS state,
                  coalesce(session.closed_at, ended.happened_at, session.submitted_at,
                           greatest(session.last_answer_at, session.started_at)) AS closed_at
           ) AS due
     ORDER BY session.user_id, session.session_id
"""
"""Plans the end that the timeline tells, for sessions whose state and end disagree."""

RENUMBERED = f"""
    SELECT numbered.user_id || '/' || numbered.test_id AS unit, numbered.user_id,
           'sessions' AS table_name, numbered.before,
           numbered.before || jsonb_build_object(
               'attempt', numbered.number,
               'attempts_before', CASE WHEN numbered.before ->> 'attempts_before' IS NOT NULL
                                       THEN numbered.counting
                                  END) AS after
      FROM (
           SELECT DISTINCT found.user_id, session.test_id
             FROM found
             JOIN sessions AS session
               ON session.user_id = found.user_id
              AND session.session_id = (found.row ->> 'session_id')::uuid
           ) AS wanted
     CROSS JOIN LATERAL (
           SELECT session.user_id, session.test_id, to_jsonb(session) AS before,
                  row_number() OVER told AS number,
                  coalesce(sum(({USES_ATTEMPT})::integer)
                               OVER (told ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS counting
             FROM sessions AS session
            WHERE session.user_id = wanted.user_id AND session.test_id = wanted.test_id
           WINDOW told AS (ORDER BY session.attempt, session.started_at, session.session_id)
           ) AS numbered
     ORDER BY numbered.user_id, numbered.test_id, numbered.number
"""
"""Plans the numbers of a learner's sessions of a test, in their order, without gaps."""

_ORPHANS = (
    ("answers", "question_id text, attempt integer"),
    ("session_events", "version integer, number integer"),
    ("identity_events", "check_number integer, step integer"),
)


def _orphans_of(table: str, rest: str) -> str:
    columns = [column.split() for column in rest.split(",")]
    same = " AND ".join(f"kept.{name} = (found.row ->> '{name}')::{kind}" for name, kind in columns)
    present = " AND ".join(f"found.row ? '{name}'" for name, _ in columns)
    return f"""
        SELECT kept.user_id || '/' || kept.session_id AS unit, kept.user_id, '{table}' AS table_name,
               to_jsonb(kept) AS before, NULL::jsonb AS after
          FROM found
          JOIN {table} AS kept
            ON kept.user_id = found.user_id AND kept.session_id = (found.row ->> 'session_id')::uuid
           AND {same}
         WHERE {present}
    """


REMOVED_ORPHANS = " UNION ALL ".join(
    [
        *(_orphans_of(table, rest) for table, rest in _ORPHANS),
        """
        SELECT kept.user_id || '/' || kept.method || '/' || kept.key, kept.user_id, 'idempotency_keys',
               to_jsonb(kept), NULL::jsonb
          FROM found
          JOIN idempotency_keys AS kept
            ON kept.user_id = found.user_id AND kept.method = found.row ->> 'method'
           AND kept.key = found.row ->> 'key'
        """,
    ]
)
"""Plans the removal of rows that name a session that does not exist."""
