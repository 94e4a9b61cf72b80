-- What a replay shows besides the stored response is kept elsewhere, and only named here: a session's questions
-- would be stored with every start and every resume again.
ALTER TABLE idempotency_keys ADD COLUMN content text NOT NULL DEFAULT '';
