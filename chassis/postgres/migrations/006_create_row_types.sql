-- The rows that a statement with keys takes as one array (`chassis/postgres/idempotency.py`). The type never changes.
CREATE TYPE completed_call AS (
    user_id text,
    method text,
    key text,
    fingerprint bytea,
    response bytea,
    traceparent text,
    content text
);
