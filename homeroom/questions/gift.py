"""Moodle's GIFT format (https://docs.moodle.org/en/GIFT_format), read line by line.

The parsers on PyPI (pygiftparser, pygiftparserrgmf) are not maintained, tell no line of a fault, and stop at
the first one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from homeroom.questions.html_text import HtmlTooLargeError, text_of_html
from homeroom.questions.model import (
    SUBJECT_CHARACTERS_MAX,
    ItemRefusedError,
    Place,
    Question,
    QuestionFile,
    kept_id,
)

FORMAT = "gift"
BLOCK_CHARACTERS_MAX = 400_000
COMMENT_CHARACTERS_MAX = 2_000  # what is looked at for an id
GAP = "_____"

_CATEGORY = re.compile(r"\$CATEGORY:(?P<path>[^\n]*)", re.IGNORECASE)
_ID = re.compile(r"\[id:(?P<id>(?:\\.|[^\]\\])*)\]")
_TITLE = re.compile(r"\s*::(?P<title>(?:\\.|[^\\])*?)::", re.DOTALL)
_TEXT_FORMAT = re.compile(r"\s*\[(?P<format>html|moodle|plain|markdown)\]\s*", re.IGNORECASE)
_WEIGHT = re.compile(r"\s*%(?P<percent>-?\d{1,3}(?:\.\d{1,9})?)%")
_TRUTH = re.compile(r"\s*(?P<truth>T|TRUE|F|FALSE)\s*", re.IGNORECASE)
_ESCAPED = re.compile(r"\\(?P<character>[~=#{}:\\n])")


def read_gift(text: str) -> QuestionFile:
    """All questions of a GIFT file. Questions are separated by empty lines."""
    found = QuestionFile(FORMAT)
    subject: str | None = None
    for block in _blocks(text, found):
        category = _CATEGORY.match(block.text)
        if category is not None:
            subject = _subject(category["path"])
            continue
        place = Place(block.line)
        try:
            question, losses = _question(block, subject)
        except ItemRefusedError as refusal:
            found.reject(Place(refusal.line or block.line), refusal.reason)
        except HtmlTooLargeError:
            found.reject(place, "the question text is too long")
        else:
            found.add(question, place, losses)
    return found


@dataclass(frozen=True, slots=True)
class _Block:
    """The lines between two empty lines, without their comments."""

    line: int
    text: str
    identifier: str


def _blocks(text: str, found: QuestionFile) -> Iterator[_Block]:
    lines: list[str] = []
    first = 0
    identifier = ""
    size = 0
    for number, raw in enumerate([*re.split(r"\r\n|\r|\n", text), ""], start=1):
        line = raw.strip()
        if line.startswith("//"):
            marked = _ID.search(line, 0, COMMENT_CHARACTERS_MAX)
            identifier = _unescaped(marked["id"]) if marked is not None else identifier
        elif line:
            if not lines:
                first = number
            size += len(raw)
            if size <= BLOCK_CHARACTERS_MAX:
                lines.append(raw)
            if _CATEGORY.match(line) and len(lines) == 1:  # it may stand right above a question
                yield _Block(first, line, "")
                lines, size = [], 0
        elif lines:
            if size > BLOCK_CHARACTERS_MAX:
                found.reject(Place(first), f"has more than {BLOCK_CHARACTERS_MAX} characters")
            else:
                yield _Block(first, "\n".join(lines), identifier)
            lines, identifier, size = [], "", 0


def _subject(path: str) -> str | None:
    """The last part of a category's path; `//` stands for a slash in a name."""
    parts = [part.strip() for part in path.replace("//", "\0").split("/")]
    names = [
        part.replace("\0", "/") for part in parts if part and part not in {"$course$", "$system$", "top"}
    ]
    return names[-1][:SUBJECT_CHARACTERS_MAX] if names else None


def _question(block: _Block, subject: str | None) -> tuple[Question, list[str]]:
    text = block.text
    title = _TITLE.match(text)
    text = text[title.end() :] if title is not None else text
    text_format = _TEXT_FORMAT.match(text)
    is_html = text_format is not None and text_format["format"].lower() in {"html", "moodle"}
    text = text[text_format.end() :] if text_format is not None else text
    before, answers, after = _apart(text, block)
    losses: list[str] = []
    prompt = before.rstrip() + (f" {GAP} {after.lstrip()}" if after.strip() else "")
    prompt = _shown(prompt, losses, is_html=is_html)
    body, general, _ = _cut(answers, "####")
    if general.strip():
        losses.append("feedback")
    choices, accepted = _answers(body, losses, is_html=is_html)
    return Question(kept_id(block.identifier.strip()), prompt, choices, accepted, subject=subject), losses


