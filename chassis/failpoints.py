"""Points where a test may kill, stop or fail a development process, to prove that promises still hold.

These points exist (each has one name, and calls `hit` or `hit_async`):

- `session.after_holds_placed`: holds are placed, the sessions are not written yet.
- `session.after_commit`: sessions are committed, no caller has been answered.
- `session.before_changes_committed`: answers or moves of sessions are written, and not committed yet.
- `session.after_changes_committed`: they are committed, no caller has been answered.
- `session.after_sweep`: a sweep has closed sessions, and has told nobody.
- `subscription.after_commit`: a change of holds is committed, the caller has not been answered.
- `relay.after_delivery`: the receiver has acknowledged an event, the outbox still has it.
- `progress.after_commit`: a result, a completed lesson or a reset is committed; the cache has not been
  written, the caller has not been answered.
- `progress.after_sync_plan`: a run has planned changes, none of them is carried out yet.
- `progress.after_sync_changes`: a run has carried out planned changes, and has not compared further.
- `repairs.after_batch`: a batch of a repair is committed, the next one has not begun.

A file `<directory>/<name>` arms a point; the file contains the action (see `arm`). The process that takes
the file away carries out the action, once.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

NAMES = frozenset(
    {
        "session.after_holds_placed",
        "session.after_commit",
        "session.before_changes_committed",
        "session.after_changes_committed",
        "session.after_sweep",
        "subscription.after_commit",
        "relay.after_delivery",
        "progress.after_commit",
        "repairs.after_batch",
        "progress.after_sync_plan",
        "progress.after_sync_changes",
    }
)
PAUSE_SECONDS_MAX = 60.0
_POLL_SECONDS = 0.01

_directory: Path | None = None
_taken = itertools.count()


class FailpointError(Exception):
    """Raised by the action `error`."""


def configure(directory: Path | None, *, allowed: bool) -> None:
    """Listen for armed failpoints in a directory; None switches them off.

    Raises RuntimeError when there is a directory but failpoints are not allowed (production mode), and
    ValueError when it is not a directory.
    """
    global _directory  # noqa: PLW0603 — one switch per process, so that `hit` only reads one variable
    if directory is not None:
        if not allowed:
            raise RuntimeError("failpoints are for development mode only: unset HOMEROOM_FAILPOINTS_DIR")
        if not directory.is_dir():
            raise ValueError(f"HOMEROOM_FAILPOINTS_DIR is {str(directory)!r}, which is not a directory")
    _directory = directory


def arm(directory: Path, name: str, action: str) -> None:
    """Arm a point: `kill`, `error`, `pause SECONDS`, or `hold` (until `<name>.held` is removed).

    The file appears whole or not at all. Arming an armed point replaces its action.
    """
    if name not in NAMES:
        raise ValueError(f"there is no failpoint {name!r}; there are {', '.join(sorted(NAMES))}")
    _Action.parse(action)
    draft = directory / f"{name}.draft-{os.getpid()}-{next(_taken)}"
    draft.write_text(action, encoding="ascii")
    draft.rename(directory / name)


def hit(name: str) -> None:
    """Carry out the action if this point is armed; `pause` and `hold` stop the whole process."""
    if _directory is None:
        return
    action = _take(_directory, name)
    if action is None:
        return
    action.act_at_once(name)
    give_up_at = time.monotonic() + action.pause_seconds
    while time.monotonic() < give_up_at and action.still_held():
        time.sleep(min(_POLL_SECONDS, max(0.0, give_up_at - time.monotonic())))


async def hit_async(name: str) -> None:
    """Carry out the action if this point is armed. `pause` and `hold` stop only the calling task."""
    if _directory is None:
        return
    action = _take(_directory, name)
    if action is None:
        return
    action.act_at_once(name)
    give_up_at = time.monotonic() + action.pause_seconds
    while time.monotonic() < give_up_at and action.still_held():  # noqa: ASYNC110 — a file has no event to wait for
        await asyncio.sleep(min(_POLL_SECONDS, max(0.0, give_up_at - time.monotonic())))


@dataclass(frozen=True, slots=True)
class _Action:
    verb: str
    pause_seconds: float = 0.0
    held: Path | None = None  # removing this file ends a hold

    @classmethod
    def parse(cls, text: str, held: Path | None = None) -> _Action:
        match text.split():
            case [("kill" | "error") as verb]:
                return cls(verb)
            case ["hold"]:
                return cls("hold", PAUSE_SECONDS_MAX, held)
            case ["pause", seconds]:
                pause_seconds = float(seconds)
                if 0.0 <= pause_seconds <= PAUSE_SECONDS_MAX:
                    return cls("pause", pause_seconds)
        raise ValueError(
            f"{text!r} is not a failpoint action: use kill, error, hold, or pause with 0 to 60 seconds"
        )

    def act_at_once(self, name: str) -> None:
        if self.verb == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.verb == "error":
            raise FailpointError(name)

    def still_held(self) -> bool:
        return self.held is None or self.held.exists()


def _take(directory: Path, name: str) -> _Action | None:
    """Take the armed file away. A rename is atomic, so only one process gets the file."""
    taken = directory / f"{name}.taken-{os.getpid()}-{next(_taken)}"
    try:
        (directory / name).rename(taken)
    except FileNotFoundError:
        return None
    held = directory / f"{name}.held"
    action = _Action.parse(taken.read_text(encoding="ascii"), held)
    if action.verb == "hold":
        taken.rename(held)
    else:
        taken.unlink()
    return action
