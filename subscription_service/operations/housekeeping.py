"""Forgets, now and then, the answers that nobody will ask for again."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import timedelta

from chassis.errors import ServiceError
from chassis.telemetry.logs import get_logger
from chassis.postgres import LockTimeout, OutcomeUnknown
from subscription_service.store.housekeeping import HousekeepingStore

EVERY_SECONDS = 3600.0
ROWS_AT_ONCE = 1000
PURGE_SECONDS_MAX = 5.0

log = get_logger(__name__)


async def keep_house(store: HousekeepingStore, *, key_age: timedelta) -> None:
    """Purge old idempotency keys about once an hour, until cancelled; many processes may do so at once."""
    while True:
        await asyncio.sleep(random.uniform(0.5, 1.5) * EVERY_SECONDS)  # noqa: S311 — jitter, not a secret
        try:
            forgotten = await purge_old_keys(store, key_age=key_age)
        except (ServiceError, OutcomeUnknown, LockTimeout) as error:
            log.warning("housekeeping was interrupted", problem=str(error))
        else:
            log.info("housekeeping is done", forgotten_keys=forgotten)


async def purge_old_keys(store: HousekeepingStore, *, key_age: timedelta) -> int:
    """Forget every key of at least this age, in small transactions; returns how many."""
    forgotten = 0
    while True:
        purged = await store.purge_idempotency_keys(
            older_than=key_age, limit=ROWS_AT_ONCE, deadline=time.monotonic() + PURGE_SECONDS_MAX
        )
        forgotten += purged
        if purged < ROWS_AT_ONCE:
            return forgotten
