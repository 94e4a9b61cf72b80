"""The gateway's readiness check of the services behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

from chassis.telemetry.health import NotReadyError


async def check_any(checks: Collection[Callable[[], Awaitable[object]]]) -> None:
    """Passes as soon as one of the checks passes.

    A gateway is useful while any service behind it serves. If each service were required, one missing service
    would remove every gateway from its load balancer.

    Raises:
        NotReadyError: all checks fail.
    """
    running = {asyncio.ensure_future(check()) for check in checks}
    try:
        for finished in asyncio.as_completed(running):
            try:
                await finished
            except Exception:  # noqa: BLE001, S112 — each service also has a check of its own, with the reason
                continue
            return
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    raise NotReadyError("no service answers")
