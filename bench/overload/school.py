"""A stack with learners at work, and the loads on it; each load is a process of its own."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from bench.load.actions import ACTORS, QUESTIONS, actor_id, module_id, question_id
from bench.load.generator import run_generator
from bench.load.identity import Identity
from bench.load.plan import Kind, Outcome, Plan, count_by_kind
from bench.overload.figures import Call, calls_of, goodput, problems_of
from bench.overload.watch import Watch
from bench.systems.actions import furnish
from homeroom import probe
from homeroom.services import GATEWAY, SERVICES
from homeroom.supervisor import Stack

ADDRESSES = 8
"""One address may have 1,024 requests in flight and 5,000 connections."""
CLOSED_CONNECTIONS = (64, 256)
CLOSED_SECONDS = 5.0
SETTLE_SECONDS = 1.0  # of a closed loop: its connections are opened, and it is not counted
_SAMPLE = re.compile(r"^(?P<name>homeroom_\w+)(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)$", re.MULTILINE)
_METHOD = re.compile(r'method="(?P<method>[^"]*)"')


@dataclass(frozen=True, slots=True)
class Attempts:
    """Calls to one service, and how often they were sent, over all processes that call it."""

    calls: float
    attempts: float
    retries: float


@dataclass(frozen=True, slots=True)
class Run:
    """One load: its calls, the time of its schedule's begin, and what is wrong with it."""

    calls: Sequence[Call]
    began: float
    cpu_seconds: float
    connections: int
    problems: Sequence[str]
    watch: Watch

    @property
    def good(self) -> int:
        return sum(call.good for call in self.calls)


