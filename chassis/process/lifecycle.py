"""Runs a process from its first line to its last: signals, an ordered end within a time limit, exit codes."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from chassis.process.config import ConfigError
from chassis.telemetry.logs import get_logger

EXIT_OK = 0
EXIT_CRASHED = 1
EXIT_CONFIGURATION = 78  # EX_CONFIG of sysexits.h: starting again without a change will not help
GRACE_SECONDS = 20.0  # below the 30 s after which orchestrators kill
CLOSE_SECONDS = 5.0
CANCEL_SECONDS = 1.0

log = get_logger(__name__)


class Shutdown:
    """The end of a process: when it is asked for, and what is then closed in which order."""

    def __init__(self) -> None:
        self._requested = asyncio.Event()
        self._closings: list[tuple[str, Callable[[], Awaitable[object]], float]] = []
        self._on_request: list[Callable[[], object]] = []
        self.exit_code = EXIT_OK

    @property
    def requested(self) -> bool:
        return self._requested.is_set()

    def request(self, reason: str, *, exit_code: int = EXIT_OK) -> None:
        """Ask the process to end; asking again changes nothing."""
        if self._requested.is_set():
            return
        log.info("stopping", reason=reason)
        self.exit_code = exit_code
        self._requested.set()
        for act in self._on_request:
            _act(act)

    async def wait(self) -> None:
        """Return when the process has been asked to end."""
        await self._requested.wait()

    def at_request(self, act: Callable[[], object]) -> None:
        """Do this as soon as the end is asked for, such as `health.drain`; at once if it was already."""
        if self._requested.is_set():
            _act(act)
        else:
            self._on_request.append(act)

    def closing(
        self, name: str, close: Callable[[], Awaitable[object]], *, timeout_seconds: float = CLOSE_SECONDS
    ) -> None:
        """Close this at the end, after everything that was registered later (which may still use it)."""
        self._closings.append((name, close, timeout_seconds))

    async def close_all(self) -> None:
        """Close everything, the last registered first; one that fails or hangs does not stop the rest."""
        while self._closings:
            name, close, timeout_seconds = self._closings.pop()
            try:
                async with asyncio.timeout(timeout_seconds):
                    await close()
            except TimeoutError:
                log.warning("closing took too long", closing=name, timeout_seconds=timeout_seconds)
            except Exception:
                log.exception("closing failed", closing=name)


def _act(act: Callable[[], object]) -> None:
    try:
        act()
    except Exception:
        log.exception("a step at the request to stop failed")


def run(main: Callable[[Shutdown], Awaitable[None]], *, grace_seconds: float = GRACE_SECONDS) -> int:
    """Run `main` until it returns; SIGTERM or SIGINT make `shutdown.wait()` return in it.

    `main` starts what it needs, registers each closing, calls `tune_garbage_collection()`, and waits.
    Returns the exit code for `sys.exit`: 0 after an orderly end, 1 after a crash, 78 for a configuration
    that cannot work. When the end takes longer than the grace period, the process exits by force,
    with status 1 and the stack of every thread on standard error.
    """
    faulthandler.enable()
    try:
        # uvloop: about a tenth less CPU per start than asyncio's own loop, over all processes together.
        with asyncio.Runner(debug=False, loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_supervise(main, grace_seconds))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_CONFIGURATION
    finally:
        faulthandler.cancel_dump_traceback_later()


def tune_garbage_collection() -> None:
    """Take everything that start-up made out of the collector's sight, and let it look less often.

    Measured with 67,000 objects after start-up, and batches of 64 small requests: the slowest batch went from
    22 to 2 ms (a full collection no longer walks what never goes away) and CPU per request down by 6 %.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


async def _supervise(main: Callable[[Shutdown], Awaitable[None]], grace_seconds: float) -> int:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_unhandled)
    shutdown = Shutdown()
    # A thread of the interpreter's own: it ends the process even when Python code can no longer run.
    shutdown.at_request(lambda: faulthandler.dump_traceback_later(grace_seconds, exit=True))
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, shutdown.request, each.name)
    work = asyncio.ensure_future(main(shutdown))
    try:
        await _until_done_or_overdue(work, shutdown, grace_seconds / 2)
        return _exit_code(work, shutdown)
    finally:
        shutdown.request("main has ended")
        await shutdown.close_all()


async def _until_done_or_overdue(
    work: asyncio.Future[None], shutdown: Shutdown, patience_seconds: float
) -> None:
    """Wait for `main`; once the end is asked for, no longer than its patience, then cancel it."""
    requested = asyncio.create_task(shutdown.wait(), name="wait for shutdown")
    await asyncio.wait({work, requested}, return_when=asyncio.FIRST_COMPLETED)
    requested.cancel()
    await asyncio.wait({work}, timeout=patience_seconds)
    if not work.done():
        log.error("main did not return in time", seconds=patience_seconds)
        work.cancel()
        await asyncio.wait({work}, timeout=CANCEL_SECONDS)


def _exit_code(work: asyncio.Future[None], shutdown: Shutdown) -> int:
    """How `main` ended; raises its ConfigError, logs its crash."""
    if not work.done() or work.cancelled():
        return EXIT_CRASHED
    error = work.exception()
    if error is None:
        return shutdown.exit_code
    if isinstance(error, ConfigError):
        raise error
    log.critical("crashed", exc_info=error)
    return EXIT_CRASHED


def _log_unhandled(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What asyncio would print: a task whose exception nobody took, a callback that failed."""
    error = context.get("exception")
    task = context.get("task") or context.get("future")
    log.error(
        "unhandled error in the event loop",
        problem=context.get("message"),
        task=task.get_name() if isinstance(task, asyncio.Task) else None,
        exc_info=error,
    )
