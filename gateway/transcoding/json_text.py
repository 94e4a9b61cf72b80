"""Reads JSON strictly: UTF-8, no repeated key, no NaN, nothing after the end, and a limited depth.

The cost is linear in the size of the body, even for a body that is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.transcoding.faults import VIOLATIONS_MAX, Fault, Step, refuse, refuse_all

# protobuf reads 100 levels of messages; a level of a Struct takes three of them.
DEPTH_MAX = 32
# The longest number of any field is far shorter. Python reads long integers in quadratic time.
_NUMBER_DIGITS_MAX = 400
_TOO_DEEP = f"The body is nested too deeply: at most {DEPTH_MAX} levels"


def load(body: bytes) -> Any:
    """Reads a body.

    Raises:
        ServiceError: INVALID_ARGUMENT, with the path of each fault, or its line and column.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        refuse(f"The body is not UTF-8 text (byte {error.start})")
    try:
        value = _decode(_STRICT.decode, text)
    except _StrictnessError:
        # The lenient reader goes on after the first fault, so it may find more faults.
        faults = _Search().faults_of(_decode(_LENIENT.decode, text))
        refuse_all(faults or [Fault(_TOO_DEEP)])
    # Counting the brackets is fast; the exact check is rarely needed.
    if text.count("[") + text.count("{") > DEPTH_MAX and _is_too_deep(value):
        refuse(_TOO_DEEP)
    return value


class _StrictnessError(Exception):
    """The text has something that Python's JSON reader would accept."""


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """Replaces a value that is not allowed."""

    description: str


class _Pairs(list[tuple[str, Any]]):
    """The pairs of an object, with its repeated keys."""


def _decode(decode: Callable[[str], Any], text: str) -> Any:
    try:
        return decode(text)
    except json.JSONDecodeError as error:
        refuse(f"The body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})")
    except RecursionError:
        refuse(_TOO_DEEP)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _StrictnessError
    return made


def _refuse_constant(_name: str) -> Any:
    raise _StrictnessError


def _refuse_long_integer(text: str) -> int:
    if len(text) > _NUMBER_DIGITS_MAX:
        raise _StrictnessError
    return int(text)


_STRICT = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_int=_refuse_long_integer
)
_LENIENT = json.JSONDecoder(
    object_pairs_hook=_Pairs,
    parse_constant=lambda name: _Unreadable(f"must not be {name}"),
    parse_int=lambda text: (
        _Unreadable("is a number with too many digits") if len(text) > _NUMBER_DIGITS_MAX else 0
    ),
)


class _Search:
    """Looks for faults in the result of the lenient reader."""

    def __init__(self) -> None:
        self._steps: list[Step] = []  # to the current value
        self._faults: list[Fault] = []

    def faults_of(self, value: Any) -> list[Fault]:
        """The first faults, in the order of the text. It does not look deeper than DEPTH_MAX."""
        self._visit(value)
        return self._faults

    def _visit(self, value: Any) -> None:
        if isinstance(value, _Unreadable):
            self._note(value.description)
        elif len(self._steps) < DEPTH_MAX:
            if isinstance(value, _Pairs):
                self._visit_pairs(value)
            elif isinstance(value, list):
                self._visit_below(enumerate(value))

    def _visit_pairs(self, pairs: _Pairs) -> None:
        seen: set[str] = set()
        for name, value in pairs:
            if len(self._faults) >= VIOLATIONS_MAX:
                return
            self._steps.append(name)
            if name in seen:
                self._note("is given twice")
            seen.add(name)
            self._visit(value)
            self._steps.pop()

    def _visit_below(self, elements: enumerate[Any]) -> None:
        for index, value in elements:
            if len(self._faults) >= VIOLATIONS_MAX:
                return
            self._steps.append(index)
            self._visit(value)
            self._steps.pop()

    def _note(self, description: str) -> None:
        self._faults.append(Fault(description, *reversed(self._steps)))


def _is_too_deep(value: Any) -> bool:
    """Whether arrays and objects are nested more than DEPTH_MAX deep; it goes from level to level."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEPTH_MAX):
        if not level:
            return False
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return bool(level)
