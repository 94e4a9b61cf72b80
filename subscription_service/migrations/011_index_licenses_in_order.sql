-- For lists of all licenses in one order, which progress_service merges with its own. The bytes of the text decide,
-- so that the order does not depend on the collation of either database. An update of a level changes no indexed
-- column, so it stays on its page (HOT).
-- A migration is one transaction, so the index cannot be built concurrently. Changes of licenses wait while the
-- table is read once, as they wait for any migration's lock; nothing is lost.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX licenses_in_order ON licenses (specialization COLLATE "C", user_id COLLATE "C");