def _apart(text: str, block: _Block) -> tuple[str, str, str]:
    """The text before the answers, the answers, and the text after them."""
    opened = _find(text, "{")
    closed = _find(text, "}", opened + 1) if opened >= 0 else _find(text, "}")
    if opened < 0:
        reason = "a closing brace has no opening one" if closed >= 0 else "is a description: it asks nothing"
        raise ItemRefusedError(reason)
    line = block.line + text[:opened].count("\n")
    if closed < 0:
        raise ItemRefusedError("the answers are not closed by a brace before the empty line", line)
    if _find(text, "{", opened + 1) >= 0:
        raise ItemRefusedError("has more than one pair of braces", line)
    if _find(text, "}", closed + 1) >= 0:
        raise ItemRefusedError("a closing brace has no opening one", line)
    return text[:opened], text[opened + 1 : closed], text[closed + 1 :]


def _answers(body: str, losses: list[str], *, is_html: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The choices and the accepted answers."""
    if not body.strip():
        raise ItemRefusedError("is an essay: no answer can be compared with it")
    if body.lstrip().startswith("#"):
        return (), _numbers(body.lstrip()[1:], losses)
    plain, feedback, _ = _cut(body, "#")
    truth = _TRUTH.fullmatch(plain)
    if truth is not None:
        if feedback.strip():
            losses.append("feedback")
        return ("True", "False"), ("True" if truth["truth"].upper().startswith("T") else "False",)
    options = list(_options(body, losses))
    shown = [(each, _shown(each.text, losses, is_html=is_html)) for each in options]
    if all(each.sign == "=" for each in options):
        if any(_find(each.text, "->") >= 0 for each in options):
            raise ItemRefusedError("is a matching question: it asks for several answers at once")
        return (), _distinct(_full(shown, losses))
    accepted = _full(shown, losses)
    if not accepted and any(each.percent > 0 for each in options):
        raise ItemRefusedError("asks for several answers at once")
    return tuple(text for _, text in shown), tuple(accepted)


@dataclass(frozen=True, slots=True)
class _Option:
    """One answer: `=` or `~`, how much of the question it is worth, and its text."""

    sign: str
    percent: Decimal
    text: str


def _options(body: str, losses: list[str]) -> Iterator[_Option]:
    starts = list(_places(body, "=~"))
    if not starts or body[: starts[0]].strip():
        raise ItemRefusedError("the answers do not begin with = or ~")
    for start, end in zip(starts, [*starts[1:], len(body)], strict=True):
        text, feedback, _ = _cut(body[start + 1 : end], "#")
        if feedback.strip():
            losses.append("feedback")
        weight = _WEIGHT.match(text)
        text = text[weight.end() :] if weight is not None else text
        sign = body[start]
        if sign == "~" and weight is None and not text.strip():
            continue  # Moodle also passes over an option without a text
        percent = Decimal(weight["percent"]) if weight is not None else Decimal(100 if sign == "=" else 0)
        yield _Option(sign, percent, text.strip())


def _full(shown: list[tuple[_Option, str]], losses: list[str]) -> list[str]:
    """The texts that are worth the whole question."""
    if any(0 < each.percent < 100 for each, _ in shown):
        losses.append("partial credit")
    return [text for each, text in shown if each.percent >= 100]


def _numbers(body: str, losses: list[str]) -> tuple[str, ...]:
    """The numbers that are right; a range cannot be compared as text."""
    options = (
        [option.text for option in _options(body, losses) if option.percent >= 100]
        if _find(body, "=") >= 0
        else [_cut(body, "#")[0].strip()]
    )
    accepted = []
    for option in options:
        number, tolerance, has_tolerance = _cut(option, ":")
        if ".." in option or (has_tolerance and _number(tolerance) != 0):
            raise ItemRefusedError("accepts a range of numbers: only exact answers can be compared")
        _number(number)
        accepted.append(number.strip())
    return _distinct(accepted)


def _number(text: str) -> Decimal:
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        raise ItemRefusedError(f"{text.strip()[:40]!r} is not a number") from None
    if not number.is_finite():
        raise ItemRefusedError(f"{text.strip()[:40]!r} is not a number")
    return number


def _distinct(texts: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _shown(text: str, losses: list[str], *, is_html: bool) -> str:
    text_format = _TEXT_FORMAT.match(text)  # an answer may have a format of its own
    if text_format is not None:
        is_html = text_format["format"].lower() in {"html", "moodle"}
        text = text[text_format.end() :]
    text = _unescaped(text.strip())
    if not is_html:
        return text
    reduced, lost = text_of_html(text)
    losses.extend(lost)
    return reduced


def _unescaped(text: str) -> str:
    def meant(match: re.Match[str]) -> str:
        return "\n" if match["character"] == "n" else match["character"]

    return _ESCAPED.sub(meant, text)


def _places(text: str, characters: str, start: int = 0) -> Iterator[int]:
    """Where one of the characters stands, and no backslash before it."""
    for match in re.compile(rf"\\.|[{re.escape(characters)}]", re.DOTALL).finditer(text, start):
        if not match[0].startswith("\\"):
            yield match.start()


def _find(text: str, wanted: str, start: int = 0) -> int:
    """Where the text first stands, and no backslash before it; -1 if nowhere."""
    for place in _places(text, wanted[0], start):
        if text.startswith(wanted, place):
            return place
    return -1


def _cut(text: str, at: str) -> tuple[str, str, bool]:
    place = _find(text, at)
    return (text, "", False) if place < 0 else (text[:place], text[place + len(at) :], True)
