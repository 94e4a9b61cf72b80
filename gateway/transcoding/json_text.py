"""Reads JSON strictly: UTF-8, no key twice, no NaN, nothing after the end, no bottomless nesting."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.transcoding.faults import joined, refuse

# The longest number that any field can hold is far shorter; Python reads longer ones in quadratic time.
_NUMBER_DIGITS_MAX = 400


def load(body: bytes) -> Any:
    """Reads a body.

    Raises:
        ServiceError: INVALID_ARGUMENT, naming the path of what is at fault, or line and column.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        refuse([("", f"The body is not UTF-8 text (byte {error.start})")])
    try:
        return _STRICT.decode(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        refuse([("", f"The body is not JSON: {error.msg} ({place})")])
    except RecursionError:
        refuse([("", "The body is nested too deeply")])
    except ValueError:
        refuse(_faults(text))


class _StrictnessError(ValueError):
    """Something that Python's JSON reader would let pass."""


@dataclass(frozen=True, slots=True)
class _Fault:
    """Stands in the place of a value that cannot be read."""

    description: str


class _Pairs(list[tuple[str, Any]]):
    """An object as it was written, with every key that was given twice."""


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
    parse_constant=lambda name: _Fault(f"must not be {name}"),
    parse_int=lambda text: (
        _Fault("is a number with too many digits") if len(text) > _NUMBER_DIGITS_MAX else 0
    ),
)


def _faults(text: str) -> Iterator[tuple[str, str]]:
    """Reads once more, leniently, to say where the faults are."""
    return _walk("", _LENIENT.decode(text))


def _walk(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, _Fault):
        yield path, value.description
    elif isinstance(value, _Pairs):
        seen: set[str] = set()
        for name, each in value:
            if name in seen:
                yield joined(path, name), "is given twice"
            seen.add(name)
            yield from _walk(joined(path, name), each)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _walk(joined(path, f"[{index}]"), each)
