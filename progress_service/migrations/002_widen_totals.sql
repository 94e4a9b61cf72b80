-- squawk-ignore-file changing-column-type
-- Totals are sums of results, and a sum of int4 values can leave int4: 2,148 results of 1,000,000 XP do.
-- The next migrations bound what one result may add.

-- One rewrite of the table for all columns, under an exclusive lock: about a second for a million learners.
-- The previous version goes on: its statements read and write bigint columns as they are, and asyncpg prepares
-- them again after the change. A result that arrives meanwhile stays in the sender's outbox and comes again.
ALTER TABLE learner_statistics
    ALTER COLUMN completed_sessions TYPE bigint,
    ALTER COLUMN questions_answered TYPE bigint,
    ALTER COLUMN answers TYPE bigint,
    ALTER COLUMN correct TYPE bigint,
    ALTER COLUMN xp TYPE bigint,
    ALTER COLUMN version TYPE bigint;
