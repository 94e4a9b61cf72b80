"""Circuit breakers: they stop calls that would get no answer, and look for a change with few probes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from chassis.errors import Reason, ServiceError
from chassis.telemetry.logs import get_logger
from chassis.telemetry.metrics import Labels, Metrics

# A refused caller never comes back sooner than this.
WAIT_SECONDS_MIN = 0.05
WINDOW_SLICES = 10

log = get_logger(__name__)


class BreakerState(IntEnum):
    """The states of a breaker; the metric shows these numbers."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerLimits:
    """When a breaker opens, and how it looks for a change.

    Args:
        failures_max: failures in a row.
        rate_max: share of the messages in the window that failed.
        volume_min: messages in the window below which the share says nothing.
        window_seconds: the length of the sliding window.
        cool_down_seconds: how long everything is refused before the first probe, and how long a probe that
            says nothing takes the place of another one.
        probes_max: probes under way at once.
    """

    failures_max: int = 5
    rate_max: float = 0.5
    volume_min: int = 20
    window_seconds: float = 10.0
    cool_down_seconds: float = 0.5
    probes_max: int = 1


UPSTREAM_LIMITS = BreakerLimits()
# A method fails by its deadline, so its failures are few and far between.
METHOD_LIMITS = BreakerLimits(volume_min=10, window_seconds=30.0, cool_down_seconds=1.0)


class Breaker:
    """A circuit breaker. It opens after failures in a row, or when too large a share of the messages fails.

    After a pause it is half-open: it lets a few probes through. A success closes it, a failure opens it
    again. One success is enough, because the share of failures opens it again after a lucky probe.

    Args:
        moved: is called after each change of the state, with the new state and its cause.
    """

    def __init__(
        self,
        limits: BreakerLimits = UPSTREAM_LIMITS,
        *,
        moved: Callable[[BreakerState, str], object] | None = None,
    ) -> None:
        self._limits = limits
        self._moved = moved
        self._window = _Window(limits.window_seconds)
        self._failures = 0
        self._probes = 0
        self._probe_at = 0.0
        self.state = BreakerState.CLOSED
        self.open = False
        """Whether calls are refused, some probes aside."""

    def wait_seconds(self, now: float) -> float:
        """How long a call has to wait; 0 when it may pass. A call that passes calls `enter`."""
        if self.state is BreakerState.CLOSED or now >= self._probe_at:
            return 0.0
        if self.state is BreakerState.HALF_OPEN and self._probes < self._limits.probes_max:
            return 0.0
        return max(self._probe_at - now, WAIT_SECONDS_MIN)

    def enter(self, now: float) -> None:
        """Counts a call that passes; while the breaker is not closed, the call is a probe."""
        if self.state is BreakerState.CLOSED:
            return
        if self.state is BreakerState.OPEN:
            self._probes = 0
            self._move(BreakerState.HALF_OPEN, "cool_down_over")
        if now >= self._probe_at:  # the probes before have said nothing
            self._probes = 0
            self._probe_at = now + self._limits.cool_down_seconds
        self._probes += 1

    def check(self) -> None:
        """Admits a call, or refuses it.

        Raises:
            ServiceError: UNAVAILABLE, with the time after which to retry.
        """
        now = time.monotonic()
        wait_seconds = self.wait_seconds(now)
        if wait_seconds:
            raise ServiceError(Reason.UNAVAILABLE, retry_after_seconds=wait_seconds)
        self.enter(now)

    def succeeded(self) -> None:
        """Counts a message that got an answer."""
        now = time.monotonic()
        if not self.open:
            self._failures = 0
            self._window.slice_at(now).messages += 1
            return
        if self.state is BreakerState.OPEN and now < self._probe_at:
            return  # the late answer to a message from before
        self._failures = self._probes = 0
        self._window.clear()
        self._move(BreakerState.CLOSED, "probe_succeeded")

    def undecided(self) -> None:
        """The message shows nothing: the next call may be the probe, without a pause."""
        self._probes = 0

    def failed(self) -> None:
        """Counts a message without an answer."""
        now = time.monotonic()
        if self.state is BreakerState.HALF_OPEN:
            self._open(now, "probe_failed")
        elif self.state is BreakerState.CLOSED:
            self._failures += 1
            current = self._window.slice_at(now)
            current.messages += 1
            current.failures += 1
            if self._failures >= self._limits.failures_max:
                self._open(now, "failures_in_a_row")
            elif self._rate_exceeded(now):
                self._open(now, "failure_rate")

    def _rate_exceeded(self, now: float) -> bool:
        messages, failures = self._window.totals(now)
        return messages >= self._limits.volume_min and failures >= messages * self._limits.rate_max

    def _open(self, now: float, cause: str) -> None:
        self._probe_at = now + self._limits.cool_down_seconds
        self._move(BreakerState.OPEN, cause)

    def _move(self, state: BreakerState, cause: str) -> None:
        self.state = state
        self.open = state is not BreakerState.CLOSED
        if self._moved is not None:
            self._moved(state, cause)


