"""The state of a running stack, in `run/state.json`, for the other commands."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One process of the stack; `pid` is None between its death and its next start."""

    name: str
    pid: int | None
    port: int | None
    ops_port: int | None
    started_at: str | None
    restarts: int


@dataclass(frozen=True, slots=True)
class StackState:
    """The state of the whole stack, as its supervisor wrote it last."""

    supervisor_pid: int
    gateway_url: str
    ready: bool
    processes: tuple[ProcessState, ...]

    def process(self, name: str) -> ProcessState:
        """The process of this name; raises KeyError if the stack has none."""
        for process in self.processes:
            if process.name == name:
                return process
        raise KeyError(name)


def write(path: Path, state: StackState) -> None:
    """Replace the file as a whole: a reader sees the old state or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(asdict(state), indent=2) + "\n")
    draft.replace(path)


def read(path: Path) -> StackState | None:
    """The last written state; None if there is none. It may outlive its stack: check the lock too."""
    try:
        raw: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    processes = tuple(ProcessState(**process) for process in raw.pop("processes"))
    return StackState(**raw, processes=processes)
