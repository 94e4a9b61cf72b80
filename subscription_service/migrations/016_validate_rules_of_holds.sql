-- A transaction of its own: to validate reads every row, and must not hold the lock that adding took.
ALTER TABLE holds VALIDATE CONSTRAINT holds_rules_1;
