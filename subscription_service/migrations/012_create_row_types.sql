-- The rows that the statements of a placement take as arrays (`store/placing.py`). A type never changes: the
-- previous version of subscription_service may still send its rows.
CREATE TYPE wanted_hold AS (
    user_id text,
    hold_id uuid,
    subject text
);
CREATE TYPE new_hold AS (
    user_id text,
    hold_id uuid,
    tests integer,
    subject text,
    method text,
    idempotency_key text,
    held integer,
    used integer,
    changes integer
);
