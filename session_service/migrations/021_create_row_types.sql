-- The rows that starts, answers and moves of sessions take as arrays (`store/starts.py`, `store/changes.py`). A type
-- never changes: the previous version of session_service may still send its rows.
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
CREATE TYPE session_key AS (
    user_id text,
    session_id uuid
);
CREATE TYPE wanted_change AS (
    user_id text,
    method text,
    key text,
    learner_id text,
    session_id uuid,
    question_id text
);
CREATE TYPE changed_session AS (
    user_id text,
    session_id uuid,
    state text,
    deadline_at timestamptz,
    answered integer,
    solved integer,
    answers_given integer,
    answers_correct integer,
    version integer,
    last_answer_at timestamptz,
    submitted_at timestamptz,
    closed_at timestamptz,
    close_reason text,
    score double precision,
    passed boolean,
    paused_at timestamptz,
    pause_until timestamptz,
    paused_seconds double precision,
    seen_at timestamptz,
    lease_check_at timestamptz
);
CREATE TYPE given_answer AS (
    user_id text,
    session_id uuid,
    question_id text,
    attempt integer,
    choice text,
    correct boolean,
    occurred_at timestamptz,
    answered_at timestamptz,
    occurred_at_clamped boolean,
    version integer,
    request_id text,
    trace_id text
);
CREATE TYPE seen_session AS (
    user_id text,
    session_id uuid,
    row_version text
);
