"""CSV: one row for each question, with a header that names the columns."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence

from homeroom.questions.model import (
    FileRefusedError,
    ItemRefusedError,
    Place,
    Question,
    QuestionFile,
    kept_id,
)

FORMAT = "csv"
COLUMNS = ("question_id", "prompt", "choices", "accepted", "difficulty", "subject")
COLUMNS_MAX = 600
HEADER_CHARACTERS_MAX = 50_000
FIELD_CHARACTERS_MAX = 2_000_000

_NAMES = {
    **dict.fromkeys(("questionid", "id", "identifier"), "question_id"),
    **dict.fromkeys(("prompt", "question", "questiontext", "text"), "prompt"),
    **dict.fromkeys(("choices", "options"), "choices"),
    **dict.fromkeys(("accepted", "answer", "answers", "correct", "correctanswer"), "accepted"),
    **dict.fromkeys(("difficulty", "level"), "difficulty"),
    **dict.fromkeys(("subject", "category", "topic"), "subject"),
}
_NUMBERED = re.compile(r"(?P<name>choice|option|accepted|answer)(?P<number>\d{1,3})")
_LISTS = {"choice": "choices", "option": "choices", "accepted": "accepted", "answer": "accepted"}
# A spreadsheet takes such a text for a formula, so it is written with an apostrophe before it.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_GUARDED = re.compile(r"'+[=+\-@\t\r]")
_PART = re.compile(r"(?:[^\\|]|\\.)*", re.DOTALL)
_EMPTY = "\\e"


def header_of(line: str) -> Mapping[int, str]:
    """What the columns of a header line mean, by their places; empty if it is no header of questions."""
    if len(line) > HEADER_CHARACTERS_MAX:
        return {}
    for delimiter in ",;\t":
        try:
            names = next(csv.reader([line], delimiter=delimiter), [])
        except csv.Error:
            continue
        found = {
            place: meaning for place, name in enumerate(names[:COLUMNS_MAX]) if (meaning := _meaning(name))
        }
        if "prompt" in found.values() and len(found) > 1:
            return found
    return {}


def read_csv(text: str) -> QuestionFile:
    """All rows. Comma, semicolon or tab separate the columns, as the header does.

    Raises:
        FileRefusedError: there is no header with a column for the prompt, and one for the accepted answers.
    """
    first = re.split(r"\r\n|\r|\n", text, maxsplit=1)[0]
    columns = header_of(first)
    if not columns:
        raise FileRefusedError(f"the first line must name the columns: {', '.join(COLUMNS)}")
    if not any(meaning.split()[0] == "accepted" for meaning in columns.values()):
        raise FileRefusedError("no column has the accepted answers: name it `accepted`")
    found = QuestionFile(FORMAT)
    csv.field_size_limit(FIELD_CHARACTERS_MAX)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(first), strict=True)
    line = 1
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return found
        except csv.Error as error:
            found.reject(Place(line), f"cannot be read as CSV from here on: {error}")
            return found
        place, line = Place(line), rows.line_num + 1
        if place.line == 1 or not any(cell.strip() for cell in row):
            continue
        try:
            found.add(_question(columns, row), place)
        except ItemRefusedError as refusal:
            found.reject(place, refusal.reason)


def write_csv(questions: Iterable[Question]) -> bytes:
    """The questions with all columns, in UTF-8 with a byte order mark, as spreadsheets need it."""
    target = io.StringIO(newline="")
    writer = csv.writer(target, quoting=csv.QUOTE_ALL)
    writer.writerow(COLUMNS)
    for question in questions:
        cells = (
            question.question_id,
            question.prompt,
            _joined(question.choices),
            _joined(question.accepted),
            question.difficulty or "",
            question.subject or "",
        )
        writer.writerow([_guarded(cell) for cell in cells])
    return target.getvalue().encode("utf-8-sig")


def _delimiter(header: str) -> str:
    return max(",;\t", key=lambda delimiter: len(next(csv.reader([header], delimiter=delimiter), [])))


def _meaning(name: str) -> str:
    """What a column is for; `choices 3` for the third of several columns; empty if nothing is known of it."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    numbered = _NUMBERED.fullmatch(plain)
    if numbered is not None:
        return f"{_LISTS[numbered['name']]} {int(numbered['number'])}"
    return _NAMES.get(plain, "")


def _question(columns: Mapping[int, str], row: Sequence[str]) -> Question:
    cells: dict[str, str] = {}
    numbered: dict[str, dict[int, str]] = {"choices": {}, "accepted": {}}
    for place, meaning in columns.items():
        cell = _unguarded(row[place]) if place < len(row) else ""
        name, _, number = meaning.partition(" ")
        if not number:
            cells[name] = cell
        elif cell:
            numbered[name][int(number)] = cell
    if len(row) > max(columns) + 1 and any(cell.strip() for cell in row[COLUMNS_MAX:]):
        raise ItemRefusedError("has more cells than the header has columns")

    def listed(name: str) -> tuple[str, ...]:
        return (*_parted(cells.get(name, "")), *(text for _, text in sorted(numbered[name].items())))

    return Question(
        question_id=kept_id(cells.get("question_id", "")),
        prompt=cells["prompt"],
        choices=listed("choices"),
        accepted=listed("accepted"),
        difficulty=cells.get("difficulty") or None,
        subject=cells.get("subject") or None,
    )


def _joined(texts: Sequence[str]) -> str:
    """Several texts in one cell, with `|` between them; a backslash before `|` and backslash."""
    if list(texts) == [""]:
        return _EMPTY
    return "|".join(text.replace("\\", "\\\\").replace("|", "\\|") for text in texts)


def _parted(cell: str) -> tuple[str, ...]:
    if not cell:
        return ()
    if cell == _EMPTY:
        return ("",)
    parts: list[str] = []
    start = 0
    while start <= len(cell):
        match = _PART.match(cell, start)
        end = match.end() if match is not None else start
        if end < len(cell) and cell[end] == "\\":  # a backslash at the very end stands for itself
            end = len(cell)
        parts.append(re.sub(r"\\([\\|])", r"\1", cell[start:end]))
        start = end + 1
    return tuple(parts)


def _guarded(cell: str) -> str:
    return f"'{cell}" if _FORMULA.match(cell) else cell


def _unguarded(cell: str) -> str:
    return cell[1:] if _GUARDED.match(cell) else cell
