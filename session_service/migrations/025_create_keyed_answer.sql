-- What an answer writes, in one row: to its session, to `answers` and to `idempotency_keys` (`store/changes.py`). Like
-- the types of migration 021, it never changes.
CREATE TYPE keyed_answer AS (
    user_id text,
    session_id uuid,
    answered integer,
    solved integer,
    answers_given integer,
    answers_correct integer,
    version integer,
    row_version text,
    question_id text,
    attempt integer,
    choice text,
    correct boolean,
    occurred_at timestamptz,
    answered_at timestamptz,
    occurred_at_clamped boolean,
    request_id text,
    trace_id text,
    method text,
    key text,
    fingerprint bytea,
    response bytea,
    traceparent text,
    content text
);
