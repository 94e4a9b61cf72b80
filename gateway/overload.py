"""The room that one upstream has in the gateway: bounded concurrency, and a short queue for each priority."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from dataclasses import dataclass

from chassis.errors import Reason, ServiceError
from chassis.rpc.methods import ROOM, Method, Priority
from chassis.telemetry.metrics import Counter

# A refused client comes back after a random time, so that those refused together do not come back together.
RETRY_AFTER_SECONDS = (0.5, 3.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomLimits:
    """The limits of one upstream.

    Args:
        in_flight_max: requests in flight. Low priorities may use less of it, high ones more
            (`chassis.rpc.methods.ROOM`).
        normal_share: the part of it that is kept for normal priority, so that starts do not starve while
            answers and completions alone would fill the room.
        method_share: the part of it that one method may use, so that a slow method leaves room to the others.
        waiting_max: requests of one priority that wait for room.
        wait_seconds_max: how long a request waits at most.
        standing_seconds: a queue that was never empty for so long is not a burst but an overload.
        standing_wait_seconds_max: how long a request waits in such a queue. As many may wait as were let in
            during such a time lately, for those behind them would wait in vain.
    """

    in_flight_max: int = 512
    normal_share: float = 0.1
    method_share: float = 0.75
    waiting_max: int = 128
    wait_seconds_max: float = 0.03
    standing_seconds: float = 0.1
    standing_wait_seconds_max: float = 0.005


class Room:
    """Counts the requests in flight at one upstream. More of them wait for a moment, or are refused at once.

    The time in the queue is bounded as in "controlled delay" (CoDel, RFC 8289; in the form of "Fail at
    Scale", ACM Queue 13(8), 2015): a burst may wait, but in a queue that does not become empty any more each
    request waits for a few milliseconds only. So a refusal takes less than 50 ms, whatever the upstream does.
    """

    def __init__(self, limits: RoomLimits, *, shed: Counter) -> None:
        self._shed = shed
        self._in_flight_max = {priority: int(limits.in_flight_max * ROOM[priority]) for priority in Priority}
        self._normal_kept = int(limits.in_flight_max * limits.normal_share)
        self._limits = limits
        self._queues = {priority: _Queue(limits) for priority in Priority}
        self._shares: dict[str, Share] = {}
        self._in_flight = 0
        self._normal = 0
        self._queued = False  # whether somebody may be waiting

    @property
    def in_flight(self) -> int:
        """Requests that were let in."""
        return self._in_flight

    @property
    def waiting(self) -> int:
        """Requests that wait for room."""
        return sum(queue.waiting for queue in self._queues.values())

    def share_of(self, method: Method) -> Share:
        """The share of a method, which `enter` and `leave` count."""
        share = self._shares.get(method.path)
        if share is None:
            limit = method.in_flight_limit(self._limits.in_flight_max)
            share = Share(
                priority=method.priority,
                priority_name=method.priority.name.lower(),
                count_max=max(1.0, limit * self._limits.method_share),
            )
            self._shares[method.path] = share
        return share

    def fault(self, share: Share, *, ahead: int = 0) -> str:
        """Why a request of this method could not even wait now; empty if it could.

        Args:
            share: the method's.
            ahead: the requests before it that are not counted yet.
        """
        if share.count >= share.count_max:
            return "method_share"
        free = self._free(share.priority)
        if free > ahead or max(0, free) + self._queues[share.priority].free() > ahead:
            return ""
        return "queue_full"

    def refuse_if_full(self, share: Share) -> None:
        """Raises ServiceError: OVERLOADED when a request of this method could not even wait now."""
        cause = self.fault(share)
        if cause:
            raise self._refusal(share, cause)

    def enter_now(self, share: Share) -> bool:
        """Counts a request as in flight until `leave`; False when it has to wait for room.

        Raises:
            ServiceError: OVERLOADED.
        """
        self.refuse_if_full(share)
        priority = share.priority
        if self._free(priority) <= 0 or (self._queued and self._queues[priority].waiting):
            return False
        share.count += 1
        self._count(priority, 1)
        return True

    async def enter(self, share: Share) -> None:
        """Counts a request as in flight until `leave`; waits for room if need be.

        Raises:
            ServiceError: OVERLOADED, at once or after the longest wait.
        """
        if self.enter_now(share):
            return
        share.count += 1
        self._queued = True
        place = self._queues[share.priority].join()
        try:
            await place
        except BaseException as error:
            share.count -= 1
            if place.done() and not place.cancelled() and place.exception() is None:
                self._count(
                    share.priority, -1
                )  # room was made for it in the moment in which it was cancelled
                self._let_in()
            if isinstance(error, TimeoutError):
                raise self._refusal(share, "queue_time") from None
            raise

    def leave(self, share: Share) -> None:
        """Ends a request that was let in; the next one that waits takes its room."""
        self._count(share.priority, -1)
        share.count -= 1
        if self._queued:
            self._let_in()

    def shed(self, share: Share, cause: str) -> float:
        """Counts a refused request; returns after how many seconds its client may come again."""
        self._shed.add(share.priority_name, cause)
        return random.uniform(*RETRY_AFTER_SECONDS)  # noqa: S311 - jitter is no secret

    def _refusal(self, share: Share, cause: str) -> ServiceError:
        return ServiceError(Reason.OVERLOADED, retry_after_seconds=self.shed(share, cause))

    def _free(self, priority: Priority) -> int:
        """How many more requests of this priority may be in flight now; not positive for none."""
        free = self._in_flight_max[priority] - self._in_flight
        # What normal priority has not used of its own part.
        kept = self._normal_kept - self._normal
        if kept <= 0 or priority is Priority.LOW:
            return free
        return max(free, kept) if priority is Priority.NORMAL else free - kept

    def _count(self, priority: Priority, change: int) -> None:
        self._in_flight += change
        if priority is Priority.NORMAL:
            self._normal += change

    def _let_in(self) -> None:
        for priority, queue in self._queues.items():  # the highest priority first
            while queue.waiting and self._free(priority) > 0:
                if queue.let_in():
                    self._count(priority, 1)
        self._queued = self.waiting > 0


@dataclass(slots=True, kw_only=True)
class Share:
    """The requests of one method at an upstream, those that wait included, and their limit."""

    priority: Priority
    priority_name: str
    count_max: float
    count: int = 0


class _Queue:
    """Requests of one priority that wait, the oldest first."""

    def __init__(self, limits: RoomLimits) -> None:
        self._limits = limits
        self._places: deque[asyncio.Future[None]] = deque()
        self._empty_at = 0.0
        self._began_at = 0.0
        self._wanted_at = float("-inf")
        self._window_at = 0.0
        self._let_in = 0
        self._let_in_before = 0

    @property
    def waiting(self) -> int:
        """Those that wait; some may have given up in the meantime, but never the oldest."""
        places = self._places
        while places and places[0].done():
            places.popleft()
        return len(places)

    def free(self) -> int:
        """How many more may wait, now that one wants to; not positive for none."""
        limits = self._limits
        now = time.monotonic()
        waiting = self.waiting
        self._want(now, waiting)
        if now - self._began_at < limits.standing_seconds:
            return limits.waiting_max - waiting
        self._turn_window(now)
        let_in = (self._let_in + self._let_in_before) / 2 / limits.standing_seconds
        return min(limits.waiting_max, int(let_in * self._wait_seconds_max(now))) - waiting

    def join(self) -> asyncio.Future[None]:
        """A place at the end: it is done when there is room, and raises TimeoutError after the wait."""
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        self._want(now, self.waiting)
        place: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(self._wait_seconds_max(now), _give_up, place)
        place.add_done_callback(lambda _: timer.cancel())
        self._places.append(place)
        return place

    def let_in(self) -> bool:
        """Lets the oldest one in; False when it has given up."""
        place = self._places.popleft()
        if place.done():
            return False
        place.set_result(None)
        now = time.monotonic()
        self._turn_window(now)
        self._let_in += 1
        if not self.waiting:
            self._empty_at = now
        return True

    def _want(self, now: float, waiting: int) -> None:
        """Notes that somebody wants to wait: the first one for a while, or one of many."""
        if not waiting and now - self._wanted_at >= self._limits.standing_seconds:
            self._began_at = self._empty_at = now
        self._wanted_at = now

    def _wait_seconds_max(self, now: float) -> float:
        limits = self._limits
        standing = now - self._empty_at >= limits.standing_seconds
        return limits.standing_wait_seconds_max if standing else limits.wait_seconds_max

    def _turn_window(self, now: float) -> None:
        """Begins to count anew those that are let in, if the time of the last count is over."""
        passed = now - self._window_at
        if passed >= self._limits.standing_seconds:
            self._let_in_before = self._let_in if passed < 2 * self._limits.standing_seconds else 0
            self._let_in = 0
            self._window_at = now


def _give_up(place: asyncio.Future[None]) -> None:
    if not place.done():
        place.set_exception(TimeoutError())
