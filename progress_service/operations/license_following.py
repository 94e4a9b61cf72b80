"""Background work: progress follows the licenses that instructors have advanced."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from chassis.errors import Reason, ServiceError
from chassis.process.background import AT_ONCE, step_deadline
from chassis.telemetry.logs import get_logger
from chassis.telemetry.metrics import Metrics
from progress_service.domain.license_changes import LicenseChange
from progress_service.store.license_feed import LicenseFeedStore
from progress_service.subscription_client import SubscriptionClient

CHANGES_PER_TURN_MAX = 500
# After the stream has ended: soon, because an instructor waits for the effect.
AGAIN_SECONDS = 1.0

log = get_logger(__name__)


class LicenseFollowing:
    """Follows the feed of all licenses. Any number of replicas may do so; each change has its effect once."""

    def __init__(
        self,
        *,
        store: LicenseFeedStore,
        subscription: SubscriptionClient,
        wake_relay: Callable[[], object],
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._subscription = subscription
        self._wake_relay = wake_relay
        self._followed = metrics.counter(
            "license_changes_followed",
            "Changes of licenses that were read; a 'raised' one raised a level of the progress.",
            ("effect",),
        )

    async def follow(self) -> float:
        """Follow the feed from the stored position until the stream ends.

        Returns the seconds to wait before the next round. Raises what `Database` raises, and a refusal of
        subscription_service.
        """
        after = await self._store.read_position(deadline=step_deadline())
        try:
            async with aclosing(batches(self._subscription.watch_licenses(after_sequence=after))) as turns:
                async for changes in turns:
                    await self._apply(changes)
        except ServiceError as error:
            if error.reason is not Reason.UNAVAILABLE:
                raise
            log.warning("license_feed_lost", problem=error.detail)
            return AGAIN_SECONDS * random.uniform(0.5, 1.5)  # noqa: S311 — jitter
        return AT_ONCE

    async def _apply(self, changes: list[LicenseChange]) -> None:
        followed = await self._store.apply_changes(changes, deadline=step_deadline())
        if followed.levels_told:
            self._wake_relay()
        self._followed.add("raised", amount=followed.raised)
        self._followed.add("none", amount=followed.fresh - followed.raised)


async def batches(changes: AsyncIterator[LicenseChange]) -> AsyncGenerator[list[LicenseChange]]:
    """The changes in lists of what has arrived meanwhile, at most CHANGES_PER_TURN_MAX each."""
    arrived: asyncio.Queue[LicenseChange | None] = asyncio.Queue(CHANGES_PER_TURN_MAX)

    async def read() -> None:
        try:
            async for change in changes:
                await arrived.put(change)
        except Exception:
            await arrived.put(None)
            raise
        await arrived.put(None)

    reading = asyncio.create_task(read())
    try:
        while True:
            batch = [await arrived.get()]
            while len(batch) < CHANGES_PER_TURN_MAX and not arrived.empty():
                batch.append(arrived.get_nowait())
            known = [change for change in batch if change is not None]
            if known:
                yield known
            if len(known) < len(batch):
                await reading  # raises what ended the stream
                return
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
