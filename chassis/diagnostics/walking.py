"""Running checks: step by step, with steps that stay short, from any place."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from chassis.diagnostics.checks import Check, Place, Scope
from chassis.diagnostics.findings import Finding
from chassis.errors import Reason, ServiceError
from chassis.postgres import DataRefused, LockTimeout
from chassis.telemetry.logs import get_logger

STEP_ROWS_FIRST = 500
STEP_ROWS_MAX = 2000
STEP_ROWS_MIN = 10
# A step that takes longer is followed by a smaller one; a shorter one by a larger one.
STEP_SECONDS_USUAL = 0.1
# The deadline of one step. The database cancels a statement earlier, see `STATEMENT_SECONDS_MAX`.
STEP_SECONDS_MAX = 8.0

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a check is. A check with a `problem` could not be run to its end."""

    check: str
    walked: int
    findings: int
    seconds: float
    reached: Place | None
    done: bool
    problem: str = ""


class CheckWalk:
    """One check on its way: how far it is, and what its steps cost.

    Args:
        after: where to go on; None for the beginning.
        pause_ratio: the pause after a step, as a part of the step's own time. It leaves the store to others.
    """

    def __init__(
        self, check: Check, scope: Scope, *, after: Place | None = None, pause_ratio: float = 0.0
    ) -> None:
        self.check = check
        self._scope = scope
        self._after = after
        self._pause_ratio = pause_ratio
        self._rows = STEP_ROWS_FIRST
        self._walked = 0
        self._findings = 0
        self._seconds = 0.0

    async def steps(self) -> AsyncIterator[tuple[Sequence[Finding], Progress]]:
        """The findings of each step, and the progress after it; the last one is done.

        A step that is too long for the database is tried again with fewer rows. Whatever a step raises ends
        the walk with a problem, and harms no other check.
        """
        while True:
            began = time.monotonic()
            try:
                step = await self.check.walk.step(
                    self.check, self._scope, self._after, limit=self._rows, deadline=began + STEP_SECONDS_MAX
                )
            except Exception as error:  # noqa: BLE001 - a check that cannot run is reported, not raised
                self._seconds += time.monotonic() - began
                if _is_too_long(error) and self._rows > STEP_ROWS_MIN:
                    self._rows = max(self._rows // 4, STEP_ROWS_MIN)
                    yield [], self._progress(done=False)
                    continue
                yield [], self._progress(done=True, problem=_problem(self.check, error))
                return
            took = time.monotonic() - began
            self._seconds += took
            self._walked += step.walked
            self._findings += len(step.findings)
            self._after = step.reached
            yield step.findings, self._progress(done=step.reached is None)
            if step.reached is None:
                return
            self._adapt(took)
            await asyncio.sleep(took * self._pause_ratio)

    def _adapt(self, took: float) -> None:
        if took > 2 * STEP_SECONDS_USUAL:
            self._rows = max(self._rows // 2, STEP_ROWS_MIN)
        elif took < STEP_SECONDS_USUAL / 2:
            self._rows = min(self._rows * 2, STEP_ROWS_MAX)

    def _progress(self, *, done: bool, problem: str = "") -> Progress:
        return Progress(
            check=self.check.check_id,
            walked=self._walked,
            findings=self._findings,
            seconds=self._seconds,
            reached=self._after,
            done=done,
            problem=problem,
        )


def _is_too_long(error: Exception) -> bool:
    if isinstance(error, ServiceError):
        return error.reason is Reason.DEADLINE_EXCEEDED
    return isinstance(error, TimeoutError)


def _problem(check: Check, error: Exception) -> str:
    """Why a check could not be run, for the one who asked. The log has the rest."""
    expected = isinstance(error, ServiceError | DataRefused | LockTimeout | TimeoutError)
    log.warning(
        "check_not_run",
        check=check.check_id,
        problem=repr(error),
        exc_info=None if isinstance(error, ServiceError) else error,
    )
    return (str(error) if expected else type(error).__name__)[:500] or type(error).__name__
