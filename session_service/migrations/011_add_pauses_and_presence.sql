-- Pauses, the time that a learner was engaged, and the signs of life of the page.
--
-- Safe while the previous version of session_service still runs: it writes none of these columns, and its close reasons
-- `abandoned`, `deadline` and `idle` stay allowed. The service reads them as `learner_left`, `timed_out` and
-- `lease_lost`. The previous version cannot show sessions that this version has closed under a new word.
ALTER TABLE sessions
    -- The pause under way. `pause_until` is when the pause budget is used up.
    ADD COLUMN paused_at timestamptz,
    ADD COLUMN pause_until timestamptz,
    ADD COLUMN paused_seconds double precision NOT NULL DEFAULT 0,
    ADD COLUMN engaged_seconds double precision NOT NULL DEFAULT 0;

-- squawk-ignore ban-drop-constraint
ALTER TABLE sessions DROP CONSTRAINT sessions_close_reason_known;
ALTER TABLE sessions ADD CONSTRAINT sessions_close_reason_known CHECK (
    close_reason IN (
        'submitted', 'timed_out', 'learner_left', 'lease_lost', 'never_used', 'replaced', 'administrator',
        'abandoned', 'deadline', 'idle'
    )
) NOT VALID;

-- The previous version leaves the times of a pause where they are as it closes a session.
ALTER TABLE sessions ADD CONSTRAINT sessions_paused_until_known CHECK (
    (paused_at IS NULL) = (pause_until IS NULL) AND pause_until >= paused_at
    AND (state <> 'paused' OR paused_at IS NOT NULL)
) NOT VALID;
ALTER TABLE sessions ADD CONSTRAINT sessions_pauses_in_range CHECK (
    paused_at >= '2000-01-01' AND paused_at < '2100-01-01'
    AND pause_until >= '2000-01-01' AND pause_until < '2100-01-01'
    AND paused_seconds BETWEEN 0 AND 3200000000 AND engaged_seconds BETWEEN 0 AND 3200000000
) NOT VALID;
