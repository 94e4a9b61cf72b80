"""`python -m bench.load.open_loop PLAN OUTCOME`: sends requests by a schedule, or as they are answered.

In an open loop a request is sent when its time has come, whatever has become of those before it. Its latency
counts from the scheduled time, so that a generator or a server that lags behind hides nothing. A request that
finds no idle connection opens one; when all are in use, it waits for one, and its time runs.

The program knows HTTP/1.1 as far as the gateway speaks it: each answer has its `Content-Length`.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
import uuid
from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import cast

import msgspec
import uvloop

TICK_SECONDS = 0.001
# The first request is this far ahead, so that the schedule begins with a generator that is ready.
LEAD_SECONDS = 0.2
OPENED_PER_TURN, OPENED_PAUSE_SECONDS = 20, 0.01
NO_ANSWER = 0
GIVEN_UP = 1
"""The status of a request that was never sent: within its time no connection was free, or accepted."""
_LENGTH = b"Content-Length: "
_CLOSE = b"Connection: close"


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of request.

    Args:
        bodies: the n-th round of all callers sends the n-th of them; no body if empty.
        callers: the first of the plan's tokens that sends it, and how many do, in turns.
        begin: the requests of this kind that earlier runs sent.
    """

    name: str
    method: str
    path: str
    callers: tuple[int, int]
    bodies: Sequence[str] = ()
    keyed: bool = False
    begin: int = 0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to send: `rate` requests a second by schedule, or, if that is 0, as many at once as `connections`.

    Args:
        mix: indexes into `kinds`, sent in this order, again and again.
        connections: the most that are open at once.
        addresses: they come from this many loopback addresses.
        ahead: the connections that are opened before the schedule begins, one after another. Thousands at
            once are more than the kernel keeps for a busy server.
    """

    port: int
    tokens: Sequence[str]
    kinds: Sequence[Kind]
    mix: Sequence[int]
    seconds: float
    rate: float = 0.0
    connections: int = 64
    addresses: int = 1
    ahead: int = 0
    timeout_seconds: int = 5
    drain_seconds_max: float = 10.0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The calls as columns, in the order in which they were due; times of `time.monotonic`, in seconds.

    Args:
        kinds: indexes into the plan's kinds.
        due: the scheduled times; in a closed loop, the times of sending.
        taken: when the generator came to it: the difference to `due` is its own lag.
        sent: when it was written to a connection.
        ended: when its answer was complete.
        statuses: the HTTP statuses; NO_ANSWER, or GIVEN_UP.
    """

    began: float
    kinds: list[int]
    due: list[float]
    taken: list[float]
    sent: list[float]
    ended: list[float]
    statuses: list[int]
    cpu_seconds: float
    connections: int


def due_until(now: float, *, begin: float, rate: float, total: int) -> int:
    """How many requests are due at this time, of `total` that come at an even rate from `begin` on."""
    return min(total, max(0, int((now - begin) * rate) + 1)) if now >= begin else 0


