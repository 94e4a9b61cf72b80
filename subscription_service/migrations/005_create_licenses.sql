-- The level that a learner holds in a specialization. The highest level is progress_service's to say and comes
-- with each change. `epoch` counts the resets of the progress that the license mirrors.
CREATE TABLE licenses (
    user_id text NOT NULL,
    specialization text NOT NULL,
    level integer NOT NULL,
    max_level integer NOT NULL,
    epoch integer NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL,
    CONSTRAINT licenses_one_per_specialization PRIMARY KEY (user_id, specialization),
    CONSTRAINT licenses_of_an_account FOREIGN KEY (user_id) REFERENCES accounts (user_id),
    CONSTRAINT licenses_level_at_least_one CHECK (level >= 1),
    CONSTRAINT licenses_level_within_catalog CHECK (level <= max_level),
    CONSTRAINT licenses_epoch_not_negative CHECK (epoch >= 0)
);

-- Every event that reached a license, also one that changed nothing: none counts twice.
CREATE TABLE license_events (
    user_id text NOT NULL,
    specialization text NOT NULL,
    event_id uuid NOT NULL,
    received_at timestamptz NOT NULL,
    CONSTRAINT license_events_once PRIMARY KEY (user_id, specialization, event_id)
);

-- One row per change of a license. A sequence number is made of the writing transaction's id and the row's
-- number in it: what is below the oldest transaction still running is complete, so a reader that stops there
-- never skips a change that commits late.
CREATE TABLE license_changes (
    user_id text NOT NULL,
    sequence bigint NOT NULL,
    specialization text NOT NULL,
    from_level integer NOT NULL,
    to_level integer NOT NULL,
    max_level integer NOT NULL,
    changed_by text NOT NULL,
    reason text NOT NULL,
    event_id uuid NOT NULL,
    changed_at timestamptz NOT NULL,
    CONSTRAINT license_changes_once PRIMARY KEY (user_id, sequence),
    CONSTRAINT license_changes_one_per_event UNIQUE (user_id, specialization, event_id),
    CONSTRAINT license_changes_from_not_negative CHECK (from_level >= 0),
    CONSTRAINT license_changes_to_at_least_one CHECK (to_level >= 1),
    CONSTRAINT license_changes_to_within_catalog CHECK (to_level <= max_level)
);

CREATE INDEX license_changes_in_order ON license_changes (sequence);
CREATE INDEX license_changes_of_a_license ON license_changes (user_id, specialization, sequence);

-- A catalog of one row. A database that was restored into another cluster counts its transactions anew:
-- the origin is then raised (by the service, before it serves), so that sequence numbers never fall.
CREATE TABLE license_feed (
    only_row boolean NOT NULL DEFAULT true,
    origin bigint NOT NULL,
    CONSTRAINT license_feed_one_row PRIMARY KEY (only_row),
    CONSTRAINT license_feed_only_one_row CHECK (only_row)
);

INSERT INTO license_feed (origin) VALUES (0);
