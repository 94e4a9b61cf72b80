"""Each check of subscription_service finds the fault that is planted for it, and its repair mends it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from chassis.diagnostics.plans import RowOutcome
from chassis.postgres import Database
from homeroom.embedded.provisioning import ServiceDatabase
from tests.diagnostics.subscription_school import School
from tests.support.databases import Databases
from tests.support.notes import opened


@pytest.fixture(scope="module")
async def school_database(databases: Databases) -> AsyncIterator[ServiceDatabase]:
    async with databases.fresh("subscription") as database:
        yield database


@pytest.fixture(scope="module")
async def database(school_database: ServiceDatabase) -> AsyncIterator[Database]:
    async with opened(school_database.service, minimum=1, maximum=4) as database:
        yield database


@pytest.fixture(scope="module")
async def school(school_database: ServiceDatabase, database: Database) -> AsyncIterator[School]:
    truth = await asyncpg.connect(school_database.superuser)
    yield School(database, truth)
    await truth.close()


@dataclass(frozen=True)
class Planting:
    """A fault for one learner; `@me` stands for the condition that finds this learner's rows.

    `findings` are the pairs of observed and expected that the check must tell. `also` are the other checks
    that this fault concerns as well, with the number of their findings. `undone` is false where a constraint
    of today keeps the fault from coming back.
    """

    check: str
    sql: str
    findings: Sequence[tuple[str, str]]
    also: Sequence[tuple[str, int]] = ()
    repaired: bool = True
    undone: bool = True


PAGE = Path(__file__).parents[2] / "docs" / "diagnosis" / "subscription.md"
OF_THE_LEARNER = "user_id = current_setting('test.learner')"
PLANTINGS = [
    Planting(
        "subscription.missing",
        "DELETE FROM subscriptions WHERE @me",
        [("no subscription", "one subscription")],
    ),
    Planting(
        "subscription.plan_unknown",
        """
        UPDATE subscriptions SET plan_id = 'gone' WHERE @me;
        UPDATE subscription_changes SET to_plan_id = 'gone' WHERE @me AND change_number = 2
        """,
        [("plan gone, which does not exist", "a plan that exists")],
        also=[("subscription.constraint", 1)],
        undone=False,
    ),
    Planting(
        "subscription.status_mismatch",
        "UPDATE subscriptions SET status = 'past_due', period_end = '2030-01-01' WHERE @me",
        [
            (
                "plan monthly, past_due, until 2030-01-01 00:00:00+00, 2 changes",
                "plan monthly, active, until ever, 2 changes",
            )
        ],
    ),
    Planting(
        "subscription.history_gap",
        "UPDATE subscription_changes SET to_plan_id = 'plus' WHERE @me AND change_number = 1",
        [("from plan free, active", "from plan plus, active")],
        repaired=False,
    ),
    Planting(
        "subscription.email_mismatch",
        "UPDATE account_emails SET email_key = 'old-' || email_key WHERE @me",
        [("another address in the catalog", "the address of the account")],
    ),
    Planting(
        "subscription.usage_mismatch",
        """
        UPDATE daily_usage SET used = 3, held = 0 WHERE @me;
        INSERT INTO daily_usage SELECT user_id, '2020-01-01', 0, 1 FROM accounts WHERE @me
        """,
        [("held 0, used 1", "held 0, used 0"), ("held 0, used 3", "held 1, used 1")],
    ),
    Planting(
        "subscription.wrong_day",
        """
        UPDATE holds SET day = '2020-01-01' WHERE @me AND state = 'committed';
        UPDATE daily_usage SET used = 0 WHERE @me;
        INSERT INTO daily_usage SELECT user_id, '2020-01-01', 0, 1 FROM accounts WHERE @me
        """,
        [("2020-01-01", "{today}")],
    ),
    Planting(
        "subscription.over_limit",
        """
        UPDATE holds SET tests = 1 WHERE @me;
        INSERT INTO holds SELECT user_id, gen_random_uuid(), 'committed', 1, 0, 's', 'm', 'k', day, placed_at,
                                 placed_at
          FROM holds CROSS JOIN generate_series(1, 4) WHERE @me AND state = 'committed';
        UPDATE daily_usage SET used = 5 WHERE @me;
        UPDATE plans SET updated_at = '2020-01-01';
        UPDATE subscriptions SET updated_at = '2020-01-01' WHERE @me
        """,
        [("held 1, used 5", "together at most 5")],
        also=[("subscription.all_held", 1)],
        repaired=False,
    ),
    Planting(
        "subscription.all_held",
        """
        INSERT INTO holds SELECT user_id, gen_random_uuid(), 'open', 1, 0, 's' || n, 'm', 'k', day, placed_at
          FROM holds CROSS JOIN generate_series(1, 3) AS n WHERE @me AND state = 'committed';
        UPDATE daily_usage SET held = 4 WHERE @me
        """,
        [("held 4, used 1", "the learner knows of 4 tests that are open")],
        repaired=False,
    ),
    Planting(
        "subscription.balance_mismatch",
        "UPDATE credit_balances SET balance = balance + 7, month_granted = 0 WHERE @me",
        [
            (
                "balance 18, held 3, entries 4, granted this month 0",
                "balance 11, held 3, entries 4, granted this month 4",
            )
        ],
    ),
    Planting(
        "subscription.grants_mismatch",
        "UPDATE credit_grants SET remaining = remaining - 1 WHERE @me AND remaining > 0",
        [("7 left of all grants, 3 held", "together 11, as the ledger says")],
    ),
    Planting(
        "subscription.grant_overspent",
        """
        UPDATE credit_grants SET remaining = 3 WHERE @me AND entry_number = 1;
        UPDATE credit_grants SET remaining = 5 WHERE @me AND entry_number = 2
        """,
        [("3 left, 4 held or spent, 0 expired", "together at most 4")],
    ),
    Planting(
        "subscription.ledger_gap",
        "UPDATE credit_entries SET balance_after = 99 WHERE @me AND entry_number = 4",
        [("balance 99 after it", "balance 11 after it")],
        repaired=False,
    ),
    Planting(
        "subscription.monthly_grant_twice",
        """
        INSERT INTO credit_entries
        SELECT user_id, 5, replace(operation_id, ':4', ':04'), kind, 4, reason, created_at, expires_at, 15
          FROM credit_entries WHERE @me AND operation_id LIKE 'monthly:%';
        INSERT INTO credit_grants SELECT user_id, 5, 4, expires_at FROM credit_entries
         WHERE @me AND entry_number = 5;
        UPDATE credit_balances SET balance = 15, entries = 5, month_granted = 8 WHERE @me
        """,
        [("8 credits in 2 lines", "4 credits")],
        repaired=False,
    ),
    Planting(
        "subscription.hold_credits",
        "UPDATE holds SET credits = 3 WHERE @me AND state = 'committed'",
        [("committed, takes 2 from grants, -2 in the ledger", "takes 3 from grants, -3 in the ledger")],
    ),
    Planting(
        "subscription.license_mismatch",
        "UPDATE licenses SET level = 1, epoch = 2 WHERE @me",
        [("level 1 of 5, epoch 2", "level 3 of at least 5, epoch 0")],
    ),
    Planting(
        "subscription.license_event_missing",
        "DELETE FROM license_events WHERE @me AND event_id = (SELECT event_id FROM license_changes"
        " WHERE @me AND to_level = 3)",
        [("its event is not remembered", "an event is remembered with its change")],
    ),
    Planting(
        "subscription.orphan",
        """
        DELETE FROM subscriptions WHERE @me;
        DELETE FROM credit_balances WHERE @me;
        DELETE FROM hold_credits WHERE @me;
        DELETE FROM credit_grants WHERE @me AND entry_number = 1;
        DELETE FROM credit_entries WHERE @me AND entry_number <> 2;
        DELETE FROM holds WHERE @me AND state <> 'open';
        DELETE FROM licenses WHERE @me;
        DELETE FROM license_events WHERE @me;
        DELETE FROM license_changes WHERE @me AND to_level = 2;
        DELETE FROM subscription_changes WHERE @me AND change_number = 2;
        DELETE FROM accounts WHERE @me
        """,
        # The grant, its line, the hold, the day, the change of a license, of the subscription, the address.
        [("no account", "an account")] * 7,
        also=[
            ("subscription.ledger_gap", 1),
            ("subscription.license_event_missing", 1),
            ("subscription.hold_credits", 1),
        ],
    ),
    Planting(
        "subscription.constraint",
        """
        ALTER TABLE accounts DROP CONSTRAINT accounts_active_or_inactive;
        UPDATE accounts SET status = 'odd' WHERE @me;
        ALTER TABLE accounts ADD CONSTRAINT accounts_active_or_inactive
              CHECK (status IN ('active', 'inactive')) NOT VALID
        """,
        [("the condition is false", "each row fulfils accounts_active_or_inactive")],
        repaired=False,
    ),
]


def test_each_check_has_a_planting_and_each_check_and_repair_a_line_in_the_page(school: School) -> None:
    checks = set(school.diagnostics.checks)
    assert checks == {planting.check for planting in PLANTINGS}
    told = set(re.findall(r"^\| `(subscription\.\w+)`", PAGE.read_text(), flags=re.MULTILINE))
    assert told == checks | set(school.diagnostics.repairs)


@pytest.mark.parametrize("planting", PLANTINGS, ids=[planting.check for planting in PLANTINGS])
async def test_a_planted_fault_is_found_and_mended(school: School, planting: Planting) -> None:
    well, sick = await school.learner(), await school.learner()
    assert await school.findings(user_id=sick) == []
    async with school.truth.transaction():
        await school.truth.execute("SET LOCAL session_replication_role = replica; SET LOCAL TimeZone = 'UTC'")
        await school.truth.execute("SELECT set_config('test.learner', $1, true)", sick)
        await school.truth.execute(planting.sql.replace("@me", OF_THE_LEARNER))
    found = [each for each in await school.findings() if each.user_id in {sick, well}]
    today = str(await school.truth.fetchval("SELECT (now() AT TIME ZONE 'utc')::date"))
    own = [each for each in found if each.check == planting.check]
    assert sorted((each.observed, each.expected) for each in own) == [
        (observed, expected.format(today=today)) for observed, expected in planting.findings
    ]
    assert {each.user_id for each in found} == {sick}
    assert all(each.row["user_id"] == sick for each in own)
    others = [each.check for each in found if each.check != planting.check]
    assert sorted((check, others.count(check)) for check in set(others)) == sorted(planting.also)
    assert f"{sick}@example.com" not in repr(found)
    check = school.diagnostics.checks[planting.check]
    if planting.repaired:
        await _mend(school, planting, sick)
    else:
        assert check.advice
        assert not check.repairs


async def _mend(school: School, planting: Planting, sick: str) -> None:
    planted = await school.rows(sick)
    plan, rows = await school.plan(check=planting.check, user_id=sick)
    assert rows
    assert not plan.left_out
    assert await school.rows(sick) == planted
    worked = await school.apply(plan)
    assert {row.outcome for row in worked} == {RowOutcome.APPLIED}, worked
    assert await school.findings(user_id=sick) == []
    undone = await school.undo(plan)
    expected = RowOutcome.UNDONE if planting.undone else RowOutcome.KEPT
    assert {row.outcome for row in undone} == {expected}, undone
    if planting.undone:
        assert await school.rows(sick) == planted
