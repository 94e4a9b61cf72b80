-- A question becomes a list of versions, so that a session is graded by the content that it began with. A version
-- holds for the revisions from `since_revision` up to, and without, `until_revision`; the current version has none.
-- The rows that exist become the first version of each question: what they said earlier is not known.
--
-- Safe while the previous version of session_service still runs, except for imports. An import by the previous
-- version changes the versions in place; an import by this version makes rows that the previous version cannot
-- tell apart. Import no questions before all replicas run this version.
--
-- `tests.content_version` is kept for the previous version, and no longer used.

ALTER TABLE questions ADD COLUMN since_revision integer NOT NULL DEFAULT 1;
ALTER TABLE questions ADD COLUMN until_revision integer;

-- The new guarantees are there before the earlier, stronger ones go. An index cannot be built concurrently within a
-- transaction; the tables of the catalog are small.
-- squawk-ignore require-concurrent-index-creation
CREATE UNIQUE INDEX questions_version_once ON questions (test_id, question_id, since_revision);
-- squawk-ignore require-concurrent-index-creation
CREATE UNIQUE INDEX questions_current_once ON questions (test_id, question_id) WHERE until_revision IS NULL;
-- squawk-ignore require-concurrent-index-creation
CREATE UNIQUE INDEX questions_current_in_order ON questions (test_id, position) WHERE until_revision IS NULL;
-- squawk-ignore ban-drop-constraint
ALTER TABLE questions DROP CONSTRAINT questions_once;
-- squawk-ignore ban-drop-constraint
ALTER TABLE questions DROP CONSTRAINT questions_in_order;
ALTER TABLE questions ADD CONSTRAINT questions_version_once PRIMARY KEY USING INDEX questions_version_once;

-- Bounds that the contract did not have until now: the earlier values meant "practically none". The constraints are
-- valid at once: the tables are locked already, and one more scan of a small table is short.
UPDATE test_revisions
   SET max_attempts = least(max_attempts, 100000), min_engaged_seconds = least(min_engaged_seconds, 2592000)
 WHERE max_attempts > 100000 OR min_engaged_seconds > 2592000;

-- squawk-ignore constraint-missing-not-valid
ALTER TABLE tests ADD CONSTRAINT tests_bounded CHECK (
    char_length(test_id) BETWEEN 1 AND 128 AND question_total <= 20000
);

-- squawk-ignore constraint-missing-not-valid
ALTER TABLE test_revisions ADD CONSTRAINT test_revisions_bounded CHECK (
    revision > 0 AND question_count <= 1000 AND time_limit_seconds <= 2592000 AND max_attempts <= 100000
    AND credit_cost <= 1000000 AND xp <= 1000000 AND min_engaged_seconds <= 2592000 AND identity_checks <= 20
    AND char_length(title) BETWEEN 1 AND 300 AND char_length(difficulty) <= 50
    AND char_length(specialization) BETWEEN 1 AND 63
);

-- squawk-ignore constraint-missing-not-valid
ALTER TABLE questions ADD CONSTRAINT questions_versions_in_order CHECK (
    since_revision > 0 AND since_revision < until_revision
);

-- squawk-ignore constraint-missing-not-valid
ALTER TABLE questions ADD CONSTRAINT questions_bounded CHECK (
    char_length(question_id) BETWEEN 1 AND 128 AND position BETWEEN 0 AND 19999
    AND char_length(prompt) BETWEEN 1 AND 10000
    AND cardinality(choices) <= 50 AND char_length(array_to_string(choices, '')) <= 100000
    AND cardinality(accepted) <= 500 AND char_length(array_to_string(accepted, '')) <= 1000000
    AND char_length(difficulty) <= 50 AND char_length(subject) <= 100
);
