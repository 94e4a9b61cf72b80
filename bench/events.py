"""`python -m bench.events`: what a client that listens to its changes costs, in CPU, memory and bytes.

It starts a stack of its own. Each learner has an account, a live session and one stream, and nothing changes
while it measures: the CPU is that of asking the services once a second.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp

from bench.measure.processes import POSTGRES, read_memory, spending, take_snapshot
from homeroom.services import GATEWAY, SERVICES
from homeroom.supervisor import Stack

AT_ONCE = 32
TEST = "events"
# After the last client has come: its first reads are over.
SETTLE_SECONDS = 3.0


class Learners:
    """Learners with a live session each, and their streams."""

    def __init__(self, stack: Stack, session: aiohttp.ClientSession, number: int) -> None:
        self.users = [f"listener-{each}" for each in range(number)]
        self.received_bytes = 0
        self._stack = stack
        self._session = session
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def furnish(self) -> None:
        """Makes the accounts, the test and the sessions."""
        definition = {"title": TEST, "kind": "PRACTICE", "questionCount": 0, "countsTowardDailyLimit": False}
        await self._send("PUT", f"/v1/tests/{TEST}", "root", "admin", definition)
        await asyncio.gather(*map(self._begin, self.users))

    async def listen(self) -> list[asyncio.Task[None]]:
        """Opens a stream for each, and returns when all are open."""
        opened = [asyncio.Event() for _ in self.users]
        listening = [
            asyncio.create_task(self._listen(user, event))
            for user, event in zip(self.users, opened, strict=True)
        ]
        for event in opened:
            await event.wait()
        return listening

    async def _begin(self, user: str) -> None:
        async with self._turns:
            account = {"email": f"{user}@example.org", "displayName": user, "status": "ACTIVE"}
            await self._send("PUT", f"/v1/accounts/{user}", "root", "admin", account)
            await self._send("POST", "/v1/sessions", user, "learner", {"testId": TEST})

    async def _listen(self, user: str, opened: asyncio.Event) -> None:
        async with self._turns:
            response = await self._session.get(
                f"{self._stack.gateway_url}/v1/events", headers=self._headers(user, "learner")
            )
        response.raise_for_status()
        async for chunk in response.content.iter_any():
            opened.set()
            self.received_bytes += len(chunk)
        raise RuntimeError("a stream has ended")

    async def _send(self, method: str, path: str, user: str, role: str, body: Mapping[str, Any]) -> None:
        headers = self._headers(user, role) | {"Idempotency-Key": user}
        url = f"{self._stack.gateway_url}{path}"
        async with self._session.request(method, url, json=body, headers=headers) as response:
            response.raise_for_status()

    def _headers(self, user: str, role: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._stack.token(user, [role])}"}


async def main(streams: int, seconds: float) -> None:
    settings = {
        "HOMEROOM_STREAMS_MAX": str(streams),
        "HOMEROOM_CONNECTIONS_PER_ADDRESS_MAX": "100000",
    }
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        Stack(ephemeral=True, env=settings, redis=False) as stack,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session,
    ):
        await stack.wait_ready()
        roots = _roots(stack)
        learners = Learners(stack, session, streams)
        await learners.furnish()
        await asyncio.sleep(SETTLE_SECONDS)
        idle = await _spent(roots, seconds)
        memory_mib = read_memory(roots)[GATEWAY.package].pss_mib
        listening = await learners.listen()
        await asyncio.sleep(SETTLE_SECONDS)
        first_bytes = learners.received_bytes
        memory_mib = read_memory(roots)[GATEWAY.package].pss_mib - memory_mib
        busy = await _spent(roots, seconds)
        for task in listening:
            task.cancel()
        await asyncio.wait(listening)
        _report(streams, seconds, idle, busy)
        kept_bytes = learners.received_bytes - first_bytes
        print(f"{'memory of the gateway':34}{memory_mib * 1024 / streams:10.1f} KiB for a stream")
        print(f"{'bytes of the present state':34}{first_bytes / streams:10.0f} for a stream")
        print(
            f"{'bytes while nothing changes':34}{kept_bytes / streams / seconds:10.2f} a second for a stream"
        )


def _roots(stack: Stack) -> dict[str, int]:
    names = [*(service.package for service in SERVICES), POSTGRES]
    return {name: pid for name in names if (pid := stack.pid(name)) is not None}


async def _spent(roots: Mapping[str, int], seconds: float) -> Mapping[str, float]:
    """CPU seconds of each group in this time."""
    before = take_snapshot(roots)
    await asyncio.sleep(seconds)
    return spending(before, take_snapshot(roots)).seconds_by_group


def _report(streams: int, seconds: float, idle: Mapping[str, float], busy: Mapping[str, float]) -> None:
    print(f"{streams} streams, measured for {seconds:g} s, without what the stack takes when it is idle\n")
    for name in sorted(busy):
        share = (busy[name] - idle.get(name, 0.0)) / seconds
        print(f"{name:34}{share * 1e6 / streams:10.1f} µs of CPU a second for a stream")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.streams, arguments.seconds))