class _Slice:
    """What a part of the window has counted, until its end."""

    __slots__ = ("ends_at", "failures", "messages")

    def __init__(self, ends_at: float) -> None:
        self.ends_at = ends_at
        self.messages = 0
        self.failures = 0


class _Window:
    """Messages and failures of the last seconds, counted in slices."""

    __slots__ = ("_newest", "_seconds", "_slice_seconds", "_slices")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._slice_seconds = seconds / WINDOW_SLICES
        self._slices: deque[_Slice] = deque(maxlen=WINDOW_SLICES)
        self._newest = _Slice(0.0)

    def slice_at(self, now: float) -> _Slice:
        """The slice that counts what happens now."""
        if now >= self._newest.ends_at:
            self._newest = _Slice(now + self._slice_seconds)
            self._slices.append(self._newest)
        return self._newest

    def totals(self, now: float) -> tuple[int, int]:
        """The messages in the window, and those that failed."""
        oldest = now - self._seconds + self._slice_seconds
        inside = [each for each in self._slices if each.ends_at > oldest]
        return sum(each.messages for each in inside), sum(each.failures for each in inside)

    def clear(self) -> None:
        self._slices.clear()
        self._newest = _Slice(0.0)


class Breakers:
    """The breaker of one upstream, and one for each of its methods.

    A lost connection, a refused one and an answer of something else are failures of the upstream: they count
    for all methods together. A deadline that passes without an answer, and an answer that cannot be read, are
    failures of the method: its neighbours on the same process may be well.
    """

    def __init__(self, *, upstream: str, metrics: Metrics) -> None:
        self._name = upstream
        self._transitions = metrics.counter(
            "upstream_breaker_transitions",
            "Changes of a breaker's state, by cause; the method is empty for the breaker of the upstream.",
            ("upstream", "method", "state", "cause"),
        )
        self.upstream = self._made("", UPSTREAM_LIMITS)
        self._methods: dict[str, Breaker] = {}
        metrics.gauges_of(
            "upstream_breaker_state",
            "0: closed. 1: half-open, some probes pass. 2: open, calls are refused at once.",
            self._states,
            labels=("upstream", "method"),
            owner=upstream,
        )

    def of(self, path: str) -> Breaker:
        """The breaker of a method; the upstream's own for the empty path, such as for a health check."""
        if not path:
            return self.upstream
        breaker = self._methods.get(path)
        if breaker is None:
            breaker = self._methods[path] = self._made(path, METHOD_LIMITS)
        return breaker

    def open_for(self, path: str) -> bool:
        """Whether calls of this method are refused."""
        return self.upstream.open or self.of(path).open

    def check(self, path: str) -> None:
        """Admits a call of this method, or refuses it.

        Raises:
            ServiceError: UNAVAILABLE, with the time after which to retry.
        """
        method = self._methods.get(path) or self.of(path)
        if not self.upstream.open and not method.open:
            return
        now = time.monotonic()
        wait_seconds = max(self.upstream.wait_seconds(now), method.wait_seconds(now))
        if wait_seconds:
            raise ServiceError(Reason.UNAVAILABLE, retry_after_seconds=wait_seconds)
        self.upstream.enter(now)
        method.enter(now)

    def succeeded(self, path: str) -> None:
        """A message of this method got an answer, which may be a refusal."""
        self.upstream.succeeded()
        if path:
            self.of(path).succeeded()

    def failed(self, path: str, *, whole_upstream: bool) -> None:
        """A message of this method got no answer."""
        if whole_upstream or not path:
            self.upstream.failed()
            if path:
                self.of(path).undecided()
        else:
            self.of(path).failed()
            self.upstream.undecided()

    def undecided(self, path: str) -> None:
        """A message of this method shows nothing, because its caller was impatient."""
        self.upstream.undecided()
        self.of(path).undecided()

    def _made(self, path: str, limits: BreakerLimits) -> Breaker:
        return Breaker(limits, moved=lambda state, cause: self._moved(path, state, cause))

    def _moved(self, path: str, state: BreakerState, cause: str) -> None:
        self._transitions.add(self._name, path, state.name, cause)
        write = log.info if state is BreakerState.CLOSED else log.warning
        write("breaker_moved", upstream=self._name, method=path, state=state.name.lower(), cause=cause)

    def _states(self) -> dict[Labels, float]:
        states: dict[Labels, float] = {(self._name, ""): float(self.upstream.state)}
        for path, breaker in self._methods.items():
            states[(self._name, path)] = float(breaker.state)
        return states
