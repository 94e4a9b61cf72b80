"""The statements."""

from __future__ import annotations

BODY = """json_build_object(
    'sessionId', session_id, 'userId', user_id, 'testId', test_id, 'title', title, 'kind', kind,
    'difficulty', difficulty, 'state', state, 'resumed', {resumed},
    'startedAt', to_char(started_at AT TIME ZONE 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'attempt', 1, 'questions', '[]'::json, 'answered', 0, 'total', 0, 'engagedSeconds', 0,
    'metadata', metadata, 'version', version)::text"""

# --- A start as one statement -----------------------------------------------------------------------------

# $1 user, $2 test, $3 key, $4 fingerprint, $5 title or NULL, $6 difficulty or NULL, $7 metadata.
# Either everything is written or nothing: a refused unit of quota leaves `started` empty, and a race with the
# same key or the same test trips a primary key or sessions_one_live_per_test, which undoes the statement.
START = f"""
WITH eligible AS MATERIALIZED (
    SELECT a.user_id, p.daily_test_limit, t.test_id, t.kind,
           coalesce($5, t.title) AS title, coalesce($6, t.difficulty) AS difficulty
    FROM accounts a JOIN plans p USING (plan_id) CROSS JOIN tests t
    WHERE a.user_id = $1 AND a.active AND t.test_id = $2
      AND (p.daily_test_limit IS NULL OR p.daily_test_limit > 0)
      AND NOT EXISTS (SELECT FROM idempotency_keys k WHERE k.user_id = $1 AND k.key = $3)
      AND NOT EXISTS (
          SELECT FROM sessions s
          WHERE s.user_id = $1 AND s.test_id = $2 AND s.state IN ('ACTIVE', 'PAUSED'))
), counted AS (
    INSERT INTO daily_usage AS usage (user_id, day, used)
    SELECT user_id, (now() AT TIME ZONE 'utc')::date, 1 FROM eligible
    ON CONFLICT (user_id, day) DO UPDATE SET used = usage.used + 1
        WHERE usage.used < (SELECT coalesce(daily_test_limit, 2147483647) FROM eligible)
    RETURNING user_id
), started AS (
    INSERT INTO sessions (
        session_id, user_id, test_id, title, kind, difficulty, state, started_at, metadata, version)
    SELECT gen_random_uuid(), user_id, test_id, title, kind, difficulty, 'ACTIVE', now(), $7, 1
    FROM eligible JOIN counted USING (user_id)
    RETURNING session_id, user_id, test_id, title, kind, difficulty, state, started_at, metadata, version
)
INSERT INTO idempotency_keys (user_id, key, fingerprint, status, response)
SELECT user_id, $3, $4, 201, {BODY.format(resumed="false")} FROM started
RETURNING response
"""  # noqa: S608  # the only part put together here is the constant above

STORED = "SELECT fingerprint, status, response FROM idempotency_keys WHERE user_id = $1 AND key = $2"

# Stores the answer of a start that found its session under way; no row when there is none.
RESUME = f"""
INSERT INTO idempotency_keys (user_id, key, fingerprint, status, response)
SELECT user_id, $3, $4, 200, {BODY.format(resumed="true")}
FROM sessions WHERE user_id = $1 AND test_id = $2 AND state IN ('ACTIVE', 'PAUSED')
ON CONFLICT (user_id, key) DO NOTHING
RETURNING response
"""  # noqa: S608  # as above

# Why a start wrote nothing, when there is neither a stored answer nor a live session.
REASON = """
SELECT (SELECT active FROM accounts WHERE user_id = $1) AS active,
       EXISTS (SELECT FROM tests WHERE test_id = $2) AS test_exists,
       (SELECT p.daily_test_limit FROM accounts a JOIN plans p USING (plan_id)
        WHERE a.user_id = $1) AS daily_limit,
       coalesce((SELECT used FROM daily_usage
                 WHERE user_id = $1 AND day = (now() AT TIME ZONE 'utc')::date), 0) AS used
"""

# --- A start as a transaction of steps ---------------------------------------------------------------------

LOCK_ACCOUNT = """
SELECT a.active, p.daily_test_limit, now() AS now
FROM accounts a JOIN plans p USING (plan_id) WHERE a.user_id = $1
FOR NO KEY UPDATE OF a
"""

STATE = """
SELECT k.fingerprint, k.status, k.response,
       t.title AS test_title, t.kind AS test_kind, t.difficulty AS test_difficulty,
       s.session_id, s.title, s.kind, s.difficulty, s.state, s.started_at, s.metadata, s.version
FROM accounts a
LEFT JOIN idempotency_keys k ON k.user_id = a.user_id AND k.key = $2
LEFT JOIN tests t ON t.test_id = $3
LEFT JOIN sessions s ON s.user_id = a.user_id AND s.test_id = $3 AND s.state IN ('ACTIVE', 'PAUSED')
WHERE a.user_id = $1
"""

COUNT = """
INSERT INTO daily_usage AS usage (user_id, day, used)
VALUES ($1, (now() AT TIME ZONE 'utc')::date, 1)
ON CONFLICT (user_id, day) DO UPDATE SET used = usage.used + 1
    WHERE usage.used < coalesce($2, 2147483647)
RETURNING used
"""

INSERT_SESSION = """
INSERT INTO sessions (
    user_id, test_id, session_id, title, kind, difficulty, state, started_at, metadata, version)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""

INSERT_KEY = """
INSERT INTO idempotency_keys (user_id, key, fingerprint, status, response) VALUES ($1, $2, $3, $4, $5)
"""
