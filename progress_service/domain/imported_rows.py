"""Rows of a file with existing progress: what each may hold, and how those of one learner are merged."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from progress_service.domain.earnings import Earning
from progress_service.domain.statistics import XP_OPERATIONS, UserId

USER_ID_CHARACTERS_MAX = 128
SPECIALIZATION_CHARACTERS_MAX = 63
LESSON_CHARACTERS_MAX = 64
LEVEL_MAX = 10_000
XP_MAX = 1_000_000
DIGITS_MAX = 12
SHOWN_CHARACTERS_MAX = 60
TIME_MIN = datetime(2000, 1, 1, tzinfo=UTC)
# A clock may be wrong by so much; what lies further ahead is a mistake in the file.
AHEAD_MAX = timedelta(days=1)

PROGRESS_FIELDS = ("userId", "specialization", "level", "xp", "updatedAt")
COMPLETION_FIELDS = ("userId", "moduleId", "lessonId", "completedAt")
FIELDS = frozenset((*PROGRESS_FIELDS, *COMPLETION_FIELDS))


class RowRefused(Exception):  # noqa: N818 - a verdict about a row, as Locked is one about a request
    """A row that cannot be imported; the message tells why in plain words."""


class Verdict(StrEnum):
    """What became of a row that did not simply count."""

    # Another row of the file says the same.
    DUPLICATE = "DUPLICATE"
    # Another row of the learner and the specialization won; the XP of both count.
    MERGED = "MERGED"
    REJECTED = "REJECTED"


class Note(NamedTuple):
    """A line of the report."""

    line: int
    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class ProgressRow:
    """A learner's level and XP in a specialization, as another system knew it at `happened_at`."""

    line: int
    user_id: UserId
    specialization: str
    level: int
    xp: int
    happened_at: datetime

    @property
    def operation_id(self) -> uuid.UUID:
        """The id of the row's entry in the XP ledger: it comes from the content, so it stays the same."""
        told = (self.user_id, self.specialization, self.level, self.xp, self.happened_at.isoformat())
        return uuid.uuid5(XP_OPERATIONS, "\n".join(("import", *map(str, told))))

    @property
    def earning(self) -> Earning:
        """What the row adds to the ledger."""
        return Earning(
            user_id=self.user_id,
            operation_id=self.operation_id,
            earned_at=self.happened_at,
            specialization=self.specialization,
            xp=self.xp,
        )


@dataclass(frozen=True, slots=True)
class CompletionRow:
    """A lesson that a learner completed at `happened_at`."""

    line: int
    user_id: UserId
    module_id: str
    lesson_id: str
    happened_at: datetime

    def unknown(self) -> Note:
        """The note that the catalog does not have the lesson."""
        lesson = f"{_shown(self.lesson_id)} of the module {_shown(self.module_id)}"
        return Note(self.line, Verdict.REJECTED, f"the lesson {lesson} is not in the catalog")

    def repeated(self, first: int) -> Note:
        """The note that the line `first` has the same lesson."""
        return Note(self.line, Verdict.DUPLICATE, f"line {first} has the same lesson, and is not later")

    def overtaken(self) -> Note:
        """The note that a reset has overtaken this completion."""
        return Note(self.line, Verdict.REJECTED, "the progress was reset after completedAt")


Row = ProgressRow | CompletionRow


@dataclass(frozen=True, slots=True)
class RowRules:
    """What rows are checked against: the highest level of each specialization, and the database's time."""

    levels: Mapping[str, int]
    now: datetime

    def row(self, line: int, values: Mapping[str, object]) -> Row:
        """The row in these values; an empty text is no value. Raises RowRefused."""
        given = {name: value for name, value in values.items() if value is not None and value != ""}
        about_lesson = "moduleId" in given or "lessonId" in given
        if about_lesson and "specialization" in given:
            raise RowRefused("names a specialization and a lesson; a row may have only one of them")
        user_id = UserId(_text(given, "userId", USER_ID_CHARACTERS_MAX))
        if about_lesson:
            return CompletionRow(
                line,
                user_id,
                _text(given, "moduleId", LESSON_CHARACTERS_MAX),
                _text(given, "lessonId", LESSON_CHARACTERS_MAX),
                self._time(given, "completedAt"),
            )
        specialization = _text(given, "specialization", SPECIALIZATION_CHARACTERS_MAX)
        level = _number(given, "level", LEVEL_MAX)
        levels_max = self.levels.get(specialization)
        if levels_max is None:
            raise RowRefused(f"specialization {_shown(specialization)} is not in the catalog")
        if level > levels_max:
            raise RowRefused(
                f"level {level} is above the highest one of {_shown(specialization)}, which is {levels_max}"
            )
        xp = _number(given, "xp", XP_MAX) if "xp" in given else 0
        return ProgressRow(line, user_id, specialization, level, xp, self._time(given, "updatedAt"))

    def _time(self, given: Mapping[str, object], name: str) -> datetime:
        text = _text(given, name, SHOWN_CHARACTERS_MAX)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise RowRefused(f"{name} {_shown(text)} is not a time such as 2026-01-31T12:00:00Z") from None
        if moment.tzinfo is None:
            raise RowRefused(f"{name} {_shown(text)} has no offset; write Z for UTC")
        try:
            moment = moment.astimezone(UTC)
        except OverflowError:
            raise RowRefused(f"{name} {_shown(text)} is out of range") from None
        if moment < TIME_MIN:
            raise RowRefused(f"{name} {_shown(text)} is before the year 2000")
        if moment > self.now + AHEAD_MAX:
            raise RowRefused(f"{name} {_shown(text)} lies in the future")
        return moment


