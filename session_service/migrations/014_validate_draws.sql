ALTER TABLE sessions VALIDATE CONSTRAINT sessions_draw_bounded;
