-- The rows of new sessions, with their first identity check. A type never changes, so it is a new one: the previous
-- version of session_service may still send the rows of `started_session`.
CREATE TYPE started_session_with_checks AS (
    user_id text,
    session_id uuid,
    hold_id uuid,
    test_id text,
    revision integer,
    attempt integer,
    state text,
    title text,
    kind text,
    difficulty text,
    metadata jsonb,
    total integer,
    started_at timestamptz,
    deadline_at timestamptz,
    seed bigint,
    drawn smallint [],
    identity_due_seconds double precision,
    identity_lapse_seconds double precision
);
