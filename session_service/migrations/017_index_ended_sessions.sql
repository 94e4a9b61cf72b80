-- The indexes on ended sessions cost one entry each when a session ends, and nothing when it starts or is answered: a
-- live session is in neither, and no column that an answer changes is in them.
--
-- For the results of a test, which go along its learners. It is the one index that does not begin with the learner;
-- on Citus such a report asks each shard, and each shard answers from this index.
-- A migration is one transaction, so an index cannot be built concurrently. Writes wait while the table is read once.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX sessions_ended_of_test ON sessions (test_id, user_id)
WHERE state IN ('abandoned', 'completed', 'expired');

-- For the purge, which goes along the ends of sessions.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX sessions_ended_by_time ON sessions (closed_at, user_id, session_id)
WHERE state IN ('abandoned', 'completed', 'expired');

-- Up to which end of a session the purge of `answers` or of `session_events` has come. It only moves forward.
CREATE TABLE purge_watermarks (
    table_name text NOT NULL,
    closed_at timestamptz NOT NULL,
    user_id text NOT NULL,
    session_id uuid NOT NULL,
    CONSTRAINT purge_watermarks_once PRIMARY KEY (table_name),
    CONSTRAINT purge_watermarks_time_in_range CHECK (closed_at >= '2000-01-01' AND closed_at < '2100-01-01')
);
