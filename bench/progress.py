"""The progress of the bench, on the terminal."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from bench.results import Run

DISTURBED_CORES = 0.25


class Progress:
    """A line that shows the current step, and one permanent line for each run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = Status(
            "", console=console, refresh_per_second=2
        )  # seldom: it takes CPU time from the load
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._status.stop()

    def say(self, what: str) -> None:
        text = f"[{time.monotonic() - self._began:4.0f} s] {what}"
        self._status.update(text)
        if not self._console.is_terminal:
            self._console.print(text, markup=False, highlight=False)

    def ran(self, run: Run) -> None:
        self._console.print(describe(run), highlight=False)


def describe(run: Run) -> str:
    """A run in one line, with its problems."""
    line = (
        f"{run.system:>14}  {run.connections:>4} connections  {run.rate:>8,.0f}/s"
        f"  p50 {run.p50_ms:>7.2f} ms  p99 {run.p99_ms:>7.2f} ms"
    )
    if run.problems:
        return f"{line}  [red]invalid: {escape('; '.join(run.problems))}[/red]"
    disturbed = run.elsewhere_cores + run.stolen_cores + run.bystanders_cores
    if disturbed > DISTURBED_CORES:
        return f"{line}  [yellow]disturbed: {disturbed:.1f} cores were busy elsewhere[/yellow]"
    return line
