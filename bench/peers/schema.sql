-- The one schema of all three peers: each has it in a database of its own.
-- No foreign keys: a start checks its account and its test itself, and a key's check would only slow it down.

CREATE TABLE plans (
    plan_id text PRIMARY KEY,
    daily_test_limit integer CHECK (daily_test_limit >= 0)  -- NULL: unlimited
);

CREATE TABLE accounts (
    user_id text PRIMARY KEY,
    plan_id text NOT NULL,
    active boolean NOT NULL
);

CREATE TABLE tests (
    test_id text PRIMARY KEY,
    title text NOT NULL,
    kind text NOT NULL,
    difficulty text NOT NULL
);

CREATE TABLE daily_usage (
    user_id text NOT NULL,
    day date NOT NULL,
    used integer NOT NULL CHECK (used >= 0),
    PRIMARY KEY (user_id, day)
);

CREATE TABLE sessions (
    session_id uuid NOT NULL,
    user_id text NOT NULL,
    test_id text NOT NULL,
    title text NOT NULL,
    kind text NOT NULL,
    difficulty text NOT NULL,
    state text NOT NULL CHECK (state IN ('ACTIVE', 'PAUSED', 'COMPLETED', 'ABANDONED', 'EXPIRED')),
    started_at timestamptz NOT NULL,
    metadata jsonb NOT NULL,
    version integer NOT NULL,
    PRIMARY KEY (user_id, session_id)
);

CREATE UNIQUE INDEX sessions_one_live_per_test ON sessions (user_id, test_id)
    WHERE state IN ('ACTIVE', 'PAUSED');

CREATE TABLE idempotency_keys (
    user_id text NOT NULL,
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    status smallint NOT NULL,
    response text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, key)
);

INSERT INTO plans (plan_id, daily_test_limit) VALUES ('free', 3);
INSERT INTO tests (test_id, title, kind, difficulty)
VALUES ('bench-01', 'Bench 01', 'PRACTICE', 'medium'),
       ('bench-02', 'Bench 02', 'PRACTICE', 'medium'),
       ('bench-03', 'Bench 03', 'PRACTICE', 'medium'),
       ('bench-04', 'Bench 04', 'PRACTICE', 'medium');
