ALTER TABLE sessions VALIDATE CONSTRAINT sessions_start_ids_bounded;
ALTER TABLE sessions VALIDATE CONSTRAINT sessions_attempts_before_in_range;
ALTER TABLE answers VALIDATE CONSTRAINT answers_ids_bounded;
