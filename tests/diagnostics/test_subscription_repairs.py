"""Repairs of subscription_service: what no planted fault shows, and repairs beside learners at work."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.diagnostics.plans import RowOutcome
from chassis.errors import Reason, ServiceError
from chassis.postgres import Database
from homeroom.embedded.provisioning import ServiceDatabase
from protos.subscription.v1 import holds_pb2, licenses_pb2
from subscription_service.domain.credits import GrantShare, shares
from tests.diagnostics.subscription_school import School
from tests.subscription.service import HOLDS, placement
from tests.support.databases import Databases
from tests.support.notes import opened

GIVE_BACK = "subscription.give_back_today"


@pytest.fixture(scope="module")
async def school_database(databases: Databases) -> AsyncIterator[ServiceDatabase]:
    async with databases.fresh("subscription") as database:
        yield database


@pytest.fixture(scope="module")
async def database(school_database: ServiceDatabase) -> AsyncIterator[Database]:
    async with opened(school_database.service, minimum=1, maximum=6) as database:
        yield database


@pytest.fixture(scope="module")
async def school(school_database: ServiceDatabase, database: Database) -> AsyncIterator[School]:
    truth = await asyncpg.connect(school_database.superuser)
    yield School(database, truth)
    await truth.close()


async def test_units_of_today_are_given_back_and_the_learner_can_start_again(school: School) -> None:
    subscriptions = school.subscriptions
    user_id = await school.learner()
    under_way = [await subscriptions.place(user_id) for _ in range(3)]
    with pytest.raises(ServiceError) as refused:
        await subscriptions.place(user_id)
    assert refused.value.reason is Reason.DAILY_LIMIT_REACHED
    balance = (await subscriptions.entitlements(user_id)).credits

    plan, rows = await school.plan(repair=GIVE_BACK, user_id=user_id)
    assert [row.change.table for row in rows] == ["holds"] * 5 + ["daily_usage"]
    worked = await school.apply(plan)
    assert {row.outcome for row in worked} == {RowOutcome.APPLIED}
    assert await subscriptions.tests(user_id) == (0, 0)
    assert (await subscriptions.entitlements(user_id)).credits == balance
    journal = await school.truth.fetch(
        "SELECT DISTINCT user_id, changed_by, reason FROM repair_journal WHERE plan_id = $1", plan.plan_id
    )
    assert [tuple(row) for row in journal] == [(user_id, "operator", "a test")]

    # The tests that were under way end as ever, and cost nothing; a new one costs its unit.
    for hold in under_way[:2]:
        assert (await subscriptions.commit(hold)).state == holds_pb2.Hold.COMMITTED
        await subscriptions.commit(hold)
    await subscriptions.release(under_way[2])
    assert await subscriptions.tests(user_id) == (0, 0)
    await subscriptions.commit(await subscriptions.place(user_id))
    assert await subscriptions.tests(user_id) == (1, 0)
    assert await school.findings(user_id=user_id) == []
    assert await subscriptions.discrepancies() == []


async def test_units_are_not_given_back_of_rows_that_have_changed_since(school: School) -> None:
    touched, other = await school.learner(), await school.learner()
    plans = [(await school.plan(repair=GIVE_BACK, user_id=user_id))[0] for user_id in (touched, other)]
    await school.subscriptions.place(touched)
    outcomes = [{row.outcome for row in await school.apply(plan)} for plan in plans]
    assert outcomes == [{RowOutcome.SKIPPED}, {RowOutcome.APPLIED}]
    assert await school.subscriptions.tests(touched) == (1, 2)
    assert await school.findings() == []


async def test_given_back_units_are_taken_back_as_long_as_the_learner_has_not_used_them(
    school: School,
) -> None:
    user_id = await school.learner()
    before = await school.rows(user_id)
    plan, _ = await school.plan(repair=GIVE_BACK, user_id=user_id)
    await school.apply(plan)
    await school.undo(plan)
    assert await school.rows(user_id) == before
    plan, _ = await school.plan(repair=GIVE_BACK, user_id=user_id)
    await school.apply(plan)
    await school.subscriptions.place(user_id)
    assert {row.outcome for row in await school.undo(plan)} == {RowOutcome.KEPT}
    assert await school.findings(user_id=user_id) == []


async def test_a_learner_without_any_units_of_today_needs_no_row(school: School) -> None:
    user_id = await school.subscriptions.account("never-started")
    assert (await school.plan(repair=GIVE_BACK, user_id=user_id))[1] == []


async def test_a_subscription_without_a_history_becomes_that_of_a_new_account(school: School) -> None:
    user_id = await school.learner()
    await school.truth.execute("DELETE FROM subscriptions WHERE user_id = $1", user_id)
    await school.truth.execute("DELETE FROM subscription_changes WHERE user_id = $1", user_id)
    plan, rows = await school.plan(check="subscription.missing", user_id=user_id)
    assert [row.change.table for row in rows] == ["subscription_changes", "subscriptions"]
    await school.apply(plan)
    entitlements = await school.subscriptions.entitlements(user_id)
    assert entitlements.plan_id == "free"
    assert await school.findings(user_id=user_id) == []
    # It can be changed as any other.
    await school.subscriptions.subscribe(user_id, "plus")
    assert await school.findings(user_id=user_id) == []


async def test_a_license_without_a_history_gets_a_line_that_followers_of_the_feed_see(
    school: School,
) -> None:
    user_id = await school.learner()
    position = await school.truth.fetchval("SELECT max(sequence) FROM license_changes")
    await school.truth.execute("DELETE FROM license_changes WHERE user_id = $1", user_id)
    await school.truth.execute("DELETE FROM license_events WHERE user_id = $1", user_id)
    await school.subscriptions.apply_level(await school.learner(), "physics", 4)
    plan, _ = await school.plan(check="subscription.license_mismatch", user_id=user_id)
    told = asyncio.create_task(_first_of(school, user_id, after=position))
    worked = await school.apply(plan)
    assert {row.outcome for row in worked} == {RowOutcome.APPLIED}, worked
    change = (await asyncio.wait_for(told, 10)).progression
    assert (getattr(change, "from"), change.to, change.by) == (0, 3, "repair")
    assert await school.findings(user_id=user_id) == []


async def _first_of(school: School, user_id: str, *, after: int) -> licenses_pb2.WatchLicensesResponse:
    async for message in school.subscriptions.watch(after):
        if message.license.user_id == user_id:
            return message
    raise AssertionError("the feed has ended")


async def test_of_two_accounts_with_one_address_one_is_left_to_a_person(school: School) -> None:
    first, second = await school.learner(), await school.learner()
    await school.truth.execute("DELETE FROM account_emails WHERE user_id = $1", second)
    await school.truth.execute(
        "UPDATE accounts SET email = upper($2 || '@example.com') WHERE user_id = $1", second, first
    )
    plan, rows = await school.plan(check="subscription.email_mismatch", user_id=second)
    assert rows == []
    assert [line.split(":")[0] for line in plan.left_out] == [second]
    assert first not in repr(await school.findings(user_id=second))
    await school.truth.execute("UPDATE accounts SET email = user_id || '@example.com'")
    await school.apply((await school.plan(check="subscription.email_mismatch"))[0])
    assert await school.findings() == []


async def test_nothing_follows_a_ledger_that_lacks_lines(school: School) -> None:
    user_id = await school.learner()
    async with school.truth.transaction():
        await school.truth.execute("SET LOCAL session_replication_role = replica")
        await school.truth.execute(
            "DELETE FROM credit_entries WHERE user_id = $1 AND entry_number = 2", user_id
        )
    for check in ("subscription.balance_mismatch", "subscription.grants_mismatch"):
        plan, rows = await school.plan(check=check, user_id=user_id)
        assert rows == []
        assert plan.left_out == [f"{user_id}: the ledger lacks lines, so nothing can follow it"]


async def test_a_test_whose_reserved_credits_are_lost_can_be_ended_after_the_repair(school: School) -> None:
    user_id = await school.learner()
    hold = await school.subscriptions.place(user_id, credits=2)
    await school.truth.execute("DELETE FROM hold_credits WHERE hold_id = $1", uuid.UUID(hold.hold_id))
    await school.mend("subscription.hold_credits", user_id=user_id)
    await school.mend("subscription.grants_mismatch", user_id=user_id)
    assert await school.findings(user_id=user_id) == []
    await school.subscriptions.commit(hold)
    assert await school.findings(user_id=user_id) == []


async def test_a_hold_that_the_ledger_contradicts_is_left_to_a_person(school: School) -> None:
    user_id = await school.learner()
    hold = await school.subscriptions.place(user_id, credits=2)
    await school.subscriptions.commit(hold)
    await school.truth.execute("DELETE FROM hold_credits WHERE hold_id = $1", uuid.UUID(hold.hold_id))
    plan, rows = await school.plan("subscription.hold_credits", user_id=user_id)
    assert rows == []
    assert plan.left_out == [f"{user_id}: the ledger has other credits for the hold {hold.hold_id}"]


async def test_units_are_given_back_right_while_learners_start_and_end_tests(school: School) -> None:
    """An operation locks, reads and writes what it has read; a repair in between would be undone by half."""
    subscriptions = school.subscriptions
    await subscriptions.plan("busy", limit=None)
    users = await subscriptions.accounts(4, prefix="busy")
    for user_id in users:
        await subscriptions.subscribe(user_id, "busy")
    choices = random.Random(7)
    done = asyncio.Event()

    async def work(user_id: str) -> None:
        for _ in range(15):
            requests = [placement(user_id) for _ in range(choices.randint(1, 3))]
            for outcome in await subscriptions.batch(HOLDS, "PlaceHold", requests):
                end = subscriptions.commit if choices.random() < 0.6 else subscriptions.release
                await end(outcome.hold)

    async def give_back() -> int:
        applied = 0
        while not done.is_set() or not applied:
            plan, _ = await school.plan(repair=GIVE_BACK, user_id=choices.choice(users))
            applied += len([row for row in await school.apply(plan) if row.outcome is RowOutcome.APPLIED])
        return applied

    giving_back = asyncio.create_task(give_back())
    await asyncio.gather(*map(work, users))
    done.set()
    assert await giving_back > 0
    assert [each for each in await school.findings() if each.user_id in users] == []


_moments = st.one_of(
    st.none(), st.integers(0, 5).map(lambda days: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=days))
)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(-1, 9), _moments), max_size=6), st.integers(-2, 40))
def test_shares_add_up_and_stay_within_their_room(
    rows: list[tuple[int, int, datetime | None]], target: int
) -> None:
    grants = [GrantShare(number, *row) for number, row in enumerate(rows)]
    found = shares(grants, target)
    if found is None:
        assert any(grant.room < 0 for grant in grants) or not 0 <= target <= sum(g.room for g in grants)
        return
    assert sum(found.values()) == target
    assert all(0 <= found[grant.entry_number] <= grant.room for grant in grants)
    fits = all(grant.remaining <= grant.room for grant in grants)
    if fits and target == sum(grant.remaining for grant in grants):
        assert found == {grant.entry_number: grant.remaining for grant in grants}
