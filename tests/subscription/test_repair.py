"""Rows that an earlier version accepted are moved to the bounds of this one, before it serves them."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from chassis.postgres.migrations import migrate
from homeroom.embedded.provisioning import ServiceDatabase
from subscription_service.__main__ import MIGRATIONS, SERVICE

EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2099, 12, 31, tzinfo=UTC)
ROWS_OF_AN_EARLIER_VERSION = """
    INSERT INTO plans (plan_id, name, daily_test_limit, monthly_credits)
    VALUES ('rich', 'Rich', NULL, 2147483647), ('wide', 'Wide', 2147483647, 5);
    CREATE TEMPORARY TABLE given (user_id, moment) AS
    SELECT 'learner-' || place, moment
      FROM unnest('{-infinity,0001-01-01,1999-12-31,2026-01-01 00:00:00+00,2100-01-02,infinity,NULL}'
                  ::timestamptz[]) WITH ORDINALITY AS moments (moment, place);
    INSERT INTO accounts (user_id, email, display_name, email_verified, status)
    SELECT user_id, user_id || '@example.com', '', true, 'active' FROM given;
    INSERT INTO subscriptions (user_id, plan_id, status, period_end, changes)
    SELECT user_id, 'rich', 'active', moment, 1 FROM given;
    INSERT INTO subscription_changes (user_id, change_number, to_plan_id, to_status, period_end, changed_by,
                                      changed_at)
    SELECT user_id, 1, 'rich', 'active', moment, 'root', now() FROM given;
    INSERT INTO credit_entries (user_id, entry_number, operation_id, kind, amount, reason, created_at,
                                expires_at, balance_after)
    SELECT user_id, 1, 'welcome', 'grant', 5, 'r', now(), moment, 5 FROM given;
    INSERT INTO credit_grants (user_id, entry_number, remaining, expires_at)
    SELECT user_id, 1, 5, moment FROM given;
    INSERT INTO licenses (user_id, specialization, level, max_level, epoch, updated_at)
    SELECT user_id, 'physics', 2147483646, 2147483647, 2147483647, now() FROM given;
    INSERT INTO license_changes (user_id, sequence, specialization, from_level, to_level, max_level,
                                 changed_by, reason, event_id, changed_at)
    SELECT user_id, 1, 'physics', 0, 2147483646, 2147483647, 'p', 'r', gen_random_uuid(), now() FROM given;
"""


async def test_times_and_numbers_out_of_range_move_to_the_nearest_bound(
    empty_database: ServiceDatabase, tmp_path: Path
) -> None:
    for path in sorted(MIGRATIONS[SERVICE].glob("*.sql"))[:5]:
        shutil.copy(path, tmp_path)
    await migrate(empty_database.owner, {**MIGRATIONS, SERVICE: tmp_path})
    connection = await asyncpg.connect(empty_database.owner)
    await connection.execute(ROWS_OF_AN_EARLIER_VERSION)
    applied = await migrate(empty_database.owner, MIGRATIONS)
    assert [each.version for each in applied][:3] == [6, 7, 8]
    kept = datetime(2026, 1, 1, tzinfo=UTC)
    for statement in (
        "SELECT period_end FROM subscriptions ORDER BY user_id",
        "SELECT period_end FROM subscription_changes ORDER BY user_id",
        "SELECT expires_at FROM credit_entries ORDER BY user_id",
        "SELECT expires_at FROM credit_grants ORDER BY user_id",
    ):
        rows = await connection.fetch(statement)
        # A period that had ended stays ended; one without an end stays without.
        assert [row[0] for row in rows] == [EARLIEST, EARLIEST, EARLIEST, kept, LATEST, LATEST, None]
    plans = await connection.fetch(
        "SELECT daily_test_limit, monthly_credits FROM plans WHERE name IN ('Rich', 'Wide') ORDER BY plan_id"
    )
    assert [tuple(plan) for plan in plans] == [(None, 1_000_000), (1_000_000, 5)]
    levels = await connection.fetch(
        "SELECT DISTINCT licenses.level, licenses.max_level, licenses.epoch, to_level,"
        "       license_changes.max_level"
        "  FROM licenses JOIN license_changes USING (user_id)"
    )
    assert [tuple(row) for row in levels] == [(10_000, 10_000, 1_000_000_000, 10_000, 10_000)]
    assert await connection.fetchval("SELECT count(*) FROM pg_constraint WHERE NOT convalidated") == 0
    await connection.close()
