"""Three times the load that a service can take, sent without waiting for answers."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.acceptance.proxied import proxied_stack
from tests.support.http_client import HttpClient, unique

IN_FLIGHT_MAX = 32
LATENCY_SECONDS = 0.05  # in each direction: capacity is what is in flight in 0.1 s
LEARNERS = 200
PEAK_SECONDS = 5.0
LOAD_SECONDS = 15.0
MIX = ("list", "list", "start", "start", "complete")
GROWTH_BYTES_MAX = 50 * 1024 * 1024

pytestmark = [pytest.mark.fault, pytest.mark.nightly]


class Load:
    """Counts what was served and what was refused, and how long refusals took."""

    def __init__(self, http: HttpClient, users: list[str], test: str) -> None:
        self.served: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.refusal_seconds: list[float] = []
        self._http = http
        self._users = users
        self._test = test

    async def ask(self, kind: str) -> None:
        user, key = random.choice(self._users), unique("k")
        began = time.monotonic()
        if kind == "list":
            answer = await self._http.send("GET", "/v1/sessions?pageSize=1", user=user)
        elif kind == "start":
            answer = await self._http.start(user, self._test, key=key)
        else:  # of a session that does not exist: it is looked for, as any other
            path = "/v1/sessions/00000000-0000-4000-8000-000000000000:complete"
            answer = await self._http.send("POST", path, user=user, key=key, json={})
        if answer.status == 503:
            assert "retry-after" in answer.headers
            self.refused[kind] += 1
            self.refusal_seconds.append(time.monotonic() - began)
        else:
            assert answer.status in {200, 201, 404}, answer.text
            self.served[kind] += 1


async def peak(load: Load) -> float:
    """What is served in a second when just as many ask as there is room for."""
    until = time.monotonic() + PEAK_SECONDS

    async def worker() -> None:
        while time.monotonic() < until:
            await load.ask(random.choice(MIX))

    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT_MAX * 3 // 4)))
    return load.served.total() / PEAK_SECONDS


async def open_loop(load: Load, rate: float) -> None:
    """Sends at this rate, whatever becomes of what was sent before."""
    asked: set[asyncio.Task[None]] = set()
    begun, number = time.monotonic(), 0
    while (passed := time.monotonic() - begun) < LOAD_SECONDS:
        while number < passed * rate:
            asked.add(asyncio.create_task(load.ask(MIX[number % len(MIX)])))
            number += 1
        await asyncio.sleep(0.005)
    await asyncio.gather(*asked)


def resident_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


@pytest.mark.timeout(300)
async def test_at_three_times_the_capacity_goodput_stays_and_completions_are_refused_last() -> None:
    async with proxied_stack({"HOMEROOM_IN_FLIGHT_MAX": str(IN_FLIGHT_MAX)}) as stack:
        http = HttpClient(base_url=stack.gateway_url, token=stack.token)
        test = unique("test")
        users = [unique("learner") for _ in range(LEARNERS)]
        await http.put_test(test, questions=1)
        for user in users:
            await http.put_account(user)
        stack.way.latency_seconds = LATENCY_SECONDS
        at_peak = await peak(Load(http, users, test))
        pid = stack.pid("gateway")
        assert pid is not None
        before = resident_bytes(pid)
        load = Load(http, users, test)
        await open_loop(load, 3 * at_peak)
        growth = resident_bytes(pid) - before
        await http.close()
    shares = {kind: load.served[kind] / (load.served[kind] + load.refused[kind]) for kind in set(MIX)}
    goodput = load.served.total() / LOAD_SECONDS
    quick = statistics.quantiles(load.refusal_seconds, n=100)
    print(
        f"peak {at_peak:.0f}/s, goodput {goodput:.0f}/s, served {shares}, growth {growth / 1e6:.1f} MB, "
        f"refusals p50 {quick[49] * 1e3:.0f} ms p99 {quick[98] * 1e3:.0f} ms"
    )
    assert goodput >= 0.8 * at_peak
    assert shares["complete"] > 0.95
    assert shares["complete"] > shares["start"] >= shares["list"]
    assert growth < GROWTH_BYTES_MAX
    assert quick[49] < 0.05
