"""Notifications that licenses have changed, through LISTEN on a connection of its own: a hint, no promise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg

from subscription_service.store.licenses import CHANNEL

CONNECT_SECONDS_MAX = 3.0


async def listen_until_lost(dsn: str, notify: Callable[[], None]) -> None:
    """Call `notify` after every commit that changed licenses, until the connection is lost.

    A job that runs again when it ends. Without a connection, or behind a pooler that passes nothing on,
    `notify` is not called: the readers poll.
    """
    connection = await asyncpg.connect(
        dsn,
        timeout=CONNECT_SECONDS_MAX,
        server_settings={"application_name": "subscription_service listening"},
    )
    lost = asyncio.Event()
    try:
        connection.add_termination_listener(lambda _: lost.set())
        await connection.add_listener(CHANNEL, lambda *_: notify())
        notify()  # of what was committed while nobody listened
        await lost.wait()
    finally:
        connection.terminate()
