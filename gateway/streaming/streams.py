"""The streams that are open: their number, how long they last, and their end when the process stops."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from chassis.errors import Reason, ServiceError
from chassis.telemetry.metrics import Counter, Metrics
from gateway.admission import Shares
from gateway.overload import RETRY_AFTER_SECONDS

# A client comes back after a random time, so that all those of a process that stops do not come at once.
RETRY_MS = (500, 3000)
# How much earlier than `seconds_max` a stream may end, so that streams that began together do not end so.
LIFE_JITTER = 0.1


class Ending(StrEnum):
    """Why a stream ended. A client is told the first four."""

    STOPPING = "STOPPING"
    """This process stops."""
    TOKEN_EXPIRED = "TOKEN_EXPIRED"  # noqa: S105 - a word for clients, not a secret
    KEYS_CHANGED = "KEYS_CHANGED"
    """A key that signs tokens was withdrawn: each client shows its token again."""
    TIME_OVER = "TIME_OVER"
    """The stream has lasted as long as streams do."""
    LEFT = "LEFT"
    """The client has left."""
    NOT_READ = "NOT_READ"
    """The client reads too slowly."""
    COMPLETE = "COMPLETE"
    """The method has ended it."""
    FAILED = "FAILED"


TOLD = frozenset({Ending.STOPPING, Ending.TOKEN_EXPIRED, Ending.KEYS_CHANGED, Ending.TIME_OVER})


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLimits:
    """The limits of all streams together."""

    streams_max: int = 2000
    streams_per_learner_max: int = 8
    seconds_max: float = 3600.0
    """How long one stream lasts."""
    comment_seconds: float = 15.0
    """After this time without an event a comment is sent: proxies close silent connections."""
    write_seconds_max: float = 10.0
    """How long a client may take to read what the transport holds back: 64 KiB and one event."""


class Streams:
    """Counts the open streams, and refuses more than the limits allow."""

    def __init__(self, *, limits: StreamLimits, metrics: Metrics) -> None:
        self.limits = limits
        self.stopping = False
        self._open: set[Seat] = set()
        self._learners = Shares(limits.streams_per_learner_max)
        self._ended = metrics.counter("streams_ended", "Streams to clients that ended, by cause.", ("cause",))
        metrics.gauge("streams_open", "Streams to clients that are open.", lambda: float(len(self._open)))

    def enter(self, learner: str, *, token_seconds: float) -> Seat:
        """A seat for one more stream, until `Seat.leave`.

        Args:
            learner: whose stream it is.
            token_seconds: how long the learner's token is valid.

        Raises:
            ServiceError: RATE_LIMITED when this learner has too many streams, OVERLOADED when all together
                are too many.
        """
        limits = self.limits
        if len(self._open) >= limits.streams_max:
            self._ended.add("refused")
            raise ServiceError(
                Reason.OVERLOADED,
                retry_after_seconds=random.uniform(*RETRY_AFTER_SECONDS),  # noqa: S311 - jitter is no secret
            )
        if not self._learners.add(learner):
            self._ended.add("refused")
            raise ServiceError(
                Reason.RATE_LIMITED,
                f"At most {limits.streams_per_learner_max} streams of yours may be open at once",
                retry_after_seconds=random.uniform(*RETRY_AFTER_SECONDS),  # noqa: S311 - jitter is no secret
            )
        life_seconds = limits.seconds_max * random.uniform(1 - LIFE_JITTER, 1)  # noqa: S311 - jitter
        seat = Seat(learner, limits=limits, leave=self._leave, ended=self._ended)
        self._open.add(seat)
        if self.stopping:
            seat.end(Ending.STOPPING)
        elif token_seconds < life_seconds:
            seat.end_later(max(0.0, token_seconds), Ending.TOKEN_EXPIRED)
        else:
            seat.end_later(life_seconds, Ending.TIME_OVER)
        return seat

    def stop(self) -> None:
        """Tells all streams that this process stops; so are those told that begin from now on."""
        self.stopping = True
        for seat in list(self._open):
            seat.end(Ending.STOPPING)

    def authenticate_again(self) -> None:
        """Ends all open streams: a stream knows its learner, not the key that had signed the token."""
        for seat in list(self._open):
            seat.end(Ending.KEYS_CHANGED)

    def _leave(self, seat: Seat) -> None:
        self._open.remove(seat)
        self._learners.remove(seat.learner)


class Seat:
    """The seat of one stream. `ended` is done as soon as something outside the stream ends it."""

    def __init__(
        self, learner: str, *, limits: StreamLimits, leave: Callable[[Seat], None], ended: Counter
    ) -> None:
        self.learner = learner
        self.limits = limits
        self.ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._leave: Callable[[Seat], None] | None = leave
        self._count = ended
        self._timer: asyncio.TimerHandle | None = None

    def end(self, cause: Ending) -> None:
        """Ends the stream; a second cause does nothing."""
        if not self.ended.done():
            self.ended.set_result(cause)

    def end_later(self, seconds: float, cause: Ending) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self.end, cause)

    def leave(self, cause: Ending) -> None:
        """Gives the seat back, and counts why; a second call does nothing."""
        leave, self._leave = self._leave, None
        if leave is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._count.add(cause)
        leave(self)


def retry_ms() -> int:
    """After how many milliseconds a client comes back."""
    return random.randint(*RETRY_MS)  # noqa: S311 - jitter is no secret
