-- Which epoch a change belongs to, and what ordered it, so that a watcher can tell its own orders from those of an
-- instructor. Changes of earlier programs have epoch 0, and no origin.
ALTER TABLE license_changes
    ADD COLUMN epoch integer NOT NULL DEFAULT 0,
    ADD COLUMN origin text,
    ADD CONSTRAINT license_changes_epoch_not_negative CHECK (epoch >= 0) NOT VALID,
    ADD CONSTRAINT license_changes_origin_is_known CHECK (
        origin IN ('progress', 'advance', 'reset')
    ) NOT VALID;
