"""`python -m bench.load.open_loop PLAN OUTCOME`: sends requests by a schedule, or as they are answered.

In an open loop a request is sent when its time has come, whatever has become of those before it. Its latency
counts from the scheduled time, so that a generator or a server that lags behind hides nothing. A request that
finds no idle connection opens one; when all are in use, it waits for one, and its time runs. Idle connections
take turns, as those of many clients do.

The generator shares the cores with what it measures, so it has sockets and `epoll` instead of an event loop:
a request costs it half. By a schedule it sends and reads once a millisecond, for to be woken by each
answer costs more than to read it. So these latencies are up to a millisecond too long.

The program knows HTTP/1.1 as far as the gateway speaks it: each answer has its `Content-Length`.
"""

from __future__ import annotations

import gc
import select
import socket
import sys
import time
from array import array
from collections import deque
from itertools import cycle
from pathlib import Path

import msgspec

from bench.load.plan import GIVEN_UP, NO_ANSWER, Outcome, Plan, Requests, due_until

TICK_SECONDS = 0.001
# The first request is this far ahead, so that the schedule begins with a generator that is ready.
LEAD_SECONDS = 0.2
OPENED_PER_TURN, OPENED_PAUSE_SECONDS = 20, 0.01
DRAIN_PAUSE_SECONDS = 0.01
RECEIVED_BYTES_MAX = 64 * 1024
NO_CALL = -1
_LENGTH = b"Content-Length: "
_CLOSE = b"Connection: close"


class Line:
    """One connection, with at most one request under way."""

    __slots__ = ("call", "opened", "received", "socket")

    def __init__(self, wire: socket.socket, call: int) -> None:
        self.socket = wire
        self.call = call
        """The number of the request; it is sent when the connection is open."""
        self.opened = False
        self.received = b""
        """The beginning of an answer."""


