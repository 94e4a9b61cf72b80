"""What is wrong with a request: each fault with the JSON path where the client finds it.

A hostile body may have a fault in each of its thousands of values, and names of its whole size. So a fault
carries the steps of its path, faults are counted while they are found, and only a fault that is shown gets
its path written out, up to PATH_LENGTH_MAX characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NoReturn, TypeAlias

from chassis.errors import FieldViolation, invalid_fields

# A client that sends garbage learns enough from the first few faults.
VIOLATIONS_MAX = 20
PATH_LENGTH_MAX = 300

Step: TypeAlias = str | int
"""The name of a field, or the index of an array's element."""


class Fault:
    """What a value must be, and the steps to it, the innermost first."""

    __slots__ = ("description", "steps")

    def __init__(self, description: str, *steps: Step) -> None:
        self.description = description
        self.steps = list(steps)

    @property
    def path(self) -> str:
        """As the client would write it: `questions[3].prompt`, `metadata.a`."""
        return path_of(self.steps[::-1])


class Unfit(Exception):  # noqa: N818 — it says what a value is, as in "unfit for this field"
    """A JSON value does not fit its field. Holds at most VIOLATIONS_MAX faults."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults

    @classmethod
    def because(cls, description: str) -> Unfit:
        """One fault, of the value itself."""
        return cls([Fault(description)])


class Faults:
    """The faults found in one object or array, until there are enough of them."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: list[Fault] = []

    def add(self, step: Step, description: str) -> None:
        """Notes a fault; raises Unfit when no more are needed."""
        self.found.append(Fault(description, step))
        self._stop_if_full()

    def add_below(self, step: Step, unfit: Unfit) -> None:
        """Notes the faults of a value that is found under this name or index; raises Unfit as `add` does."""
        for fault in unfit.faults:
            fault.steps.append(step)
        self.found += unfit.faults
        self._stop_if_full()

    def check(self) -> None:
        """Raises Unfit when there are any."""
        if self.found:
            raise Unfit(self.found)

    def _stop_if_full(self) -> None:
        if len(self.found) >= VIOLATIONS_MAX:
            raise Unfit(self.found[:VIOLATIONS_MAX])


def path_of(steps: Sequence[Step]) -> str:
    """Writes out a path, the outermost step first, until it has PATH_LENGTH_MAX characters."""
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
