"""`python -m bench.load.slow_connections PORT CONNECTIONS SECONDS PAUSE`: clients who never finish.

It opens connections from several loopback addresses, sends the beginning of a request on each, then a byte of
a header every PAUSE seconds. A connection that the gateway closes is opened again. One line of JSON tells
what was done. The sockets are not in an event loop: ten thousand of them then cost little CPU.
"""

from __future__ import annotations

import errno
import resource
import socket
import sys
import time

import msgspec

BEGINNING = b"GET /v1/stats HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
CONNECTIONS_PER_ADDRESS = 2_000
"""Below the gateway's bound for one address."""
DESCRIPTORS_RESERVED = 100
OPENED_PER_TURN_MAX = 50
TURN_SECONDS = 0.02


class Crowd(msgspec.Struct, frozen=True, kw_only=True):
    """What was done: the most that were open at once, and how many the gateway closed."""

    wanted: int
    open_max: int
    opened: int
    closed_by_gateway: int
    bytes_sent: int
    full_at: float


def connections_possible(wanted: int) -> int:
    """As many as the limit of open files of this process allows."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(wanted, descriptors - DESCRIPTORS_RESERVED)


class SlowClients:
    """The sockets, each visited once in `pause_seconds`."""

    def __init__(self, port: int, wanted: int, pause_seconds: float) -> None:
        self._port = port
        self._sockets: list[socket.socket | None] = [None] * wanted
        self._pause_seconds = pause_seconds
        self._at = 0
        self._open = 0
        self._open_max = 0
        self._opened = 0
        self._closed = 0
        self._bytes = 0
        self._full_at = 0.0

    def run(self, seconds: float) -> Crowd:
        until = time.monotonic() + seconds
        wanted = len(self._sockets)
        per_turn = max(1, round(wanted * TURN_SECONDS / self._pause_seconds))
        while (now := time.monotonic()) < until:
            for _ in range(per_turn):
                self._visit(self._at)
                self._at = (self._at + 1) % wanted
            for _ in range(OPENED_PER_TURN_MAX if self._opened < wanted else 0):
                if self._opened < wanted:
                    self._begin(self._opened)
            if not self._full_at and self._opened >= wanted:
                self._full_at = now
            time.sleep(max(0.0, now + TURN_SECONDS - time.monotonic()))
        for made in self._sockets:
            if made is not None:
                made.close()
        return Crowd(
            wanted=wanted,
            open_max=self._open_max,
            opened=self._opened,
            closed_by_gateway=self._closed,
            bytes_sent=self._bytes,
            full_at=self._full_at,
        )

    def _begin(self, index: int) -> None:
        made = socket.socket()
        made.setblocking(False)
        made.bind((f"127.0.1.{1 + index // CONNECTIONS_PER_ADDRESS}", 0))
        if made.connect_ex(("127.0.0.1", self._port)) not in {0, errno.EINPROGRESS}:
            made.close()
            return
        self._sockets[index] = made
        self._opened += 1
        self._open += 1
        self._open_max = max(self._open_max, self._open)
        self._write(index, made, BEGINNING)

    def _visit(self, index: int) -> None:
        made = self._sockets[index]
        if made is None:
            if index < self._opened:
                self._begin(index)
            return
        try:
            gone = made.recv(4096) == b""
        except BlockingIOError:
            gone = False
        except OSError:
            gone = True
        if gone:
            self._drop(index, made)
            self._begin(index)
        else:
            self._write(index, made, b"x")

    def _write(self, index: int, made: socket.socket, text: bytes) -> None:
        try:
            self._bytes += made.send(text)
        except BlockingIOError:
            return
        except OSError:
            self._drop(index, made)

    def _drop(self, index: int, made: socket.socket) -> None:
        made.close()
        self._sockets[index] = None
        self._open -= 1
        self._closed += 1


def main() -> None:
    port, wanted, seconds, pause = sys.argv[1:]
    clients = SlowClients(int(port), connections_possible(int(wanted)), float(pause))
    print(msgspec.json.encode(clients.run(float(seconds))).decode())


if __name__ == "__main__":
    main()
