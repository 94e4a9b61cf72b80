"""Gathers calls while a batch is under way: no timer, no latency when idle, larger batches under load."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from chassis.errors import Reason, ServiceError

# What has arrived at a socket is read in one turn of the loop, and worked on in the next.
TURNS = 2

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")


class Coalescer(Generic[Ask, Answer]):
    """Sends what is submitted in batches, over a few lanes.

    A free lane sends what is there as soon as going round the event loop brings no more, or its share has
    come: what other lanes have under way and what waits, divided by the lanes. So callers that are answered
    together and ask again together stay together, and no lane runs with a few calls while the others carry
    the rest. No timer is involved: an idle lane sends a single call at once.

    Args:
        send: sends a batch and returns as many answers, in the same order. What it raises every caller of
            the batch gets.
        lanes: batches under way at once.
        batch_max: submissions in one batch.
        waiting_max: submissions that may wait; one more is refused as OVERLOADED, at once.
    """

    def __init__(
        self,
        *,
        send: Callable[[Sequence[Ask]], Awaitable[Sequence[Answer | ServiceError]]],
        lanes: int,
        batch_max: int,
        waiting_max: int,
    ) -> None:
        self._send = send
        self._lanes = lanes
        self._idle_lanes = lanes
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._waiting: deque[tuple[Ask, asyncio.Future[Answer]]] = deque()
        self._submitted = 0
        self._under_way = 0
        self._lanes_under_way: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def submit(self, ask: Ask) -> asyncio.Future[Answer]:
        """Queues one call; the future gives its answer, or raises its ServiceError.

        A caller that cancels the future before a lane took it has asked nothing.

        Raises:
            ServiceError: OVERLOADED, when too many are waiting already.
        """
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()  # whoever left does not count; while the lanes are stuck nobody takes it
        if len(self._waiting) >= self._waiting_max:
            raise ServiceError(Reason.OVERLOADED, retry_after_seconds=1.0)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((ask, future))
        self._submitted += 1
        if self._idle_lanes:
            self._idle_lanes -= 1
            # In a context of its own: a lane serves many callers, and must not log or trace as the first.
            lane = asyncio.create_task(self._run_lane(), context=contextvars.Context())
            self._lanes_under_way.add(lane)
            lane.add_done_callback(self._lanes_under_way.discard)
        return future

    async def close(self) -> None:
        """Waits until everything submitted has its answer."""
        while self._lanes_under_way:
            await asyncio.wait(self._lanes_under_way)

    async def _run_lane(self) -> None:
        try:
            while self._waiting:
                await self._let_gather()
                if batch := self._take():
                    self._under_way += len(batch)
                    try:
                        await self._deliver(batch)
                    finally:
                        self._under_way -= len(batch)
        finally:
            self._idle_lanes += 1

    async def _let_gather(self) -> None:
        """Go round the event loop for as long as that brings more calls, and the share is not there yet."""
        seen = -1
        while seen != self._submitted and len(self._waiting) < self._share():
            seen = self._submitted
            for _ in range(TURNS):
                await asyncio.sleep(0)

    def _share(self) -> int:
        """How many of the calls that are known of one lane should carry."""
        return min(self._batch_max, -(-(len(self._waiting) + self._under_way) // self._lanes))

    def _take(self) -> list[tuple[Ask, asyncio.Future[Answer]]]:
        batch: list[tuple[Ask, asyncio.Future[Answer]]] = []
        share = self._share()
        while self._waiting and len(batch) < share:
            waiting = self._waiting.popleft()
            if not waiting[1].done():
                batch.append(waiting)
        return batch

    async def _deliver(self, batch: list[tuple[Ask, asyncio.Future[Answer]]]) -> None:
        answers: Sequence[Answer | ServiceError] = [ServiceError(Reason.UNAVAILABLE)] * len(batch)
        try:
            answers = await self._send([ask for ask, _ in batch])
            if len(answers) != len(batch):
                raise ValueError(f"{len(answers)} answers to {len(batch)} calls")  # noqa: TRY301
        except Exception as error:  # noqa: BLE001 - whatever it is, each caller must hear of it
            answers = [error if isinstance(error, ServiceError) else _wrapped(error)] * len(batch)
        finally:  # also when the lane is cancelled: nobody may wait for an answer that cannot come
            for (_, future), answer in zip(batch, answers, strict=True):
                if future.done():
                    continue
                if isinstance(answer, ServiceError):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)


def _wrapped(error: Exception) -> ServiceError:
    wrapped = ServiceError(Reason.INTERNAL)
    wrapped.__cause__ = error
    return wrapped
