"""What is wrong with a request, each fault at the JSON path where the client can find it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from chassis.errors import FieldViolation, Reason, ServiceError

# A client that sends garbage learns enough from the first few.
VIOLATIONS_MAX = 20
_PATH_MAX = 300


class Unfit(Exception):  # noqa: N818 — it says what a value is, as in "unfit for this field"
    """A JSON value does not fit its field: (path below the field, what it must be) for each fault."""

    def __init__(self, *faults: tuple[str, str]) -> None:
        self.faults = faults

    def below(self, path: str) -> Iterable[tuple[str, str]]:
        """The same faults as seen from the object that holds the field under this name or index."""
        for inner, description in self.faults:
            yield joined(path, inner), description


def joined(outer: str, inner: str) -> str:
    """`questions` and `[3].prompt` make `questions[3].prompt`; `metadata` and `a` make `metadata.a`."""
    if not outer or not inner:
        return outer or inner
    return outer + inner if inner.startswith("[") else f"{outer}.{inner}"


def refuse(faults: Iterable[tuple[str, str]]) -> NoReturn:
    """Raises ServiceError: INVALID_ARGUMENT that names each field."""
    violations = [
        FieldViolation(_shortened(path), description)
        for (path, description), _ in zip(faults, range(VIOLATIONS_MAX), strict=False)
    ]
    first = violations[0]
    detail = f"{first.field}: {first.description}" if first.field else first.description
    raise ServiceError(Reason.INVALID_ARGUMENT, detail, violations=violations)


def _shortened(path: str) -> str:
    return path if len(path) <= _PATH_MAX else path[: _PATH_MAX - 1] + "…"
