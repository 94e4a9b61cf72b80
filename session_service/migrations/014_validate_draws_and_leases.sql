ALTER TABLE sessions VALIDATE CONSTRAINT sessions_draw_bounded;
ALTER TABLE sessions VALIDATE CONSTRAINT sessions_presence_in_range;
