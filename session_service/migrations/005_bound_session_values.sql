-- The contract allows 4 KiB of metadata in all; in its binary form, with room for its structure, that is below
-- 8 KiB. Sessions that began under the older contract keep what they have.
ALTER TABLE sessions ADD CONSTRAINT sessions_metadata_bounded CHECK (
    jsonb_typeof(metadata) = 'object'
    AND (started_at < '2026-11-21' OR pg_column_size(metadata) <= 8192)
) NOT VALID;
ALTER TABLE sessions ADD CONSTRAINT sessions_times_in_range CHECK (
    started_at >= '2000-01-01' AND started_at < '2100-01-01'
    AND deadline_at >= '2000-01-01' AND deadline_at < '2100-01-01'
    AND last_answer_at >= '2000-01-01' AND last_answer_at < '2100-01-01'
    AND submitted_at >= '2000-01-01' AND submitted_at < '2100-01-01'
    AND closed_at >= '2000-01-01' AND closed_at < '2100-01-01'
) NOT VALID;
ALTER TABLE sessions ADD CONSTRAINT sessions_close_reason_known CHECK (
    close_reason IN ('submitted', 'abandoned', 'deadline', 'idle')
) NOT VALID;
ALTER TABLE answers ADD CONSTRAINT answers_times_in_range CHECK (
    answered_at >= '2000-01-01' AND answered_at < '2100-01-01'
    AND occurred_at >= '2000-01-01' AND occurred_at < '2100-01-01'
) NOT VALID;
ALTER TABLE answers ADD CONSTRAINT answers_choice_bounded CHECK (
    char_length(choice) <= 10000 AND char_length(question_id) <= 128
) NOT VALID;
