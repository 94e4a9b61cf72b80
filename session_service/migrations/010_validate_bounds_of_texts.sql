ALTER TABLE sessions VALIDATE CONSTRAINT sessions_texts_bounded;
