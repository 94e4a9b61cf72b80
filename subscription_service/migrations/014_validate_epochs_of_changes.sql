-- A transaction of its own: to validate reads every row, and must not hold the lock that adding took.
ALTER TABLE license_changes
    VALIDATE CONSTRAINT license_changes_epoch_not_negative,
    VALIDATE CONSTRAINT license_changes_origin_is_known;
