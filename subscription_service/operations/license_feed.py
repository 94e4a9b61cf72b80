"""Follows the changes of all licenses, from any sequence number on, until the watcher leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from chassis.batch import Item
from subscription_service.domain.licenses import SequencedProgression
from subscription_service.store.license_reads import LicenseReader

PAGE_SIZE = 500
READ_SECONDS_MAX = 5.0


class LicenseFeed:
    """Polls for changes. A hint that there are some only makes it look sooner."""

    def __init__(self, *, reader: LicenseReader, poll_seconds: float) -> None:
        self._reader = reader
        self._poll_seconds = poll_seconds
        self._hint = asyncio.Event()
        self._closed = False

    def wake(self) -> None:
        """Make every waiting watch look now."""
        hint, self._hint = self._hint, asyncio.Event()
        hint.set()

    def close(self) -> None:
        """End every watch. The watchers may continue at another replica."""
        self._closed = True
        self.wake()

    async def watch(self, item: Item[int]) -> AsyncIterator[SequencedProgression]:
        """Every change after this sequence number, in order and without gaps, until the deadline."""
        after = item.request
        while not self._closed:
            remaining = item.deadline - time.monotonic()
            if remaining <= 0:
                return
            hint = self._hint  # taken before the read: a change that comes in between is not missed
            page = await self._reader.read_feed(
                after=after,
                limit=PAGE_SIZE,
                deadline=time.monotonic() + min(READ_SECONDS_MAX, remaining),
            )
            for change in page:
                yield change
                after = change.sequence
            if len(page) < PAGE_SIZE:
                try:
                    async with asyncio.timeout(min(self._poll_seconds, remaining)):
                        await hint.wait()
                except TimeoutError:
                    pass
