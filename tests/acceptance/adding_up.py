"""What must be true once a mixed load has ended, whatever happened to the processes meanwhile."""

from __future__ import annotations

import asyncpg

from homeroom.services import SERVICES
from homeroom.supervisor import Stack
from tests.acceptance.conftest import HOLD_AGE_SECONDS
from tests.progress.diagnostics import read_discrepancies as read_progress_discrepancies
from tests.subscription.diagnostics import read_discrepancies as read_subscription_discrepancies
from tests.support.http_client import HttpClient
from tests.support.invariants import read_books
from tests.support.mixed_load import MixedLoad, wrong_days
from tests.support.stack_logs import logged_errors
from tests.support.waiting import eventually


async def assert_adds_up(stack: Stack, http: HttpClient, load: MixedLoad) -> None:
    """Every learner's day and all books are right, and no process has met a bug."""

    async def settled() -> bool:
        return (await read_books(stack)).settled

    await eventually(settled, seconds=HOLD_AGE_SECONDS + 40)
    assert (await read_books(stack)).wrong_counters == []
    assert await wrong_days(http, load) == []
    for database, read in (
        ("subscription", read_subscription_discrepancies),
        ("progress", read_progress_discrepancies),
    ):
        connection = await asyncpg.connect(stack.dsn(database))
        try:
            # Other tests of this stack reset, import and repair, which this reading knows nothing of.
            found = await read(connection)
            assert [each for each in found if each.user_id in set(load.learners)] == []
        finally:
            await connection.close()
    errors = await stack.internal_errors()
    assert errors == dict.fromkeys((service.package for service in SERVICES), 0)
    logged = logged_errors(stack)
    assert not logged, logged
