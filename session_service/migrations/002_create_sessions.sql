-- A learner's sessions. There is no foreign key to the test: tests are never deleted, and the check would lock a
-- popular test's row in every start.
CREATE TABLE sessions (
    user_id text NOT NULL,
    session_id uuid NOT NULL,
    hold_id uuid NOT NULL,
    test_id text NOT NULL,
    revision integer NOT NULL,
    attempt integer NOT NULL,
    state text NOT NULL,
    title text NOT NULL,
    kind text NOT NULL,
    difficulty text NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    total integer NOT NULL,
    answered integer NOT NULL DEFAULT 0,
    solved integer NOT NULL DEFAULT 0,
    answers_given integer NOT NULL DEFAULT 0,
    answers_correct integer NOT NULL DEFAULT 0,
    version integer NOT NULL DEFAULT 1,
    started_at timestamptz NOT NULL,
    deadline_at timestamptz,
    last_answer_at timestamptz,
    submitted_at timestamptz,
    closed_at timestamptz,
    close_reason text,
    score double precision,
    passed boolean,
    CONSTRAINT sessions_once PRIMARY KEY (user_id, session_id),
    CONSTRAINT sessions_hold_once UNIQUE (user_id, hold_id),
    CONSTRAINT sessions_attempt_once UNIQUE (user_id, test_id, attempt),
    CONSTRAINT sessions_state_known CHECK (state IN ('active', 'paused', 'completed', 'abandoned', 'expired')),
    CONSTRAINT sessions_closed_or_live CHECK (
        (state IN ('active', 'paused')) = (closed_at IS NULL) AND (closed_at IS NULL) = (close_reason IS NULL)
    ),
    CONSTRAINT sessions_submitted_when_completed CHECK ((state = 'completed') = (submitted_at IS NOT NULL)),
    CONSTRAINT sessions_counts_add_up CHECK (
        solved >= 0 AND solved <= answered AND answered <= total
        AND answers_correct >= 0 AND answers_correct <= answers_given AND answered <= answers_given
    ),
    CONSTRAINT sessions_attempt_positive CHECK (attempt > 0),
    CONSTRAINT sessions_score_is_a_share CHECK (score BETWEEN 0 AND 1)
) WITH (fillfactor = 85);  -- room for the answers' counters on the same page, without touching an index

-- Two live sessions of one test would be a ghost: this index is the promise.
CREATE UNIQUE INDEX sessions_one_live_per_test ON sessions (user_id, test_id)
WHERE state IN ('active', 'paused');

-- For the sweep of sessions whose time is over.
CREATE INDEX sessions_overdue ON sessions (deadline_at)
WHERE deadline_at IS NOT NULL AND state IN ('active', 'paused');
