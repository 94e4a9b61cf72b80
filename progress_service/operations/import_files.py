"""Files with existing progress, line by line: CSV with a header, or a JSON object on each line."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

import orjson

from progress_service.domain.imported_rows import COMPLETION_FIELDS, FIELDS, PROGRESS_FIELDS, RowRefused

LINE_BYTES_MAX = 64 * 1024
COLUMNS_MAX = 200
IGNORED_MAX = 50
NAME_CHARACTERS_SHOWN = 60
_UTF8_MARK = b"\xef\xbb\xbf"
_FOREIGN_MARKS = (b"\xff\xfe", b"\xfe\xff")
_REQUIRED = (
    frozenset(PROGRESS_FIELDS) - {"xp"},
    frozenset(COMPLETION_FIELDS),
)


class ImportRefused(Exception):  # noqa: N818 - as RowRefused
    """A file that cannot be read at all; the message tells why in plain words."""


class ReadLine(NamedTuple):
    """A line of the file: its values, or why it has none."""

    number: int
    values: Mapping[str, object] | RowRefused


Parse = Callable[[str], Mapping[str, object]]


@dataclass(slots=True)
class ImportFile:
    """Reads a file of any size, one line at a time.

    `bytes_read` is how far it is. `ignored` are the columns and names that no row knows. `ends_in_a_line` is
    False if the last line has no end: the file may have been cut off.
    """

    path: Path
    bytes_read: int = 0
    ignored: set[str] = field(default_factory=set)
    ends_in_a_line: bool = True

    def size_bytes(self) -> int:
        """The size of the file. Raises ImportRefused."""
        try:
            return self.path.stat().st_size
        except OSError as error:
            raise ImportRefused(f"{self.path} cannot be read: {error.strerror or error}") from error

    def lines(self) -> Iterator[ReadLine]:
        """Every line with a row. Raises ImportRefused."""
        try:
            with self.path.open("rb") as file:
                yield from self._lines(file)
        except OSError as error:
            raise ImportRefused(f"{self.path} cannot be read: {error.strerror or error}") from error

    def _lines(self, file: BinaryIO) -> Iterator[ReadLine]:
        raw = self._raw_lines(file)
        if self.path.suffix.lower() in {".jsonl", ".ndjson"}:
            parse: Parse = self._json
        elif self.path.suffix.lower() == ".csv":
            parse = self._csv(next(raw, (0, b""))[1])
        else:
            raise ImportRefused(f"{self.path.name} is neither .csv nor .jsonl")
        for number, line in raw:
            text = _text(line)
            if isinstance(text, RowRefused):
                yield ReadLine(number, text)
            elif text.strip():
                try:
                    yield ReadLine(number, parse(text))
                except RowRefused as refusal:
                    yield ReadLine(number, refusal)

    def _raw_lines(self, file: BinaryIO) -> Iterator[tuple[int, bytes | RowRefused]]:
        """The lines by their numbers, without a mark of UTF-8 before the first one."""
        number = 0
        while line := file.readline(LINE_BYTES_MAX + 1):
            number += 1
            self.bytes_read += len(line)
            self.ends_in_a_line = line.endswith(b"\n")
            if number == 1:
                if line.startswith(_FOREIGN_MARKS):
                    raise ImportRefused(f"{self.path.name} is UTF-16; save it as UTF-8")
                line = line.removeprefix(_UTF8_MARK)
            if len(line) <= LINE_BYTES_MAX:
                yield number, line
                continue
            while not self.ends_in_a_line and (rest := file.readline(LINE_BYTES_MAX)):
                self.bytes_read += len(rest)
                self.ends_in_a_line = rest.endswith(b"\n")
            yield number, RowRefused(f"is longer than {LINE_BYTES_MAX} bytes")

    def _csv(self, header: bytes | RowRefused) -> Parse:
        """The parser of the lines behind this header. Raises ImportRefused."""
        text = _text(header)
        if isinstance(text, RowRefused):
            raise ImportRefused(f"the header of {self.path.name} {text}")
        try:
            columns = [name.strip() for name in _fields(text)]
        except RowRefused as refusal:
            raise ImportRefused(f"the header of {self.path.name} {refusal}") from refusal
        known = FIELDS.intersection(columns)
        if len(columns) > COLUMNS_MAX or len(set(columns)) < len(columns):
            raise ImportRefused(f"the header of {self.path.name} has too many columns, or one of them twice")
        if not any(required <= known for required in _REQUIRED):
            raise ImportRefused(
                f"the header of {self.path.name} has neither {', '.join(PROGRESS_FIELDS)} "
                f"nor {', '.join(COMPLETION_FIELDS)}; it has {', '.join(sorted(known)) or 'none of them'}"
            )
        self._ignore(set(columns) - known)

        def parse(text: str) -> Mapping[str, object]:
            cells = _fields(text)
            if len(cells) != len(columns):
                raise RowRefused(f"has {len(cells)} cells under {len(columns)} columns")
            return {name: cell for name, cell in zip(columns, cells, strict=True) if name in known}

        return parse

    def _json(self, text: str) -> Mapping[str, object]:
        try:
            values = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            cut_off = "" if self.ends_in_a_line else "; the file may have been cut off"
            raise RowRefused(f"is not JSON ({error.msg}){cut_off}") from error
        if not isinstance(values, dict):
            raise RowRefused("is not a JSON object")
        if unknown := values.keys() - FIELDS:
            self._ignore(unknown)
        return values

    def _ignore(self, names: Iterable[str]) -> None:
        """Keep some of these names, shortened, for the summary."""
        room = IGNORED_MAX - len(self.ignored)
        self.ignored.update(name[:NAME_CHARACTERS_SHOWN] for name in islice(names, max(0, room)))


def _text(line: bytes | RowRefused) -> str | RowRefused:
    if isinstance(line, RowRefused):
        return line
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        return RowRefused(f"is not UTF-8 (byte {error.start + 1} of the line)")


def _fields(text: str) -> list[str]:
    """The cells of one line. A cell cannot go on in the next line: no value has a line break."""
    try:
        (cells,) = csv.reader([text], strict=True)
    except csv.Error as error:
        raise RowRefused(f"is not CSV ({error})") from error
    except ValueError as error:
        raise RowRefused("has no cells") from error
    return cells
