ALTER TABLE sessions VALIDATE CONSTRAINT sessions_close_reason_known;
ALTER TABLE sessions VALIDATE CONSTRAINT sessions_paused_until_known;
ALTER TABLE sessions VALIDATE CONSTRAINT sessions_pauses_in_range;
