-- Rows that an earlier version accepted move to the nearest bound of 006. A period that had ended stays ended,
-- and one that would end after 2099 ends with it.
UPDATE plans
   SET daily_test_limit = CASE WHEN daily_test_limit > 1000000 THEN 1000000 ELSE daily_test_limit END,
       monthly_credits = least(monthly_credits, 1000000)
 WHERE daily_test_limit > 1000000 OR monthly_credits > 1000000;

UPDATE subscriptions
   SET period_end = greatest(least(period_end, '2099-12-31 00:00:00+00'), '2000-01-01 00:00:00+00')
 WHERE period_end < '2000-01-01 00:00:00+00' OR period_end >= '2100-01-01 00:00:00+00';

UPDATE subscription_changes
   SET period_end = greatest(least(period_end, '2099-12-31 00:00:00+00'), '2000-01-01 00:00:00+00')
 WHERE period_end < '2000-01-01 00:00:00+00' OR period_end >= '2100-01-01 00:00:00+00';

UPDATE credit_entries
   SET expires_at = greatest(least(expires_at, '2099-12-31 00:00:00+00'), '2000-01-01 00:00:00+00')
 WHERE expires_at < '2000-01-01 00:00:00+00' OR expires_at >= '2100-01-01 00:00:00+00';

UPDATE credit_grants
   SET expires_at = greatest(least(expires_at, '2099-12-31 00:00:00+00'), '2000-01-01 00:00:00+00')
 WHERE expires_at < '2000-01-01 00:00:00+00' OR expires_at >= '2100-01-01 00:00:00+00';

UPDATE licenses
   SET level = least(level, 10000), max_level = least(max_level, 10000), epoch = least(epoch, 1000000000)
 WHERE max_level > 10000 OR epoch > 1000000000;

UPDATE license_changes
   SET from_level = least(from_level, 10000), to_level = least(to_level, 10000),
       max_level = least(max_level, 10000)
 WHERE max_level > 10000;
