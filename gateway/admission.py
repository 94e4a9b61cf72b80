"""Admission: limits of the work in progress, per upstream, per learner and per address."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from chassis.errors import Reason, ServiceError
from chassis.rpc.methods import ROOM, Method, Priority
from chassis.telemetry.metrics import Metrics
from gateway.backlog import Backlog
from gateway.overload import Room, RoomLimits, Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of the requests in flight, and of the bodies that are being received.

    A request is in flight from the end of its body until its answer is written to the socket. Before that,
    its body is being received.
    """

    room: RoomLimits = field(default_factory=RoomLimits)
    """Of each upstream."""
    in_flight_per_learner_max: int = 128
    in_flight_per_address_max: int = 1024
    bodies_per_learner_max: int = 32
    """Bodies being received. Most bodies arrive together with their headers; they do not count."""
    received_bytes_max: int = 64 * 1024 * 1024
    """The size of all bodies that are being received, over all learners."""


class Shares:
    """A count for each owner, such as a learner's requests or an address's connections, and its limit."""

    __slots__ = ("_counts", "_each_max")

    def __init__(self, each_max: int) -> None:
        self._each_max = each_max
        self._counts: dict[str, int] = {}

    def add(self, owner: str) -> bool:
        """Counts one more; False, and nothing is counted, when the owner has no room."""
        count = self._counts.get(owner, 0)
        if count >= self._each_max:
            return False
        self._counts[owner] = count + 1
        return True

    def remove(self, owner: str) -> None:
        left = self._counts[owner] - 1
        if left:
            self._counts[owner] = left
        else:
            del self._counts[owner]


class Place:
    """The place of one request among those in flight. `leave` gives it back."""

    __slots__ = ("_address", "_door", "_learner")

    def __init__(self, door: Door, learner: str, address: str) -> None:
        self._door: Door | None = door
        self._learner = learner
        self._address = address

    def leave(self) -> None:
        """Gives the place back; a second call does nothing."""
        door, self._door = self._door, None
        if door is not None:
            door.room.leave(door.share)
            door.admission.leave(self._learner, self._address)


@dataclass(frozen=True, slots=True, eq=False)
class Door:
    """The way of one method's requests to their upstream."""

    admission: Admission
    room: Room
    share: Share

    def refuse_if_full(self) -> None:
        """Raises ServiceError: OVERLOADED while a request of this method could not even wait for room."""
        self.room.refuse_if_full(self.share)

    async def enter(self, *, learner: str, address: str) -> Place:
        """Counts a request as in flight until `Place.leave`; waits for a moment if the upstream has no room.

        Raises:
            ServiceError: RATE_LIMITED or OVERLOADED.
        """
        # Those that wait count as in flight, too: one learner must not take the whole queue.
        self.admission.count(learner, address)
        try:
            if not self.room.enter_now(self.share):
                await self.room.enter(self.share)
        except BaseException:
            self.admission.leave(learner, address)
            raise
        return Place(self, learner, address)


class Body:
    """The bytes of one body that is being received."""

    __slots__ = ("_admission", "size_bytes")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.size_bytes = 0

    def grow(self, size_bytes: int) -> None:
        """Counts received bytes; raises ServiceError: OVERLOADED when all bodies together are too large."""
        self.size_bytes += size_bytes
        self._admission.receive(size_bytes)


class Coming:
    """The requests that were read from their sockets and are not at their doors yet.

    Thousands may be read in one turn of the event loop. Without this count, each of them would find the room
    as it was before the first. A request needs two turns: one for its connection, and one for its own task.
    """

    def __init__(self) -> None:
        self._now = 0
        self._before = 0
        self.count = 0

    def add(self) -> None:
        """Counts a request for this turn and the next one."""
        if not self.count:
            asyncio.get_running_loop().call_soon(self._turn)
        self._now += 1
        self.count += 1

    def _turn(self) -> None:
        self._before, self._now = self._now, 0
        self.count = self._before
        if self.count:
            asyncio.get_running_loop().call_soon(self._turn)


