"""What an open or a closed loop sends, and what became of it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

import msgspec

NO_ANSWER = 0
GIVEN_UP = 1
"""The status of a request that was never sent: within its time no connection was free, or accepted."""


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
        cpu_seconds: what the generator spent from the first request to the last one.
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


class Requests:
    """The texts of a plan's requests. Each caller has its turn, and each keyed request a key of its own."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._numbers = [kind.begin for kind in plan.kinds]
        self._heads: dict[tuple[int, int], bytes] = {}
        self._prefix = uuid.uuid4().hex[:12].encode()

    def text(self, index: int) -> bytes:
        """The next request of this kind."""
        kind = self._plan.kinds[index]
        number = self._numbers[index]
        self._numbers[index] = number + 1
        first, count = kind.callers
        caller = first + number % count
        text = self._heads.get((index, caller))
        if text is None:
            text = self._heads[index, caller] = self._head(kind, caller)
        if kind.keyed:
            text += b'Idempotency-Key: "%s-%d-%d"\r\n' % (self._prefix, index, number)
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


def due_until(now: float, *, begin: float, rate: float, total: int) -> int:
    """How many requests are due at this time, of `total` that come at an even rate from `begin` on."""
    return min(total, max(0, int((now - begin) * rate) + 1)) if now >= begin else 0


def count_by_kind(plan: Plan, outcome: Outcome) -> Mapping[str, int]:
    """How many requests of each kind were sent, for the `begin` of the next plan."""
    counts = dict.fromkeys((kind.name for kind in plan.kinds), 0)
    for index in outcome.kinds:
        counts[plan.kinds[index].name] += 1
    return counts
