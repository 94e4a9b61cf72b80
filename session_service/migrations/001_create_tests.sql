-- The tests that learners may start. `revision` names the definition that the next start uses; `content_version`
-- grows with every change, also of a question's text.
CREATE TABLE tests (
    test_id text NOT NULL,
    revision integer NOT NULL DEFAULT 0,
    content_version integer NOT NULL DEFAULT 0,
    question_total integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT tests_once PRIMARY KEY (test_id),
    CONSTRAINT tests_counts_not_negative CHECK (
        revision >= 0 AND content_version >= 0 AND question_total >= 0
    )
);

-- What a test was when a session of it began: never changed, so that sessions under way keep it.
CREATE TABLE test_revisions (
    test_id text NOT NULL,
    revision integer NOT NULL,
    title text NOT NULL,
    kind text NOT NULL,
    difficulty text NOT NULL,
    question_count integer NOT NULL,
    time_limit_seconds integer,
    max_attempts integer,
    credit_cost integer NOT NULL,
    counts_toward_daily_limit boolean NOT NULL,
    pass_score double precision,
    specialization text,
    xp integer,
    min_engaged_seconds integer,
    identity_checks integer,
    question_ids text [] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT test_revisions_once PRIMARY KEY (test_id, revision),
    CONSTRAINT test_revisions_of_test FOREIGN KEY (test_id) REFERENCES tests (test_id),
    CONSTRAINT test_revisions_kind_known CHECK (
        kind IN ('practice', 'mock', 'quiz', 'compliance', 'interview')
    ),
    CONSTRAINT test_revisions_limits_in_range CHECK (
        question_count >= 0 AND credit_cost >= 0 AND time_limit_seconds > 0 AND max_attempts > 0
        AND pass_score BETWEEN 0 AND 1 AND xp >= 0 AND min_engaged_seconds >= 0 AND identity_checks >= 0
    ),
    CONSTRAINT test_revisions_ask_at_most_question_count CHECK (cardinality(question_ids) <= question_count)
);

CREATE TABLE questions (
    test_id text NOT NULL,
    question_id text NOT NULL,
    position integer NOT NULL,
    prompt text NOT NULL,
    choices text [] NOT NULL,
    accepted text [] NOT NULL,
    difficulty text,
    subject text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT questions_once PRIMARY KEY (test_id, question_id),
    CONSTRAINT questions_in_order UNIQUE (test_id, position),
    CONSTRAINT questions_of_test FOREIGN KEY (test_id) REFERENCES tests (test_id),
    CONSTRAINT questions_can_be_answered CHECK (cardinality(accepted) > 0)
);
