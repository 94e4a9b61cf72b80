"""The folder of one stack: its data, keys, secrets, logs and run-time state."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from homeroom.secrets_file import SecretsFile

DEFAULT = Path(".homeroom")
# Whoever looks whether a lock is held takes it for a moment.
_HOLD_ATTEMPTS = 25
_HOLD_PAUSE_SECONDS = 0.02


class AlreadyRunningError(RuntimeError):
    """Another stack runs on this data folder."""


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """The layout of a data folder."""

    root: Path

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def run(self) -> Path:
        """Locks and the state file; of no use when the processes have ended."""
        return self.root / "run"

    @property
    def state(self) -> Path:
        return self.run / "state.json"

    @property
    def seeded(self) -> Path:
        """Exists once the demo has been seeded."""
        return self.root / "seeded"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    def log(self, name: str) -> Path:
        return self.root / "logs" / f"{name}.log"

    def lock(self, name: str) -> Path:
        return self.run / f"{name}.lock"

    def hold(self, name: str) -> Path:
        """Locked while nobody may start the process of this name; see `holding`."""
        return self.run / f"{name}.hold"

    def secrets(self) -> SecretsFile:
        return SecretsFile(self.root / "secrets.json")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the only supervisor of this folder. The kernel releases the lock, however this process ends.

        Raises AlreadyRunningError with the pid of the other supervisor.
        """
        self.run.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.lock("supervisor"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = os.read(descriptor, 32).decode().strip()
                raise AlreadyRunningError(
                    f"{self.root} is in use by the stack of process {pid}: stop it, or choose another --data"
                ) from None
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def holding(self, names: Iterable[str]) -> Iterator[None]:
        """Keep the supervisor from starting these processes. It waits, and starts them afterwards.

        The kernel ends this with the calling process, however that ends. Raises AlreadyRunningError if
        another program does the same.
        """
        self.run.mkdir(parents=True, exist_ok=True)
        with ExitStack() as opened:
            for name in sorted(names):
                descriptor = os.open(self.hold(name), os.O_RDWR | os.O_CREAT, 0o600)
                opened.callback(os.close, descriptor)
                if not _locked_soon(descriptor):
                    raise AlreadyRunningError(f"{name} is being restored by another command already")
            yield


def _locked_soon(descriptor: int) -> bool:
    for _ in range(_HOLD_ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_HOLD_PAUSE_SECONDS)
        else:
            return True
    return False
