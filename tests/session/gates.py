"""Points at which a test holds up one side of a race, to decide it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from chassis.context import Claim, Context
from chassis.errors import ServiceError
from session_service.domain.holds import HoldRequest, HoldState, SubjectTaken
from session_service.store.holds import HoldStore
from session_service.subscription_client import SubscriptionClient


class Gate:
    """Open unless closed; says how many have arrived at it."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._arrivals = asyncio.Condition()
        self.arrived = 0

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    async def pass_through(self) -> None:
        async with self._arrivals:
            self.arrived += 1
            self._arrivals.notify_all()
        await self._open.wait()

    async def reached(self, times: int = 1) -> None:
        """Return once this many have arrived."""
        async with asyncio.timeout(10), self._arrivals:
            await self._arrivals.wait_for(lambda: self.arrived >= times)


class GatedSubscription(SubscriptionClient):
    """Real holds, with a gate before and one after they are placed."""

    def __init__(self, subscription: SubscriptionClient) -> None:
        super().__init__(upstream=subscription._upstream)
        self.before = Gate()
        self.after = Gate()

    async def place_holds(
        self, wanted: Sequence[tuple[HoldRequest, Context]]
    ) -> list[HoldState | SubjectTaken | ServiceError]:
        await self.before.pass_through()
        states = await super().place_holds(wanted)
        await self.after.pass_through()
        return states


class GatedHolds(HoldStore):
    """The real store, with a gate before a key is aborted."""

    def __init__(self, holds: HoldStore) -> None:
        super().__init__(database=holds._database)
        self.gate = Gate()

    async def abort_keys(self, claims: Iterable[Claim], *, deadline: float) -> set[Claim]:
        await self.gate.pass_through()
        return await super().abort_keys(claims, deadline=deadline)