class Line(asyncio.Protocol):
    """One connection, with at most one request under way."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._call = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._generator.lines.add(self)

    def send(self, call: int, text: bytes) -> None:
        self._call = call
        assert self._transport is not None
        self._generator.sent[call] = time.monotonic()
        self._transport.write(text)

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        head = data.find(b"\r\n\r\n")
        at = data.find(_LENGTH, 0, head) if head >= 0 else -1
        length = int(data[at + len(_LENGTH) : data.find(b"\r\n", at)]) if at >= 0 else 0
        if head < 0 or len(data) < head + 4 + length:
            self._buffer = data
            return
        self._buffer = b""
        call, self._call = self._call, -1
        if call < 0:  # a refusal of the connection itself
            return
        closing = data.find(_CLOSE, 0, head) >= 0
        if closing and self._transport is not None:
            self._transport.close()
            self._transport = None
        self._generator.answered(call, int(data[9:12]), None if closing else self)

    def connection_lost(self, _exc: BaseException | None) -> None:
        call, self._call = self._call, -1
        self._transport = None
        self._generator.lost(self, call)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()


class Generator:
    """Sends the calls of a plan, and keeps what became of each."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._order = cycle(plan.mix)
        self._numbers = [kind.begin for kind in plan.kinds]
        self._heads: dict[tuple[int, int], bytes] = {}
        self._prefix = uuid.uuid4().hex[:12]
        self._idle: list[Line] = []
        self._waiting: deque[int] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._opened = 0
        self._opened_max = 0
        self._under_way = 0
        self._sources = cycle(range(2, 2 + plan.addresses))
        self._closes_at = 0.0
        self._texts: dict[int, bytes] = {}
        self.lines: set[Line] = set()
        self.kinds = array("B")
        self.due, self.taken, self.sent, self.ended = (array("d") for _ in range(4))
        self.statuses = array("H")

    async def run(self) -> Outcome:
        gc.freeze()
        gc.disable()  # a collection of many small objects would stop the schedule
        for opened in range(self._plan.ahead):
            await self._open_ahead()
            if opened % OPENED_PER_TURN == 0:
                await asyncio.sleep(OPENED_PAUSE_SECONDS)
        began = time.monotonic() + LEAD_SECONDS
        if self._plan.rate:
            await self._by_schedule(began)
        else:
            await self._in_turns(began)
        until = time.monotonic() + self._plan.drain_seconds_max
        while self._under_way and time.monotonic() < until:
            await asyncio.sleep(0.01)
        for call, sent in enumerate(self.sent):
            if not sent and self.statuses[call] == NO_ANSWER and call in self._texts:
                self.statuses[call] = GIVEN_UP
        outcome = self._outcome(began)
        self._waiting.clear()
        for line in list(self.lines):
            line.close()
        while self.lines:
            await asyncio.sleep(TICK_SECONDS)
        return outcome

    def _outcome(self, began: float) -> Outcome:
        return Outcome(
            began=began,
            kinds=self.kinds.tolist(),
            due=self.due.tolist(),
            taken=self.taken.tolist(),
            sent=self.sent.tolist(),
            ended=self.ended.tolist(),
            statuses=self.statuses.tolist(),
            cpu_seconds=time.process_time(),
            connections=self._opened_max,
        )

    async def _by_schedule(self, began: float) -> None:
        rate, number = self._plan.rate, 0
        total = int(rate * self._plan.seconds)
        while number < total:
            for each in range(number, due_until(time.monotonic(), begin=began, rate=rate, total=total)):
                self._arrive(began + each / rate)
                number = each + 1
            await asyncio.sleep(TICK_SECONDS)

    async def _in_turns(self, began: float) -> None:
        await asyncio.sleep(max(0.0, began - time.monotonic()))
        self._closes_at = began + self._plan.seconds
        for _ in range(self._plan.connections):
            self._arrive(time.monotonic())
        await asyncio.sleep(self._plan.seconds)

    def _arrive(self, due: float) -> None:
        kind = next(self._order)
        call = len(self.kinds)
        now = time.monotonic()
        self.kinds.append(kind)
        self.due.append(due)
        self.taken.append(now)
        self.sent.append(0.0)
        self.ended.append(0.0)
        self.statuses.append(NO_ANSWER)
        self._under_way += 1
        text = self._text(kind)
        while self._idle:
            line = self._idle.pop()
            if line.open:
                line.send(call, text)
                return
        self._texts[call] = text
        if self._opened < self._plan.connections:
            self._opened += 1
            self._opened_max = max(self._opened_max, self._opened)
            task = asyncio.get_running_loop().create_task(self._open(call))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            self._waiting.append(call)

    async def _open_ahead(self) -> None:
        try:
            line = await self._connect()
        except OSError:
            return  # a request will try it again
        self._opened += 1
        self._opened_max = max(self._opened_max, self._opened)
        self._idle.append(line)

    async def _connect(self) -> Line:
        source = f"127.0.0.{next(self._sources)}"
        _, line = await asyncio.get_running_loop().create_connection(
            lambda: Line(self), "127.0.0.1", self._plan.port, local_addr=(source, 0)
        )
        return line

    async def _open(self, call: int) -> None:
        try:
            line = await self._connect()
        except OSError:
            self._opened -= 1
            self._end(call, NO_ANSWER)
            del self._texts[call]
            return
        line.send(call, self._texts.pop(call))

    def answered(self, call: int, status: int, line: Line | None) -> None:
        """`line` is free now; None if its connection is closed."""
        self._end(call, status)
        if line is not None:
            self._next(line)

    def lost(self, line: Line, call: int) -> None:
        """A connection has ended; `call` was under way on it, or -1."""
        self._opened -= 1
        self.lines.discard(line)
        if line in self._idle:
            self._idle.remove(line)
        if call >= 0:
            self._end(call, NO_ANSWER)
        waiting = self._patient()
        if waiting is not None:
            self._opened += 1
            task = asyncio.get_running_loop().create_task(self._open(waiting))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        elif time.monotonic() < self._closes_at:
            self._arrive(time.monotonic())

    def _next(self, line: Line) -> None:
        call = self._patient()
        if call is not None:
            line.send(call, self._texts.pop(call))
            return
        self._idle.append(line)
        if (now := time.monotonic()) < self._closes_at:
            self._arrive(now)

    def _patient(self) -> int | None:
        """The first of those that wait for a connection; the ones before it have given up."""
        while self._waiting:
            call = self._waiting.popleft()
            if time.monotonic() - self.due[call] < self._plan.timeout_seconds:
                return call
            del self._texts[call]
            self._end(call, GIVEN_UP)
        return None

    def _end(self, call: int, status: int) -> None:
        self.ended[call] = time.monotonic()
        self.statuses[call] = status
        self._under_way -= 1

    def _text(self, index: int) -> bytes:
        kind = self._plan.kinds[index]
        number = self._numbers[index]
        self._numbers[index] = number + 1
        first, count = kind.callers
        caller = first + number % count
        head = self._heads.get((index, caller))
        if head is None:
            head = self._heads[index, caller] = self._head(kind, caller)
        text = head
        if kind.keyed:
            text += b'Idempotency-Key: "%s-%d-%d"\r\n' % (self._prefix.encode(), index, number)
        if not kind.bodies:
            return text + b"\r\n"
        body = kind.bodies[number // count % len(kind.bodies)].encode()
        return text + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    def _head(self, kind: Kind, caller: int) -> bytes:
        return (
            f"{kind.method} {kind.path} HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {self._plan.tokens[caller]}\r\n"
            f"Request-Timeout: {self._plan.timeout_seconds}\r\n"
        ).encode()


def count_by_kind(plan: Plan, outcome: Outcome) -> Mapping[str, int]:
    """How many requests of each kind were sent, for the `begin` of the next plan."""
    counts = dict.fromkeys((kind.name for kind in plan.kinds), 0)
    for index in outcome.kinds:
        counts[plan.kinds[index].name] += 1
    return counts


def main() -> None:
    plan_path, outcome_path = map(Path, sys.argv[1:])
    plan = msgspec.msgpack.decode(plan_path.read_bytes(), type=Plan)
    outcome = uvloop.run(Generator(plan).run())
    outcome_path.write_bytes(msgspec.msgpack.encode(outcome))


if __name__ == "__main__":
    main()
