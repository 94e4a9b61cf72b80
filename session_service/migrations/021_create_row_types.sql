-- The rows that the statements of a start take as arrays (`store/starts.py`). A type never changes: the previous
-- version of session_service may still send its rows.
CREATE TYPE wanted_start AS (
    user_id text,
    method text,
    key text,
    test_id text
);
CREATE TYPE started_session AS (
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
    identity_lapse_seconds double precision,
    attempts_before integer,
    start_request_id text,
    start_trace_id text
);
