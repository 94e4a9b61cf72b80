"""What one part of the bench of overload found."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

import msgspec

from bench.machine import Machine
from bench.results import Goal


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """One situation: what was seen, the goals that it decides, and why it proves nothing, if so."""

    name: str
    title: str
    facts: Mapping[str, str]
    goals: Sequence[Goal]
    problems: Sequence[str]


class OverloadResults(msgspec.Struct, frozen=True, kw_only=True):
    """All situations that were measured, on this machine."""

    taken_at: dt.datetime
    machine: Machine
    seconds: int
    sections: Sequence[Section]

    @property
    def invalid(self) -> list[Section]:
        return [section for section in self.sections if section.problems]


def at_most(what: str, measured: float, limit: float) -> Goal:
    return Goal(what, f"at most {limit:g}", measured, measured <= limit)


def at_least(what: str, measured: float, limit: float) -> Goal:
    return Goal(what, f"at least {limit:g}", measured, measured >= limit)