@dataclass(frozen=True, slots=True)
class Standing:
    """The different rows of a learner and a specialization, of which one decides the level."""

    user_id: UserId
    specialization: str
    rows: Sequence[ProgressRow]

    def settled(self, reset_at: datetime | None) -> tuple[ProgressRow | None, list[Note]]:
        """The row that wins, and a note for each of the others.

        What is older than the last reset of the progress does not take part.
        """
        current = [row for row in self.rows if reset_at is None or row.happened_at >= reset_at]
        winner = max(current, key=lambda row: (row.level, row.happened_at, row.xp), default=None)
        notes = [
            Note(row.line, Verdict.REJECTED, "the progress was reset after updatedAt; only its XP is kept")
            for row in self.rows
            if reset_at is not None and row.happened_at < reset_at
        ]
        if winner is not None:
            notes += [
                Note(row.line, Verdict.MERGED, _why(row, winner)) for row in current if row is not winner
            ]
        return winner, notes


@dataclass(frozen=True, slots=True)
class MergedRows:
    """What the rows of some learners come to. Their order in the file does not matter, but for the notes.

    `completions` may have several times of one lesson: a reset decides which of them is the earliest.
    """

    standings: list[Standing]
    earnings: list[Earning]
    completions: list[CompletionRow]
    notes: list[Note]


def merge(rows: Iterable[Row]) -> MergedRows:
    """Merge rows: the highest level wins, then the latest update; XP and completions are put together.

    Rows with the same content are one row. The completions are in the order of their times.
    """
    progress: dict[tuple[UserId, str], list[ProgressRow]] = defaultdict(list)
    merged = MergedRows([], [], [], [])
    for row in rows:
        if isinstance(row, ProgressRow):
            progress[row.user_id, row.specialization].append(row)
        else:
            merged.completions.append(row)
    for (user_id, specialization), group in progress.items():
        distinct = _distinct(group, lambda row: (row.level, row.happened_at, row.xp), merged.notes)
        merged.standings.append(Standing(user_id, specialization, distinct))
        merged.earnings.extend(row.earning for row in distinct if row.xp)
    merged.completions.sort(key=lambda row: (row.happened_at, row.line))
    return merged


def _distinct(
    group: Sequence[ProgressRow], content: Callable[[ProgressRow], object], notes: list[Note]
) -> list[ProgressRow]:
    kept: dict[object, ProgressRow] = {}
    for row in sorted(group, key=lambda row: row.line):
        first = kept.setdefault(content(row), row)
        if first is not row:
            notes.append(Note(row.line, Verdict.DUPLICATE, f"line {first.line} says the same"))
    return list(kept.values())


def _why(row: ProgressRow, winner: ProgressRow) -> str:
    if winner.level > row.level:
        won = f"line {winner.line} has the higher level {winner.level}"
    elif winner.happened_at > row.happened_at:
        won = f"line {winner.line} has the same level and is later"
    else:
        won = f"line {winner.line} has the same level and time, and more XP"
    return f"{won}; the XP of both count"


def _text(given: Mapping[str, object], name: str, characters_max: int) -> str:
    value = given.get(name)
    if value is None:
        raise RowRefused(f"{name} is missing")
    if not isinstance(value, str):
        raise RowRefused(f"{name} must be a text")
    if len(value) > characters_max:
        raise RowRefused(f"{name} has {len(value)} characters; {characters_max} are allowed")
    if "\0" in value:
        raise RowRefused(f"{name} has the character NUL")
    if not value.isprintable() and any("\ud800" <= character <= "\udfff" for character in value):
        raise RowRefused(f"{name} has half of a surrogate pair")
    return value


def _number(given: Mapping[str, object], name: str, number_max: int) -> int:
    value = given.get(name)
    if value is None:
        raise RowRefused(f"{name} is missing")
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= DIGITS_MAX:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise RowRefused(f"{name} {_shown(str(value))} is not a whole number of at least 0")
    if not 0 <= value <= number_max:
        raise RowRefused(f"{name} {_shown(str(value))} is not between 0 and {number_max}")
    return value


def _shown(text: str) -> str:
    """A text from the file, made harmless for a terminal."""
    return repr(text if len(text) <= SHOWN_CHARACTERS_MAX else text[:SHOWN_CHARACTERS_MAX] + "…")
