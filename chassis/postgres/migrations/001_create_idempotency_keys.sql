-- One row per keyed mutation, written in the transaction of its effect: the commit point of the request.
-- An aborted row says that this key never had and never will have an effect.
CREATE TABLE idempotency_keys (
    user_id text NOT NULL,
    method text NOT NULL,
    key text NOT NULL,
    state text NOT NULL,
    fingerprint bytea,
    response bytea,
    traceparent text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT idempotency_keys_once PRIMARY KEY (user_id, method, key),
    CONSTRAINT idempotency_keys_completed_or_aborted CHECK (state IN ('completed', 'aborted')),
    CONSTRAINT idempotency_keys_completed_has_response CHECK (
        (state = 'completed') = (fingerprint IS NOT NULL AND response IS NOT NULL)
    )
);

-- For the purge, which takes the oldest first.
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
