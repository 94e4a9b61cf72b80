"""The faults of a request, each with its JSON path.

A hostile body may have thousands of faults, and very long names. So a fault only keeps the steps of its path,
the search stops after VIOLATIONS_MAX faults, and a path has at most PATH_LENGTH_MAX characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NoReturn, TypeAlias

from chassis.errors import FieldViolation, invalid_fields

# The first few faults are enough for a client.
VIOLATIONS_MAX = 20
PATH_LENGTH_MAX = 300

Step: TypeAlias = str | int
"""The name of a field, or the index of an array's element."""


class Fault:
    """What is wrong with a value, and the steps to the value, the innermost first."""

    __slots__ = ("description", "steps")

    def __init__(self, description: str, *steps: Step) -> None:
        self.description = description
        self.steps = list(steps)

    @property
    def path(self) -> str:
        """The path as the client would write it: `questions[3].prompt`, `metadata.a`."""
        return path_of(self.steps[::-1])


class Unfit(Exception):  # noqa: N818 — an adjective: the value is unfit for its field
    """A JSON value does not fit its field. It has at most VIOLATIONS_MAX faults."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults

    @classmethod
    def because(cls, description: str) -> Unfit:
        """An exception with one fault, of the value itself."""
        return cls([Fault(description)])


class Faults:
    """Collects the faults of one object or array, at most VIOLATIONS_MAX."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: list[Fault] = []

    def add(self, step: Step, description: str) -> None:
        """Adds a fault; raises Unfit when there are enough."""
        self.found.append(Fault(description, step))
        self._stop_if_full()

    def add_below(self, step: Step, unfit: Unfit) -> None:
        """Adds the faults of the value with this name or index; raises Unfit when there are enough."""
        for fault in unfit.faults:
            fault.steps.append(step)
        self.found += unfit.faults
        self._stop_if_full()

    def check(self) -> None:
        """Raises Unfit when there are faults."""
        if self.found:
            raise Unfit(self.found)

    def _stop_if_full(self) -> None:
        if len(self.found) >= VIOLATIONS_MAX:
            raise Unfit(self.found[:VIOLATIONS_MAX])


def path_of(steps: Sequence[Step]) -> str:
    """The text of a path, from the outermost step on, with at most PATH_LENGTH_MAX characters."""
    parts: list[str] = []
    room = PATH_LENGTH_MAX
    for step in steps:
        if isinstance(step, int):
            part = f"[{step}]"
        else:
            dot = "." if parts and step else ""
            part = dot + step[: room + 1]
        parts.append(part)
        room -= len(part)
        if room < 0:
            return "".join(parts)[: PATH_LENGTH_MAX - 1] + "…"
    return "".join(parts)


def refuse(description: str) -> NoReturn:
    """Raises ServiceError: INVALID_ARGUMENT for the request as a whole."""
    refuse_all([Fault(description)])


def refuse_all(faults: Iterable[Fault]) -> NoReturn:
    """Raises ServiceError: INVALID_ARGUMENT, with the field of each of the first VIOLATIONS_MAX faults."""
    raise invalid_fields(
        [FieldViolation(fault.path, fault.description) for fault in islice(faults, VIOLATIONS_MAX)]
    )
