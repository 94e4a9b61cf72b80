"""When a message was sent, by the clock of the process that reads it."""

from __future__ import annotations

from typing import NamedTuple

# Two monotonic clocks drift apart by some 100 µs in a second at most, so a measurement is good for minutes.
MEASURED_SECONDS_MAX = 300.0


class Reading(NamedTuple):
    """A moment by the clock of another process; 0 as the clock means that none is known."""

    clock: int
    at: float


UNKNOWN = Reading(0, 0.0)


class PeerClock:
    """How the monotonic clock of another process relates to ours, from the times in its answers.

    A message on a stream carries the time that its calls have left, which does not shrink while it is under
    way. With this the reader knows when it was sent. The offset is measured as NTP does (RFC 5905, section
    8): four times of an exchange, of which the exchange with the shortest delay is kept. The error is at most
    half of that delay, and `reading` errs on the side of "sent later", so no call loses time that it has.

    A clock stops while its machine is paused. An exchange that contradicts the measurement shows that, and
    replaces it.
    """

    def __init__(self) -> None:
        self._clock = 0
        self._offset = 0.0
        self._error = 0.0
        self._measured_at = 0.0

    def note(
        self, clock: int, *, sent_at: float, received_at: float, answered_at: float, arrived_at: float
    ) -> None:
        """Learns from an exchange: two times of our clock around two times of the other's."""
        delay = (arrived_at - sent_at) - (answered_at - received_at)
        if not clock or not delay >= 0.0:  # our clock stopped meanwhile, or these are no times at all
            return
        error = delay / 2
        offset = ((received_at - sent_at) + (answered_at - arrived_at)) / 2
        known = clock == self._clock and arrived_at - self._measured_at <= MEASURED_SECONDS_MAX
        if known and error > self._error and abs(offset - self._offset) <= error + self._error:
            return
        self._clock = clock
        self._offset = offset
        self._error = error
        self._measured_at = arrived_at

    def reading(self, at: float) -> Reading:
        """A moment of our clock by the other's clock, at the latest."""
        if not self._clock:
            return UNKNOWN
        return Reading(self._clock, at + self._offset + self._error)
