-- For the sweep of sessions without a deadline in which nothing happens any more. The index is on the start and
-- not on the latest answer: an answer changes no indexed column, so its update stays on its page (HOT).
-- A migration is one transaction, so the index cannot be built concurrently. Answers wait while the table is read
-- once, as they wait for any migration's lock; nothing is lost.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX sessions_untimed ON sessions (started_at)
WHERE deadline_at IS NULL AND state IN ('active', 'paused');
