"""Collects calls into batches while earlier batches are in flight. It adds no latency when it is idle."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from chassis.errors import Reason, ServiceError
from chassis.rpc.pacing import Pacer
from chassis.telemetry.logs import get_logger

# The event loop reads a socket in one iteration, and runs the reader of the data in the next one. So a call
# that has arrived is submitted after two iterations.
ITERATIONS = 2

log = get_logger(__name__)

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")


class Coalescer(Generic[Ask, Answer]):
    """Sends submitted calls in batches, over a few lanes; a lane has one batch in flight.

    A free lane sends in one of two cases: its fair share of the calls is waiting, or two iterations of the
    event loop have brought no new call. The fair share is the number of calls that wait or are in flight,
    divided by the number of lanes. Callers that get their answers together often call again together; they
    stay in one batch, and the lanes stay equally loaded. An idle coalescer sends a single call at once.

    Args:
        send: sends a batch and returns one answer for each call, in the same order. If it raises a
            ServiceError, each caller of the batch gets it. Any other exception becomes UNAVAILABLE, because
            the batch may have been sent.
        lanes: batches in flight at once.
        batch_max: calls in one batch.
        waiting_max: the largest number of waiting calls; one more is refused as OVERLOADED, at once.
        pacer: gives the answers to their callers.
    """

    def __init__(
        self,
        *,
        send: Callable[[Sequence[Ask]], Awaitable[Sequence[Answer | ServiceError]]],
        lanes: int,
        batch_max: int,
        waiting_max: int,
        pacer: Pacer,
    ) -> None:
        self._send = send
        self._lanes = lanes
        self._idle_lanes = lanes
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._pacer = pacer
        self._waiting: deque[tuple[Ask, asyncio.Future[Answer]]] = deque()
        self._submitted = 0
        self._in_flight = 0
        self._lanes_under_way: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def submit(self, ask: Ask) -> asyncio.Future[Answer]:
        """Queues one call. The future gives its answer, or raises its ServiceError.

        A call is never sent if its future is cancelled before a lane takes it.

        Raises:
            ServiceError: OVERLOADED, when too many calls are waiting already.
        """
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()  # its caller has left, so it must not count, even if all lanes are stuck
        if len(self._waiting) >= self._waiting_max:
            raise ServiceError(Reason.OVERLOADED, retry_after_seconds=1.0)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((ask, future))
        self._submitted += 1
        if self._idle_lanes:
            self._idle_lanes -= 1
            # An empty context: a lane serves many callers, so its logs and spans must not name the first one.
            lane = asyncio.create_task(self._run_lane(), context=contextvars.Context())
            self._lanes_under_way.add(lane)
            lane.add_done_callback(self._lanes_under_way.discard)
        return future

    async def close(self) -> None:
        """Waits until every submitted call has its answer."""
        while self._lanes_under_way:
            await asyncio.wait(self._lanes_under_way)
        self._pacer.finish()

    async def _run_lane(self) -> None:
        try:
            while self._waiting:
                await self._let_gather()
                if batch := self._take():
                    self._in_flight += len(batch)
                    try:
                        await self._deliver(batch)
                    finally:
                        self._in_flight -= len(batch)
        finally:
            self._idle_lanes += 1

    async def _let_gather(self) -> None:
        """Waits until the fair share is waiting, or two iterations of the event loop bring no new call."""
        seen = -1
        while seen != self._submitted and len(self._waiting) < self._share():
            seen = self._submitted
            for _ in range(ITERATIONS):
                await asyncio.sleep(0)

    def _share(self) -> int:
        """The fair share of one lane: the calls that wait or are in flight, divided by the lanes."""
        return min(self._batch_max, -(-(len(self._waiting) + self._in_flight) // self._lanes))

    def _take(self) -> list[tuple[Ask, asyncio.Future[Answer]]]:
        batch: list[tuple[Ask, asyncio.Future[Answer]]] = []
        share = self._share()
        while self._waiting and len(batch) < share:
            waiting = self._waiting.popleft()
            if not waiting[1].done():
                batch.append(waiting)
        return batch

    async def _deliver(self, batch: list[tuple[Ask, asyncio.Future[Answer]]]) -> None:
        answers: Sequence[Answer | ServiceError] = ()
        try:
            sent = await self._send([ask for ask, _ in batch])
            if len(sent) != len(batch):
                raise ValueError(f"{len(sent)} answers to {len(batch)} calls")  # noqa: TRY301 - the handler below tells each caller
            answers = sent
        except ServiceError as error:
            answers = [error] * len(batch)
        except Exception:
            log.exception("batch_failed", calls=len(batch))
        finally:  # also when the lane is cancelled: a caller must not wait for an answer that never comes
            answers = answers or [ServiceError(Reason.UNAVAILABLE)] * len(batch)
            self._pacer.give(zip((future for _, future in batch), answers, strict=True))
