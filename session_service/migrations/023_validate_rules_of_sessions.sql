-- A transaction of its own: to validate reads every row, and must not hold the lock that adding took.
ALTER TABLE sessions VALIDATE CONSTRAINT sessions_rules_1;
ALTER TABLE answers VALIDATE CONSTRAINT answers_rules_1;
ALTER TABLE session_events VALIDATE CONSTRAINT session_events_rules_1;
