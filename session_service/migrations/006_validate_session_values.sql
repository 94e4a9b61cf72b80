-- The older contract accepted every time of the calendar as the learner's own. A time outside the range says
-- nothing, so it becomes unknown.
UPDATE answers
   SET occurred_at = NULL
 WHERE occurred_at < '2000-01-01' OR occurred_at >= '2100-01-01';

ALTER TABLE sessions VALIDATE CONSTRAINT sessions_metadata_bounded;
ALTER TABLE sessions VALIDATE CONSTRAINT sessions_times_in_range;
ALTER TABLE sessions VALIDATE CONSTRAINT sessions_close_reason_known;
ALTER TABLE answers VALIDATE CONSTRAINT answers_times_in_range;
ALTER TABLE answers VALIDATE CONSTRAINT answers_choice_bounded;
