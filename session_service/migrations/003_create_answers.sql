-- Every answer ever given, never changed: a repeated question gets a higher attempt.
CREATE TABLE answers (
    user_id text NOT NULL,
    session_id uuid NOT NULL,
    question_id text NOT NULL,
    attempt integer NOT NULL,
    choice text NOT NULL,
    correct boolean NOT NULL,
    occurred_at timestamptz,
    answered_at timestamptz NOT NULL,
    CONSTRAINT answers_attempt_once PRIMARY KEY (user_id, session_id, question_id, attempt),
    CONSTRAINT answers_of_session FOREIGN KEY (user_id, session_id) REFERENCES sessions (user_id, session_id),
    CONSTRAINT answers_attempt_positive CHECK (attempt > 0)
);
