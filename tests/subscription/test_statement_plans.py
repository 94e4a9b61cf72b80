"""Every statement on the way of a hold finds each learner's rows through one index probe of its own."""

from __future__ import annotations

import itertools
import random
import re
import time
from collections.abc import AsyncIterator

import pytest

from bench.scale.costs import Bench
from bench.scale.plans import WatchedDatabase, explain, scans_of_whole_tables
from bench.scale.population import add_accounts, add_holds
from chassis.postgres import Connection
from homeroom.embedded.provisioning import ServiceDatabase

ACCOUNTS = 2000


@pytest.fixture
async def watched(subscription_database: ServiceDatabase) -> AsyncIterator[WatchedDatabase]:
    database = await WatchedDatabase.connect(subscription_database.service, maximum=1)
    assert isinstance(database, WatchedDatabase)
    yield database
    await database.close()


async def test_no_statement_reads_more_of_a_table_than_the_learners_it_names(
    watched: WatchedDatabase, truth: Connection
) -> None:
    await add_accounts(truth, ACCOUNTS)
    await add_holds(truth, range(10 * ACCOUNTS), ACCOUNTS)
    # Nothing is open when the planner learns of the tables: the janitor's index looks as good as any.
    await truth.execute("VACUUM (ANALYZE)")
    backend = await watched.read(
        lambda connection: connection.fetchval("SELECT pg_backend_pid()"), deadline=time.monotonic() + 5.0
    )
    watched.statements.clear()
    await Bench(watched, truth, backend, random.Random(1)).measure(ACCOUNTS, batches=20, repeats=1)
    plans = await explain(watched)
    # read for placing, place; lock, read for resolving, write; entitlements
    assert len(plans) == 6
    assert scans_of_whole_tables(plans) == []
    for name, plan in plans.items():
        for line, after in itertools.pairwise(plan):
            if match := re.search(r"Index (?:Only )?Scan using (\w+)", line):
                assert "user_id = wanted.user_id" in after, (name, match[1], after)
                assert match[1] != "holds_open_by_age", name
