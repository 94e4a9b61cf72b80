-- For the comparison with all licenses, in the order that subscription_service lists them in. The bytes of the text
-- decide, so that the order does not depend on the collation of either database. An update of a level changes no
-- indexed column, so it stays on its page (HOT).
-- A migration is one transaction, so the index cannot be built concurrently. Changes of levels wait while the table
-- is read once, as they wait for any migration's lock; nothing is lost.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX specialization_progress_in_order
    ON specialization_progress (specialization COLLATE "C", user_id COLLATE "C");
