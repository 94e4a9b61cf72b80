"""Whether the services behind the gateway serve, as its readiness shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

from chassis.telemetry.health import NotReadyError


async def check_any(checks: Collection[Callable[[], Awaitable[object]]]) -> None:
    """Passes as soon as one of the checks does.

    A gateway is useful while any service behind it serves: if each of them were required, one that is away
    would take every gateway out of its load balancer.

    Raises:
        NotReadyError: all of them fail.
    """
    running = {asyncio.ensure_future(check()) for check in checks}
    try:
        for finished in asyncio.as_completed(running):
            try:
                await finished
            except Exception:  # noqa: BLE001, S112 — the check of its own shows why
                continue
            return
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    raise NotReadyError("no service answers")
