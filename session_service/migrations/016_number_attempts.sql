-- `attempt` counts all sessions of a learner and a test. `attempts_before` counts those before this one that have used
-- an attempt; a session that nobody answered uses none. It is NULL in rows of the previous version, and is then
-- counted when it is needed.
ALTER TABLE sessions ADD COLUMN attempts_before integer;
ALTER TABLE sessions ADD CONSTRAINT sessions_attempts_before_in_range CHECK (
    attempts_before >= 0 AND attempts_before < attempt
) NOT VALID;