class Generator:
    """Sends the calls of a plan, and keeps what became of each."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._order = cycle(plan.mix)
        self._requests = Requests(plan)
        self._epoll = select.epoll()
        self._lines: dict[int, Line] = {}
        self._idle: deque[Line] = deque()
        self._waiting: deque[int] = deque()
        self._texts: dict[int, bytes] = {}
        self._lines_max = 0
        self._under_way = 0
        self._sources = cycle(f"127.0.0.{number}" for number in range(2, 2 + plan.addresses))
        self._closes_at = 0.0
        self.kinds = array("B")
        self.due, self.taken, self.sent, self.ended = (array("d") for _ in range(4))
        self.statuses = array("H")

    def run(self) -> Outcome:
        """Sends all, waits for the answers, and closes the connections."""
        gc.freeze()
        gc.disable()  # a collection of many small objects would stop the schedule
        for opened in range(self._plan.ahead):
            self._open(NO_CALL)
            if opened % OPENED_PER_TURN == 0:
                self._rest(OPENED_PAUSE_SECONDS)
        began = time.monotonic() + LEAD_SECONDS
        self._rest(LEAD_SECONDS - TICK_SECONDS)
        before = time.process_time()
        if self._plan.rate:
            self._by_schedule(began)
        else:
            self._in_turns(began)
        cpu_seconds = time.process_time() - before
        until = time.monotonic() + self._plan.drain_seconds_max
        while self._under_way and time.monotonic() < until:
            self._take(DRAIN_PAUSE_SECONDS)
        for call in self._texts:  # those that were never sent
            self.statuses[call] = GIVEN_UP
        for line in self._lines.values():
            line.socket.close()
        self._epoll.close()
        return Outcome(
            began=began,
            kinds=self.kinds.tolist(),
            due=self.due.tolist(),
            taken=self.taken.tolist(),
            sent=self.sent.tolist(),
            ended=self.ended.tolist(),
            statuses=self.statuses.tolist(),
            cpu_seconds=cpu_seconds,
            connections=self._lines_max,
        )

    def _by_schedule(self, began: float) -> None:
        rate, number = self._plan.rate, 0
        total = int(rate * self._plan.seconds)
        while number < total:
            due = due_until(time.monotonic(), begin=began, rate=rate, total=total)
            for each in range(number, due):
                self._arrive(began + each / rate)
            number = max(number, due)
            time.sleep(TICK_SECONDS)
            self._take(0.0)

    def _in_turns(self, began: float) -> None:
        self._rest(began - time.monotonic())
        self._closes_at = began + self._plan.seconds
        for _ in range(self._plan.connections):
            self._arrive(time.monotonic())
        self._rest(self._plan.seconds)

    def _rest(self, seconds: float) -> None:
        """Takes what comes in during this time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._take(left)

    def _take(self, seconds: float) -> None:
        """Waits so long for something to come in, and takes it."""
        for descriptor, events in self._epoll.poll(seconds):
            line = self._lines.get(descriptor)
            if line is None:
                continue
            if not line.opened:
                self._connected(line, failed=bool(events & select.EPOLLHUP))
            elif events & ~select.EPOLLOUT:
                self._receive(line)

    def _arrive(self, due: float) -> None:
        kind = next(self._order)
        call = len(self.kinds)
        self.kinds.append(kind)
        self.due.append(due)
        self.taken.append(time.monotonic())
        self.sent.append(0.0)
        self.ended.append(0.0)
        self.statuses.append(NO_ANSWER)
        self._under_way += 1
        text = self._requests.text(kind)
        if self._idle:
            self._send(self._idle.popleft(), call, text)
            return
        self._texts[call] = text
        if len(self._lines) < self._plan.connections:
            self._open(call)
        else:
            self._waiting.append(call)

    def _open(self, call: int) -> None:
        """Opens a connection for this request."""
        wire = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        line = Line(wire, call)
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.bind((next(self._sources), 0))
        self._lines[wire.fileno()] = line
        self._lines_max = max(self._lines_max, len(self._lines))
        wire.connect_ex(("127.0.0.1", self._plan.port))
        self._epoll.register(wire, select.EPOLLIN | select.EPOLLOUT)

    def _connected(self, line: Line, *, failed: bool) -> None:
        if failed:
            if line.call != NO_CALL:  # it was never sent, but not for want of time
                del self._texts[line.call]
            self._lost(line)
            return
        line.opened = True
        self._epoll.modify(line.socket, select.EPOLLIN)
        call, line.call = line.call, NO_CALL
        if call == NO_CALL:
            self._idle.append(line)
        else:
            self._send(line, call, self._texts.pop(call))

    def _send(self, line: Line, call: int, text: bytes) -> None:
        line.call = call
        self.sent[call] = time.monotonic()
        try:
            whole = line.socket.send(text) == len(text)
        except OSError:
            whole = False
        if not whole:  # nothing else is under way on it, so the server is gone
            self._lost(line)

    def _receive(self, line: Line) -> None:
        try:
            data = line.socket.recv(RECEIVED_BYTES_MAX)
        except BlockingIOError:
            return  # the event was for an earlier connection with this descriptor
        except OSError:
            data = b""
        if not data:
            self._lost(line)
            return
        data = line.received + data
        head = data.find(b"\r\n\r\n")
        at = data.find(_LENGTH, 0, head) if head >= 0 else -1
        length = int(data[at + len(_LENGTH) : data.find(b"\r\n", at)]) if at >= 0 else 0
        if head < 0 or len(data) < head + 4 + length:
            line.received = data
            return
        line.received = b""
        call, line.call = line.call, NO_CALL
        if call == NO_CALL:  # a refusal of the connection itself
            return
        self._end(call, int(data[9:12]))
        if data.find(_CLOSE, 0, head) >= 0:
            self._lost(line)
        else:
            self._next(line)

    def _lost(self, line: Line) -> None:
        """Ends a connection. A request that is under way on it has no answer."""
        del self._lines[line.socket.fileno()]
        line.socket.close()
        if line in self._idle:
            self._idle.remove(line)
        if line.call != NO_CALL:
            self._end(line.call, NO_ANSWER)
        waiting = self._patient()
        if waiting is not None:
            self._open(waiting)
        elif time.monotonic() < self._closes_at:
            self._arrive(time.monotonic())

    def _next(self, line: Line) -> None:
        """Gives an idle connection its next request."""
        call = self._patient()
        if call is not None:
            self._send(line, call, self._texts.pop(call))
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


def main() -> None:
    plan_path, outcome_path = map(Path, sys.argv[1:])
    plan = msgspec.msgpack.decode(plan_path.read_bytes(), type=Plan)
    outcome_path.write_bytes(msgspec.msgpack.encode(Generator(plan).run()))


if __name__ == "__main__":
    main()
