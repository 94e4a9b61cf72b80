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

-- The signs of life of the page that shows a session. A heartbeat changes `engaged_seconds`, `heartbeat_seq` and
-- `seen_at`, none of which is in an index, so it stays on its page (HOT). `lease_check_at` is when a sweep has to look
-- whether an unanswered session has lost its lease; the sweep moves it, and a heartbeat only sets it once.
ALTER TABLE sessions ADD COLUMN heartbeat_seq integer;
ALTER TABLE sessions ADD COLUMN seen_at timestamptz;
ALTER TABLE sessions ADD COLUMN left_at timestamptz;
ALTER TABLE sessions ADD COLUMN lease_check_at timestamptz;
ALTER TABLE sessions ADD CONSTRAINT sessions_presence_in_range CHECK (
    heartbeat_seq > 0
    AND seen_at >= '2000-01-01' AND seen_at < '2100-01-01'
    AND left_at >= '2000-01-01' AND left_at < '2100-01-01'
    AND lease_check_at >= '2000-01-01' AND lease_check_at < '2100-01-01'
) NOT VALID;

-- A migration is one transaction, so the index cannot be built concurrently. It is empty, and the table is read once.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX sessions_leased ON sessions (lease_check_at)
WHERE lease_check_at IS NOT NULL AND state IN ('active', 'paused');

-- Whether `occurred_at` is not what the client said, because that was in the future or too long ago.
ALTER TABLE answers ADD COLUMN occurred_at_clamped boolean NOT NULL DEFAULT false;
