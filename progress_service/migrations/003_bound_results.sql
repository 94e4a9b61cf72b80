-- The bounds that the contract states for a result, once more where the rows are.
ALTER TABLE session_results
    ADD CONSTRAINT session_results_counts_within_bounds CHECK (
        answered <= 100000000 AND total <= 100000000 AND answers <= 100000000 AND correct <= 100000000
    ) NOT VALID,
    ADD CONSTRAINT session_results_xp_within_bounds CHECK (xp <= 1000000) NOT VALID,
    ADD CONSTRAINT session_results_ids_within_bounds CHECK (
        length(user_id) BETWEEN 1 AND 128 AND length(session_id) BETWEEN 1 AND 128
        AND length(test_id) BETWEEN 1 AND 128 AND length(specialization) <= 63
    ) NOT VALID,
    ADD CONSTRAINT session_results_closed_at_within_bounds CHECK (
        isfinite(closed_at) AND closed_at >= '2000-01-01 00:00:00+00' AND closed_at < '2100-01-01 00:00:00+00'
    ) NOT VALID;

ALTER TABLE xp_entries
    ADD CONSTRAINT xp_entries_amount_within_bounds CHECK (amount <= 1000000) NOT VALID,
    ADD CONSTRAINT xp_entries_earned_at_within_bounds CHECK (
        isfinite(earned_at) AND earned_at >= '2000-01-01 00:00:00+00' AND earned_at < '2100-01-01 00:00:00+00'
    ) NOT VALID;

ALTER TABLE activity_days
    ADD CONSTRAINT activity_days_day_within_bounds CHECK (
        isfinite(day) AND day >= '2000-01-01' AND day < '2100-01-01'
    ) NOT VALID;
