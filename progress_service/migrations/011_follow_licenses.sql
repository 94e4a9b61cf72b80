-- The last change of a license that has had its effect here. The row is also the lock under which replicas take
-- turns, and it is written in the same transaction as the effect.
CREATE TABLE license_feed_position (
    only_row boolean NOT NULL DEFAULT true,
    sequence bigint NOT NULL,
    CONSTRAINT license_feed_position_one_row PRIMARY KEY (only_row),
    CONSTRAINT license_feed_position_only_one_row CHECK (only_row),
    CONSTRAINT license_feed_position_not_negative CHECK (sequence >= 0)
);

INSERT INTO license_feed_position (sequence) VALUES (0);
