-- Events that were committed with their cause and that another service has not acknowledged yet.
-- Half-empty pages let a lease stay on its page without touching an index (a HOT update); the table is small
-- and changes fast, so it is vacuumed by count, not by share.
CREATE TABLE outbox (
    user_id text NOT NULL,
    event_id uuid NOT NULL,
    topic text NOT NULL,
    payload bytea NOT NULL,
    traceparent text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    available_at timestamptz NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0,
    leased_until timestamptz,
    last_error text,
    parked_at timestamptz,
    CONSTRAINT outbox_event_once PRIMARY KEY (user_id, event_id),
    CONSTRAINT outbox_attempts_not_negative CHECK (attempts >= 0),
    CONSTRAINT outbox_parked_is_not_leased CHECK (parked_at IS NULL OR leased_until IS NULL)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE INDEX outbox_due ON outbox (topic, available_at) WHERE parked_at IS NULL;
CREATE INDEX outbox_parked ON outbox (parked_at) WHERE parked_at IS NOT NULL;
