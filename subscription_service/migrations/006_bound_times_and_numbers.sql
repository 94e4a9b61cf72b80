-- The contract has the same bounds. They hold for new rows from here on; 007 repairs the old rows, and 008 says
-- that all rows are within them. In one file, the exclusive locks would last as long as reading the tables.
--
-- Balances stay integer. A type of 64 bits would rewrite the whole ledger under an exclusive lock while the
-- previous version still runs, and the contract shows balances as int32 anyway. So the sum is bounded instead:
-- what comes in never lifts a balance over 2,000,000,000.
ALTER TABLE plans
    ADD CONSTRAINT plans_daily_test_limit_bounded CHECK (daily_test_limit <= 1000000) NOT VALID,
    ADD CONSTRAINT plans_monthly_credits_bounded CHECK (monthly_credits <= 1000000) NOT VALID;

ALTER TABLE subscriptions
    ADD CONSTRAINT subscriptions_period_end_in_range CHECK (
        isfinite(period_end)
        AND period_end >= '2000-01-01 00:00:00+00'
        AND period_end < '2100-01-01 00:00:00+00'
    ) NOT VALID;

ALTER TABLE subscription_changes
    ADD CONSTRAINT subscription_changes_period_end_in_range CHECK (
        isfinite(period_end)
        AND period_end >= '2000-01-01 00:00:00+00'
        AND period_end < '2100-01-01 00:00:00+00'
    ) NOT VALID;

ALTER TABLE credit_balances
    ADD CONSTRAINT credit_balances_balance_bounded CHECK (balance <= 2000000000) NOT VALID;

ALTER TABLE credit_entries
    ADD CONSTRAINT credit_entries_balance_bounded CHECK (balance_after <= 2000000000) NOT VALID,
    ADD CONSTRAINT credit_entries_expires_at_in_range CHECK (
        isfinite(expires_at)
        AND expires_at >= '2000-01-01 00:00:00+00'
        AND expires_at < '2100-01-01 00:00:00+00'
    ) NOT VALID;

ALTER TABLE credit_grants
    ADD CONSTRAINT credit_grants_expires_at_in_range CHECK (
        isfinite(expires_at)
        AND expires_at >= '2000-01-01 00:00:00+00'
        AND expires_at < '2100-01-01 00:00:00+00'
    ) NOT VALID;

ALTER TABLE licenses
    ADD CONSTRAINT licenses_max_level_bounded CHECK (max_level <= 10000) NOT VALID,
    ADD CONSTRAINT licenses_epoch_bounded CHECK (epoch <= 1000000000) NOT VALID;

ALTER TABLE license_changes
    ADD CONSTRAINT license_changes_max_level_bounded CHECK (max_level <= 10000) NOT VALID;