class Admission:
    """Counts the requests in flight and the bodies being received, and refuses more than the limits allow.

    RATE_LIMITED means that this caller asks too much; other callers are still served. OVERLOADED means that
    the gateway has no room for more requests to this upstream.
    """

    def __init__(self, *, limits: Limits, metrics: Metrics) -> None:
        self._limits = limits
        self.coming = Coming()
        self.backlog = Backlog()
        # The first to be refused are those of one method of low priority.
        room = limits.room
        self._crowd = room.in_flight_max * ROOM[Priority.LOW] * room.method_share
        self._shed = metrics.counter(
            "requests_shed", "Requests that were refused as OVERLOADED, by cause.", ("priority", "cause")
        )
        self._rooms: dict[str, Room] = {}
        self._doors: dict[tuple[str, str], Door] = {}
        self._in_flight = 0
        self._received_bytes = 0
        self._learners = Shares(limits.in_flight_per_learner_max)
        self._addresses = Shares(limits.in_flight_per_address_max)
        self._bodies = Shares(limits.bodies_per_learner_max)
        metrics.gauge("requests_in_flight", "Requests in flight.", lambda: float(self._in_flight))
        metrics.gauge(
            "requests_waiting",
            "Requests that wait for room, by upstream.",
            lambda: {(name,): float(room.waiting) for name, room in self._rooms.items()},
            ("upstream",),
        )
        metrics.gauge(
            "requests_unread",
            "Requests that were received by a crowded gateway, and that it has not looked at yet.",
            lambda: float(self.backlog.waiting),
        )
        metrics.gauge(
            "received_bytes",
            "Bytes of the bodies that have not arrived completely.",
            lambda: float(self._received_bytes),
        )

    @property
    def in_flight(self) -> int:
        return self._in_flight

    @property
    def crowded(self) -> bool:
        """Whether some request may be refused for want of room. This is cheap and may say so too early."""
        return self._in_flight + self.coming.count >= self._crowd

    def door(self, upstream: str, method: Method) -> Door:
        """The door of a method at its upstream."""
        door = self._doors.get((upstream, method.path))
        if door is None:
            room = self._rooms.get(upstream)
            if room is None:
                room = self._rooms[upstream] = Room(self._limits.room, shed=self._shed)
            door = self._doors[upstream, method.path] = Door(self, room, room.share_of(method))
        return door

    def count(self, learner: str, address: str) -> None:
        """For `Door.enter`; raises ServiceError: RATE_LIMITED."""
        if not self._learners.add(learner):
            raise _too_many(f"{self._limits.in_flight_per_learner_max} requests of yours")
        if not self._addresses.add(address):
            self._learners.remove(learner)
            raise _too_many(f"{self._limits.in_flight_per_address_max} requests from your address")
        self._in_flight += 1

    def leave(self, learner: str, address: str) -> None:
        """For `Place.leave`, and for a request that did not get in."""
        self._in_flight -= 1
        self._learners.remove(learner)
        self._addresses.remove(address)

    @contextmanager
    def receiving(self, learner: str) -> Iterator[Body]:
        """Counts a body that is being received.

        Raises:
            ServiceError: RATE_LIMITED, when the learner has too many such bodies.
        """
        if not self._bodies.add(learner):
            raise _too_many(f"{self._limits.bodies_per_learner_max} bodies of yours")
        body = Body(self)
        try:
            yield body
        finally:
            self._bodies.remove(learner)
            self._received_bytes -= body.size_bytes

    def receive(self, size_bytes: int) -> None:
        """For `Body.grow`."""
        self._received_bytes += size_bytes
        if self._received_bytes > self._limits.received_bytes_max:
            raise ServiceError(Reason.OVERLOADED)


def _too_many(what: str) -> ServiceError:
    return ServiceError(Reason.RATE_LIMITED, f"At most {what} may be in progress at once")
