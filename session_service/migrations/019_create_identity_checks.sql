-- When the next identity check of a session comes and when it lapses, in seconds of the session's own time, and
-- since when the session is locked. A session that asks no further check has no times. Answers and completions
-- read these columns of the row that they have locked anyway.
ALTER TABLE sessions ADD COLUMN identity_due_seconds double precision;
ALTER TABLE sessions ADD COLUMN identity_lapse_seconds double precision;
ALTER TABLE sessions ADD COLUMN identity_locked_at timestamptz;
ALTER TABLE sessions ADD CONSTRAINT sessions_identity_check_lapses_after_it_is_due CHECK (
    (identity_due_seconds IS NULL) = (identity_lapse_seconds IS NULL)
    AND identity_due_seconds >= 0 AND identity_lapse_seconds > identity_due_seconds
    AND identity_lapse_seconds <= 1e9
) NOT VALID;
ALTER TABLE sessions ADD CONSTRAINT sessions_identity_locked_in_range CHECK (
    identity_locked_at >= '2000-01-01' AND identity_locked_at < '2100-01-01'
) NOT VALID;

-- One row per learner who has enrolled. It is also the lock of the learner's identity checks.
CREATE TABLE identity_enrollments (
    user_id text NOT NULL,
    version integer NOT NULL,
    enrolled_at timestamptz NOT NULL,
    request_id text NOT NULL,
    CONSTRAINT identity_enrollments_once PRIMARY KEY (user_id),
    CONSTRAINT identity_enrollments_bounded CHECK (
        char_length(user_id) BETWEEN 1 AND 128 AND version >= 1 AND char_length(request_id) <= 255
        AND enrolled_at >= '2000-01-01' AND enrolled_at < '2100-01-01'
    )
);

-- What a learner is asked. The answer is stored as a salted scrypt hash, never as text; `cost` has the parameters of
-- the hash, so that they can grow.
CREATE TABLE identity_questions (
    user_id text NOT NULL,
    position integer NOT NULL,
    prompt text NOT NULL,
    salt bytea NOT NULL,
    digest bytea NOT NULL,
    cost text NOT NULL,
    CONSTRAINT identity_questions_once PRIMARY KEY (user_id, position),
    CONSTRAINT identity_questions_of_enrollment FOREIGN KEY (user_id) REFERENCES identity_enrollments (user_id),
    CONSTRAINT identity_questions_bounded CHECK (
        position BETWEEN 1 AND 10 AND char_length(prompt) BETWEEN 1 AND 300
        AND octet_length(salt) = 16 AND octet_length(digest) = 32 AND char_length(cost) BETWEEN 1 AND 40
    )
);

-- All that happened to identity checks, append-only: each try, each lapse, each release. It never holds an answer.
-- The key and the bound of `step` are the promise that a check counts three tries at most.
CREATE TABLE identity_events (
    user_id text NOT NULL,
    session_id uuid NOT NULL,
    check_number integer NOT NULL,
    step integer NOT NULL,
    kind text NOT NULL,
    by_user text NOT NULL,
    reason text NOT NULL,
    request_id text NOT NULL,
    recorded_at timestamptz NOT NULL,
    CONSTRAINT identity_events_step_once PRIMARY KEY (user_id, session_id, check_number, step),
    CONSTRAINT identity_events_of_session FOREIGN KEY (user_id, session_id)
    REFERENCES sessions (user_id, session_id),
    CONSTRAINT identity_events_kind_known CHECK (kind IN ('passed', 'failed', 'lapsed', 'released')),
    CONSTRAINT identity_events_three_tries CHECK (
        check_number >= 1 AND step BETWEEN 1 AND CASE kind WHEN 'released' THEN 4 ELSE 3 END
    ),
    CONSTRAINT identity_events_bounded CHECK (
        char_length(by_user) <= 128 AND char_length(reason) <= 500 AND char_length(request_id) <= 255
        AND recorded_at >= '2000-01-01' AND recorded_at < '2100-01-01'
    ),
    CONSTRAINT identity_events_release_has_a_reason CHECK ((kind = 'released') = (reason <> ''))
);

-- For the bound on the wrong answers of a learner in a day, over all sessions.
CREATE INDEX identity_events_failed ON identity_events (user_id, recorded_at) WHERE kind = 'failed';
