-- What a learner has achieved, counted once per session, however often and in whatever order it is told.

-- One row per learner: the totals, and the lock under which they change. Updated in place, hence the room.
CREATE TABLE learner_statistics (
    user_id text NOT NULL,
    completed_sessions integer NOT NULL DEFAULT 0,
    questions_answered integer NOT NULL DEFAULT 0,
    answers integer NOT NULL DEFAULT 0,
    correct integer NOT NULL DEFAULT 0,
    xp integer NOT NULL DEFAULT 0,
    version integer NOT NULL DEFAULT 0,
    updated_at timestamptz,
    CONSTRAINT learner_statistics_one_per_learner PRIMARY KEY (user_id),
    CONSTRAINT learner_statistics_completed_sessions_not_negative CHECK (completed_sessions >= 0),
    CONSTRAINT learner_statistics_questions_answered_not_negative CHECK (questions_answered >= 0),
    CONSTRAINT learner_statistics_correct_within_answers CHECK (correct BETWEEN 0 AND answers),
    CONSTRAINT learner_statistics_xp_not_negative CHECK (xp >= 0),
    CONSTRAINT learner_statistics_versioned_once_changed CHECK (
        version >= 0 AND (version > 0) = (updated_at IS NOT NULL)
    )
) WITH (fillfactor = 70);

-- What each closed session came to, as session_service told it first.
CREATE TABLE session_results (
    user_id text NOT NULL,
    session_id text NOT NULL,
    test_id text NOT NULL,
    specialization text NOT NULL,
    completed boolean NOT NULL,
    answered integer NOT NULL,
    total integer NOT NULL,
    answers integer NOT NULL,
    correct integer NOT NULL,
    score double precision NOT NULL,
    passed boolean NOT NULL,
    xp integer NOT NULL,
    closed_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT session_results_once PRIMARY KEY (user_id, session_id),
    CONSTRAINT session_results_answered_within_answers CHECK (answered BETWEEN 0 AND answers),
    CONSTRAINT session_results_correct_within_answers CHECK (correct BETWEEN 0 AND answers),
    CONSTRAINT session_results_total_not_negative CHECK (total >= 0),
    CONSTRAINT session_results_score_is_a_share CHECK (score BETWEEN 0 AND 1),
    CONSTRAINT session_results_xp_only_when_completed CHECK (xp >= 0 AND (completed OR xp = 0))
);

-- The ledger of XP: append-only, one row per operation that gave some. learner_statistics.xp is its sum.
CREATE TABLE xp_entries (
    user_id text NOT NULL,
    operation_id uuid NOT NULL,
    amount integer NOT NULL,
    specialization text NOT NULL,
    earned_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT xp_entries_once PRIMARY KEY (user_id, operation_id),
    CONSTRAINT xp_entries_amount_positive CHECK (amount > 0)
);

-- The UTC days on which a learner completed a session: a set, so that a streak does not depend on arrival order.
CREATE TABLE activity_days (
    user_id text NOT NULL,
    day date NOT NULL,
    CONSTRAINT activity_days_once PRIMARY KEY (user_id, day)
);
