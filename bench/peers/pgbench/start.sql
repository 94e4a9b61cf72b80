-- The three writes of a start and nothing else: no account, no live session and no stored answer is looked up.
-- Run with -M prepared -D seq=0 -D response=JSON; seq counts within a client, so that each start has a learner
-- and a key of its own. (The response is a variable because a colon in a literal would be taken for one.)
\set seq :seq + 1
\set learner :client_id * 1000000000 + :seq
BEGIN;
INSERT INTO idempotency_keys (user_id, key, fingerprint, status, response)
    VALUES (:learner, :learner, sha256('start'), 201, :response);
INSERT INTO daily_usage AS usage (user_id, day, used)
    VALUES (:learner, (now() AT TIME ZONE 'utc')::date, 1)
    ON CONFLICT (user_id, day) DO UPDATE SET used = usage.used + 1 WHERE usage.used < 3;
INSERT INTO sessions (session_id, user_id, test_id, title, kind, difficulty, state, started_at, metadata, version)
    VALUES (gen_random_uuid(), :learner, 'bench-01', 'Bench 01', 'PRACTICE', 'medium', 'ACTIVE', now(), '{}', 1);
COMMIT;
