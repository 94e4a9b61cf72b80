"""Every statement that a hold needs finds each learner's rows through one index probe of its own."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import AsyncIterator

import pytest

from bench.scale.plans import WatchedDatabase, explain, scans_of_whole_tables
from bench.scale.subscription_population import add_accounts, add_holds, learner
from bench.scale.subscription_subject import SubscriptionSubject
from chassis.postgres import Connection
from homeroom.embedded.provisioning import ServiceDatabase
from protos.subscription.v1 import account_checks_pb2, accounts_pb2, holds_pb2
from tests.subscription.service import ACCOUNTS, HOLDS, Subscriptions, placement
from tests.subscription.test_account_checks import CHECKS

LEARNERS = 2000
BATCH = 32
# Enough for the server to keep a plan of each prepared statement that is good for any arguments.
ROUNDS = 20


@pytest.fixture
async def watched(subscription_database: ServiceDatabase) -> AsyncIterator[WatchedDatabase]:
    database = await WatchedDatabase.connect(subscription_database.service, maximum=1)
    assert isinstance(database, WatchedDatabase)
    yield database
    await database.close()


async def test_no_statement_reads_more_of_a_table_than_the_learners_it_names(
    watched: WatchedDatabase, truth: Connection
) -> None:
    await add_accounts(truth, LEARNERS)
    await add_holds(truth, range(10 * LEARNERS), LEARNERS)
    # Nothing is open when the planner learns of the tables: the janitor's index looks as good as any.
    await truth.execute("VACUUM (ANALYZE)")
    subscriptions = Subscriptions(watched, truth)
    choices = random.Random(1)
    for _ in range(ROUNDS):
        users = [learner(number) for number in choices.sample(range(LEARNERS), BATCH)]
        placed = await subscriptions.batch(HOLDS, "PlaceHold", [placement(user_id) for user_id in users])
        ends = [
            holds_pb2.CommitHoldRequest(user_id=outcome.hold.user_id, hold_id=outcome.hold.hold_id)
            for outcome in placed
        ]
        for outcome in await subscriptions.batch(HOLDS, "CommitHold", ends):
            assert outcome.hold.state == holds_pb2.Hold.COMMITTED
        reads = [accounts_pb2.GetEntitlementsRequest(user_id=user_id) for user_id in users]
        for outcome in await subscriptions.batch(ACCOUNTS, "GetEntitlements", reads):
            assert outcome.entitlements.tests.used > 0
        checked = account_checks_pb2.CheckAccountsRequest(user_ids=users)
        assert len((await subscriptions.one(CHECKS, "CheckAccounts", checked)).accounts) == BATCH
    plans = await explain(watched)
    # read for placing, place; lock, read for resolving, write; entitlements; accounts
    assert len(plans) == 7
    assert scans_of_whole_tables(plans, SubscriptionSubject.tables) == []
    for name, plan in plans.items():
        for line, after in itertools.pairwise(plan):
            if match := re.search(r"Index (?:Only )?Scan using (\w+)", line):
                assert "user_id = wanted.user_id" in after, (name, match[1], after)
                assert match[1] != "holds_open_by_age", name
