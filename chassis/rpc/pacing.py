"""Answers that arrive together at a crowded process are given to their callers one after the other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from chassis.errors import ServiceError

ANSWERS_PER_TURN_MAX = 24
"""What callers do with so many answers, and the requests that take their places, takes about 5 ms."""


class Pacer:
    """Gives answers to their callers in the order in which they came.

    A message of an upstream has up to 128 answers. If all their callers go on in one turn of the event loop,
    it takes 30 ms, and whatever else has arrived waits for its end. A crowded process must refuse sooner than
    that. At other times nothing is paced: it makes smaller batches, so that 256 clients who each wait for
    their answers got 12 % fewer of them.

    Args:
        paced: whether at most `per_turn_max` answers may be given in one turn now.
        per_turn_max: how many.
    """

    def __init__(
        self, *, paced: Callable[[], bool] = lambda: False, per_turn_max: int = ANSWERS_PER_TURN_MAX
    ) -> None:
        self._paced = paced
        self._per_turn_max = per_turn_max
        self._waiting: deque[tuple[asyncio.Future[Any], Any]] = deque()
        self._turning = False

    def give(self, answers: Iterable[tuple[asyncio.Future[Any], Any]]) -> None:
        """Gives each caller its answer, at least the first ones now. Those who have left get nothing.

        A ServiceError is raised, anything else is returned.
        """
        self._waiting.extend(answers)
        if not self._turning:
            self._turn()

    def finish(self) -> None:
        """Gives all answers that wait."""
        self._give(len(self._waiting))

    def _turn(self) -> None:
        self._give(self._per_turn_max if self._paced() else len(self._waiting))
        self._turning = bool(self._waiting)
        if self._turning:
            asyncio.get_running_loop().call_soon(self._turn)

    def _give(self, count: int) -> None:
        while self._waiting and count > 0:
            future, answer = self._waiting.popleft()
            if future.done():
                continue
            count -= 1
            if isinstance(answer, ServiceError):
                future.set_exception(answer)
            else:
                future.set_result(answer)
