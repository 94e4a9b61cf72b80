-- A transaction of its own: to validate reads every row, and must not hold the lock that adding took.
ALTER TABLE session_results VALIDATE CONSTRAINT session_results_counts_within_bounds;
ALTER TABLE session_results VALIDATE CONSTRAINT session_results_xp_within_bounds;
ALTER TABLE session_results VALIDATE CONSTRAINT session_results_ids_within_bounds;
ALTER TABLE session_results VALIDATE CONSTRAINT session_results_closed_at_within_bounds;
ALTER TABLE xp_entries VALIDATE CONSTRAINT xp_entries_amount_within_bounds;
ALTER TABLE xp_entries VALIDATE CONSTRAINT xp_entries_earned_at_within_bounds;
ALTER TABLE activity_days VALIDATE CONSTRAINT activity_days_day_within_bounds;
