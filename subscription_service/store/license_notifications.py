"""Hears that licenses have changed, through LISTEN on a connection of its own: a hint, never a promise."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import asyncpg

from chassis.telemetry.logs import get_logger
from subscription_service.store.licenses import CHANNEL

CONNECT_SECONDS_MAX = 3.0
BACKOFF_SECONDS_MAX = 30.0

log = get_logger(__name__)


async def listen_for_changes(dsn: str, heard: Callable[[], None]) -> None:
    """Call `heard` after every commit that changed licenses, until cancelled.

    Without a connection, or behind a pooler that passes nothing on, `heard` is not called; the readers poll.
    """
    failures = 0
    while True:
        try:
            await _listen_until_lost(dsn, heard)
            failures = 0
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            failures += 1
            log.warning("not listening for license changes", problem=type(error).__name__)
        ceiling = min(BACKOFF_SECONDS_MAX, 2.0**failures)
        await asyncio.sleep(random.uniform(0, ceiling))  # noqa: S311 — jitter, not a secret


async def _listen_until_lost(dsn: str, heard: Callable[[], None]) -> None:
    connection = await asyncpg.connect(
        dsn,
        timeout=CONNECT_SECONDS_MAX,
        server_settings={"application_name": "subscription_service listening"},
    )
    lost = asyncio.Event()
    try:
        connection.add_termination_listener(lambda _: lost.set())
        await connection.add_listener(CHANNEL, lambda *_: heard())
        heard()  # what was committed while nobody listened
        await lost.wait()
    finally:
        connection.terminate()