class School:
    """Learners on a running stack, each with a session under way and enrolled in the bench's courses."""

    def __init__(self, stack: Stack, session_id: str, tokens: Sequence[str], folder: Path) -> None:
        self.stack = stack
        self._session_id = session_id
        self._tokens = tokens
        self._folder = folder
        self._used: Counter[str] = Counter()
        self._runs = 0

    @classmethod
    async def open(cls, stack: Stack, identity: Identity, folder: Path) -> School:
        actors = [actor_id(index) for index in range(ACTORS)]
        session_id = await furnish(stack, identity, learners=[], actors=actors)
        return cls(stack, session_id, [identity.token(actor, "learner") for actor in actors], folder)

    def kinds(self, names: Iterable[str]) -> list[Kind]:
        """The kinds of requests by their names. Half of the learners answer, the others complete."""
        session, half = f"/v1/sessions/{self._session_id}", ACTORS // 2
        answers = [f'{{"questionId":"{question_id(n)}","choice":"a"}}' for n in range(QUESTIONS)]
        lesson = f"/v1/lessons/{module_id(0)}/lesson-1/access"
        known = {
            "read": Kind(name="read", method="GET", path=session, callers=(0, half)),
            "list": Kind(name="list", method="GET", path="/v1/sessions?pageSize=5", callers=(0, ACTORS)),
            "start": Kind(
                name="start",
                method="POST",
                path="/v1/sessions",
                callers=(0, ACTORS),
                bodies=('{"testId":"bench-01"}',),
                keyed=True,
            ),
            "answer": Kind(
                name="answer",
                method="POST",
                path=f"{session}/answers",
                callers=(0, half),
                bodies=answers,
                keyed=True,
            ),
            "complete": Kind(
                name="complete",
                method="POST",
                path=f"{session}:complete",
                callers=(half, half),
                bodies=("{}",),
                keyed=True,
            ),
            "access": Kind(name="access", method="GET", path=lesson, callers=(0, ACTORS)),
            "entitlements": Kind(
                name="entitlements", method="GET", path="/v1/entitlements", callers=(0, ACTORS)
            ),
        }
        return [msgspec.structs.replace(known[name], begin=self._used[name]) for name in names]

    async def load(
        self,
        mix: Sequence[str],
        *,
        seconds: float,
        rate: float = 0.0,
        connections: int = 64,
        ahead: int = 0,
    ) -> Run:
        """Sends the mix at this rate, or, without one, on so many connections as fast as it is answered.

        `ahead` of the connections are open before the first request.

        Raises:
            RuntimeError: the generator failed.
        """
        names = list(dict.fromkeys(mix))
        plan = Plan(
            port=urlsplit(self.stack.gateway_url).port or 80,
            tokens=self._tokens,
            kinds=self.kinds(names),
            mix=[names.index(name) for name in mix],
            seconds=seconds,
            rate=rate,
            connections=connections,
            addresses=ADDRESSES,
            ahead=ahead,
        )
        self._runs += 1
        path, out = (self._folder / f"load-{self._runs}.{what}" for what in ("plan", "outcome"))
        path.write_bytes(msgspec.msgpack.encode(plan))
        command = [sys.executable, "-P", "-m", "bench.load.open_loop", str(path), str(out)]
        async with Watch(self.stack) as watch:
            await run_generator(
                command, seconds=seconds + plan.drain_seconds_max, environment=generator_environment()
            )
        outcome = msgspec.msgpack.decode(out.read_bytes(), type=Outcome)
        self._used.update(count_by_kind(plan, outcome))
        calls = calls_of(outcome, names)
        return Run(
            calls=calls,
            began=outcome.began,
            cpu_seconds=outcome.cpu_seconds,
            connections=outcome.connections,
            problems=problems_of(calls, planned=int(rate * seconds)),
            watch=watch,
        )

    async def capacity(self, mix: Sequence[str]) -> tuple[float, list[Run]]:
        """The best rate of good answers in a closed loop, and the runs.

        Raises:
            RuntimeError: the generator failed, or nothing is served.
        """
        best, runs = 0.0, []
        for connections in CLOSED_CONNECTIONS:
            run = await self.load(mix, seconds=CLOSED_SECONDS, connections=connections)
            runs.append(run)
            best = max(best, goodput(run.calls, run.began + SETTLE_SECONDS, run.began + CLOSED_SECONDS))
        if not best:
            raise RuntimeError(f"no request of {', '.join(mix)} is served: {'; '.join(runs[0].problems)}")
        return best, runs

    async def attempts(self, service: str) -> Attempts:
        """What all living processes have counted about their calls to a service, since they started."""
        prefix = f"/homeroom.{service.removesuffix('_service')}."
        pages = [await self._page(each.package) for each in SERVICES]
        return Attempts(
            calls=sum_of(pages, "homeroom_upstream_call_attempts_count", prefix),
            attempts=sum_of(pages, "homeroom_upstream_call_attempts_sum", prefix),
            retries=sum_of(pages, "homeroom_upstream_retries_total", prefix),
        )

    async def gauge(self, name: str, at: float) -> float:
        """What the gateway shows of itself at this time of `time.monotonic`; 0 if it shows nothing."""
        await asyncio.sleep(at - time.monotonic())
        page = await self._page(GATEWAY.package)
        found = re.search(rf"^homeroom_{name} (\S+)$", page, re.MULTILINE)
        return float(found[1]) if found else 0.0

    async def _page(self, package: str) -> str:
        page = await probe.get(self.stack.address(package).ops_port, "/metrics", seconds_max=5.0)
        return page.body.decode() if page is not None else ""


def sum_of(pages: Iterable[str], name: str, prefix: str) -> float:
    """The sum of a metric's series whose `method` begins so, over pages of metrics."""
    total = 0.0
    for page in pages:
        for sample in _SAMPLE.finditer(page):
            method = _METHOD.search(sample["labels"] or "")
            if sample["name"] == name and method is not None and method["method"].startswith(prefix):
                total += float(sample["value"])
    return total


def difference(after: Attempts, before: Attempts) -> Attempts:
    return Attempts(
        calls=after.calls - before.calls,
        attempts=after.attempts - before.attempts,
        retries=after.retries - before.retries,
    )


def generator_environment() -> Mapping[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
