-- A transaction of its own: to validate reads every row, and must not hold the lock that adding took.
ALTER TABLE idempotency_keys VALIDATE CONSTRAINT idempotency_keys_rules_1;
ALTER TABLE outbox VALIDATE CONSTRAINT outbox_rules_1;
