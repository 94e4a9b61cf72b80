"""What the bench needs of a system under load."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from bench.load.outcome import LoadOutcome
from bench.load.requests import RequestFile

DatabaseAddress = Callable[[str], str]
"""The superuser's DSN of a database in the bench's one PostgreSQL."""


class System(Protocol):
    """A way to start sessions; everything about it is on this machine and in the same PostgreSQL."""

    @property
    def name(self) -> str:
        """Short, for `--only` and the results."""

    @property
    def title(self) -> str:
        """For people."""

    @property
    def url(self) -> str | None:
        """Its HTTP address; None if it has none."""

    @property
    def databases(self) -> tuple[str, ...]:
        """Its databases; their backends work for it."""

    def processes(self) -> Mapping[str, int]:
        """Its processes without PostgreSQL: a name and the pid at the top of each tree."""

    async def start(self) -> None:
        """Start it: at return it is ready for load, and every learner has an account."""

    async def stop(self) -> None:
        """Stop it: at return nothing of it runs any more."""

    async def load(self, requests: RequestFile, *, connections: int, seconds: int) -> LoadOutcome:
        """Starts sessions as fast as it can."""

    async def counts(self) -> Mapping[str, int]:
        """The number of starts in each of its tables: they are equal if nothing was lost or doubled."""

    async def reset(self) -> None:
        """Delete all sessions, as if nobody had ever started one."""
