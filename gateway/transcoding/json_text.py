"""Reads JSON strictly: UTF-8, no repeated key, no NaN, nothing after the end, and a limited depth.

The cost is linear in the size of the body, even for a body that is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.transcoding.faults import VIOLATIONS_MAX, Fault, Step, refuse, refuse_all

# protobuf reads 100 levels of messages; a level of a Struct takes three of them.
DEPTH_MAX = 32
# The longest number of any field is far shorter. Python reads long integers in quadratic time.
_NUMBER_DIGITS_MAX = 400
_TO_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_TOO_MANY_ZEROS = b"0" * (_NUMBER_DIGITS_MAX + 1)
_TOO_DEEP = f"The body is nested too deeply: at most {DEPTH_MAX} levels"
# The usual body is small. A larger one would often be read twice.
_SIMPLE_BYTES_MAX = 2048
# The values that orjson reads as Python's reader does. It reads integers of more than 64 bits as floats.
_SIMPLE = frozenset({str, int, bool, type(None)})


def load(body: bytes) -> Any:
    """Reads a body.

    Raises:
        ServiceError: INVALID_ARGUMENT, with the path of each fault, or its line and column.
    """
    if len(body) <= _SIMPLE_BYTES_MAX:
        simple = _load_simple(body)
        if simple is not None:
            return simple
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        refuse(f"The body is not UTF-8 text (byte {error.start})")
    if _TOO_MANY_ZEROS in body.translate(_TO_ZEROS):  # so many digits may also be in a string
        _refuse_faults(text)
    try:
        value = _decode(_STRICT.decode, text)
    except _StrictnessError:
        _refuse_faults(text)
        refuse(_TOO_DEEP)
    # Counting the brackets is fast; the exact check is rarely needed.
    if text.count("[") + text.count("{") > DEPTH_MAX and _is_too_deep(value):
        refuse(_TOO_DEEP)
    return value


def _load_simple(body: bytes) -> dict[str, Any] | None:
    """The object in a body, if it has simple values only; None when the strict reader must look.

    orjson takes a fifth of the time, but of a repeated key it keeps the last value. Each pair has a colon, so
    an object with as many keys as there are colons has no repeated key.
    """
    try:
        value = orjson.loads(body)
    except ValueError:
        return None
    simple = (
        isinstance(value, dict)
        and len(value) == body.count(b":")
        and _SIMPLE.issuperset(map(type, value.values()))
    )
    return value if simple else None


def _refuse_faults(text: str) -> None:
    """Refuses a text for its faults, if it has any that are not too deep.

    The lenient reader goes on after the first fault, so it may find more faults.
    """
    faults = _Search().faults_of(_decode(_LENIENT.decode, text))
    if faults:
        refuse_all(faults)


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
    except (RecursionError, ValueError):  # a number with so many digits is so deep that no fault was noted
        refuse(_TOO_DEEP)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if not pairs:  # hostile bodies have hundreds of thousands of empty objects
        return {}
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _StrictnessError
    return made


def _refuse_constant(_name: str) -> Any:
    raise _StrictnessError


_STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)
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
    containers = (dict, list)
    level = [value] if isinstance(value, containers) else []
    for _ in range(DEPTH_MAX):
        if not level:
            return False
        level = [
            inner
            for outer in level
            if outer
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, containers)
        ]
    return bool(level)
