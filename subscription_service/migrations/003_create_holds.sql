-- One row per learner and UTC day; a day without a row reads as zero. A new day is a new row, no job resets it.
-- Both counters change with the holds, in the same statement; half-empty pages keep those updates off the index.
CREATE TABLE daily_usage (
    user_id text NOT NULL,
    day date NOT NULL,
    held integer NOT NULL,
    used integer NOT NULL,
    CONSTRAINT daily_usage_once_per_day PRIMARY KEY (user_id, day),
    CONSTRAINT daily_usage_held_not_negative CHECK (held >= 0),
    CONSTRAINT daily_usage_used_not_negative CHECK (used >= 0)
) WITH (fillfactor = 60);

-- Units of a day's tests, and credits, that are reserved until they are spent (committed) or given back
-- (released). A released row that was never placed is a tombstone: it has no units and refuses a late place.
-- There is no foreign key to accounts: the writer holds the account's row lock, and accounts are never deleted.
CREATE TABLE holds (
    user_id text NOT NULL,
    hold_id uuid NOT NULL,
    state text NOT NULL,
    tests integer NOT NULL,
    credits integer NOT NULL,
    subject text NOT NULL,
    method text NOT NULL,
    idempotency_key text NOT NULL,
    day date NOT NULL,
    placed_at timestamptz NOT NULL,
    resolved_at timestamptz,
    CONSTRAINT holds_once PRIMARY KEY (user_id, hold_id),
    CONSTRAINT holds_state_known CHECK (state IN ('open', 'committed', 'released')),
    CONSTRAINT holds_resolved_or_open CHECK ((state = 'open') = (resolved_at IS NULL)),
    CONSTRAINT holds_tests_not_negative CHECK (tests >= 0),
    CONSTRAINT holds_credits_not_negative CHECK (credits >= 0)
);

CREATE UNIQUE INDEX holds_one_open_per_subject ON holds (user_id, subject) WHERE state = 'open';

-- For a janitor, which takes the oldest first. Its condition says the same as the one above in other words, so
-- that the planner cannot take it for a small index to look up one learner's open holds in (seen: it reads all
-- of it, four times the cost of a whole placement).
CREATE INDEX holds_open_by_age ON holds (method, placed_at, user_id, hold_id) WHERE resolved_at IS NULL;
