"""Background work: jobs that run in rounds, have metrics, and stop in order."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from chassis.backoff import full_jitter
from chassis.errors import ServiceError
from chassis.rpc.faults import cancelled_by_caller
from chassis.telemetry.logs import get_logger
from chassis.telemetry.metrics import Metrics

AT_ONCE = 0.0
"""A job returns this when more work is waiting."""

STEP_SECONDS_MAX = 5.0

# It is longer than a delivery of the relay, and shorter than the grace period of the process.
STOP_SECONDS_MAX = 9.0
CANCEL_SECONDS_MAX = 0.5
BACKOFF_SECONDS = 0.5
BACKOFF_SECONDS_MAX = 60.0
JITTER = 0.1
DURATION_BUCKETS_SECONDS = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0)

log = get_logger(__name__)

# Does one round of work. Returns the seconds to wait before the next round; None for the usual interval.
Run = Callable[[], Awaitable[float | None]]


@dataclass(slots=True)
class Job:
    """Work that runs in rounds; `wake` makes it run now."""

    name: str
    run: Run
    interval_seconds: float
    cancel_at_stop: bool
    last_success_at: float = 0.0
    """Unix time of the last round that did not fail; 0 before the first."""
    failures_in_a_row: int = 0
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Run now, or once more if it is running. After a failure, the back-off must end first."""
        self.woken.set()


class Background:
    """All work of a process that is not part of a request.

    Each job has a loop of its own, so a job that fails or hangs does not delay the others. A round that
    raises is logged, counted, and tried again after a growing pause. Only `stop` ends the loop.
    """

    def __init__(self, *, metrics: Metrics) -> None:
        self._jobs: dict[str, Job] = {}
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()
        self._durations = metrics.histogram(
            "job_seconds", "The duration of a round of background work.", ("job",), DURATION_BUCKETS_SECONDS
        )
        self._failures = metrics.counter(
            "job_failures", "Rounds of background work that failed; they are tried again.", ("job",)
        )
        metrics.gauge(
            "job_last_success_timestamp_seconds",
            "The Unix time of the last successful round of background work; 0 if there was none.",
            lambda: {(job.name,): job.last_success_at for job in self._jobs.values()},
            ("job",),
        )

    def add(self, name: str, run: Run, *, interval_seconds: float, cancel_at_stop: bool = False) -> Job:
        """Add a job, before `start`.

        `interval_seconds` is the pause between two rounds. It varies by a tenth, so that replicas do not run
        at the same moments. `cancel_at_stop` is for a round that waits for an event: `stop` cancels it.
        """
        if name in self._jobs:
            raise ValueError(f"there is a job {name} already")
        job = self._jobs[name] = Job(name, run, interval_seconds, cancel_at_stop)
        return job

    def start(self) -> None:
        """Begin the first round of every job, in tasks of the running event loop."""
        for name, job in self._jobs.items():
            self._loops[name] = asyncio.create_task(self._repeat(job), name=f"job {name}")

    async def stop(self) -> None:
        """Begin no more rounds, and let the current ones finish. After STOP_SECONDS_MAX, cancel them."""
        self._stopping.set()
        for job in self._jobs.values():
            job.wake()
            if job.cancel_at_stop and job.name in self._loops:
                self._loops[job.name].cancel()
        loops = set(self._loops.values())
        if not loops:
            return
        _, late = await asyncio.wait(loops, timeout=STOP_SECONDS_MAX)
        for name, loop in self._loops.items():
            if loop in late:
                log.warning("job_not_stopped_in_time", job=name)
                loop.cancel()
        if late:
            await asyncio.wait(late, timeout=CANCEL_SECONDS_MAX)
        self._loops.clear()

    async def _repeat(self, job: Job) -> None:
        while not self._stopping.is_set():
            job.woken.clear()
            pause_seconds, may_wake = await self._round(job)
            if pause_seconds > 0.0:
                await self._pause(pause_seconds, job.woken if may_wake else self._stopping)
            else:
                await asyncio.sleep(0)  # other tasks also run while there is more work

    async def _round(self, job: Job) -> tuple[float, bool]:
        """One round. Returns the pause after it, and whether `wake` may end the pause."""
        began = time.monotonic()
        try:
            wanted = await job.run()
        except (Exception, asyncio.CancelledError) as error:
            if cancelled_by_caller(error):
                raise
            return self._failed(job, error), False  # the loop goes on after any exception of a round
        finally:
            self._durations.observe((job.name,), time.monotonic() - began)
        job.failures_in_a_row = 0
        job.last_success_at = time.time()
        if wanted is not None:
            return wanted, wanted <= 0.0
        return job.interval_seconds * random.uniform(1 - JITTER, 1 + JITTER), True  # noqa: S311 - jitter

    def _failed(self, job: Job, error: BaseException) -> float:
        """Count a round that failed. Returns the seconds to wait before the next one."""
        job.failures_in_a_row += 1
        self._failures.add(job.name)
        log.warning(
            "job_failed",
            job=job.name,
            problem=repr(error),
            failures=job.failures_in_a_row,
            exc_info=None if isinstance(error, ServiceError) else error,
        )
        return full_jitter(
            job.failures_in_a_row, base_seconds=BACKOFF_SECONDS, seconds_max=BACKOFF_SECONDS_MAX
        )

    async def _pause(self, seconds: float, interruption: asyncio.Event) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await interruption.wait()


def step_deadline() -> float:
    """The deadline of one read, write or call of a round, from now."""
    return time.monotonic() + STEP_SECONDS_MAX
