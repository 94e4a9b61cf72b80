-- What a start has drawn: the places of the questions in the pool of the session's revision, in the order in which they
-- are asked, and the seed of the shuffle. Both are absent from a session that asks the questions as they are, so it
-- takes no more room than before. The previous version of session_service makes only such sessions, but it would show
-- the first questions in place of the drawn ones: no test should have more questions than it asks before all replicas
-- run this version.
ALTER TABLE sessions ADD COLUMN seed bigint;
-- The places are below 20,000, the most questions that a test may have.
-- squawk-ignore prefer-bigint-over-smallint
ALTER TABLE sessions ADD COLUMN drawn smallint [];

ALTER TABLE sessions ADD CONSTRAINT sessions_draw_bounded CHECK (
    (seed IS NULL OR drawn IS NOT NULL) AND cardinality(drawn) = total AND cardinality(drawn) BETWEEN 1 AND 1000
    AND 0 <= ALL(drawn) AND 20000 > ALL(drawn)
) NOT VALID;
