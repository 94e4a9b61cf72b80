-- A transaction of its own: to validate reads every row, and must not hold the lock that adding took.
ALTER TABLE learner_statistics VALIDATE CONSTRAINT learner_statistics_rules_1;
ALTER TABLE session_results VALIDATE CONSTRAINT session_results_rules_1;
ALTER TABLE specialization_progress VALIDATE CONSTRAINT specialization_progress_rules_1;
ALTER TABLE enrollments VALIDATE CONSTRAINT enrollments_rules_1;
ALTER TABLE lesson_completions VALIDATE CONSTRAINT lesson_completions_rules_1;
