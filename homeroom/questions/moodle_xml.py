"""Moodle's XML format (https://docs.moodle.org/en/Moodle_XML_format): a `quiz` of questions."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from homeroom.questions.html_text import HtmlTooLargeError, text_of_html
from homeroom.questions.model import (
    SUBJECT_CHARACTERS_MAX,
    FileRefusedError,
    ItemRefusedError,
    Place,
    Question,
    QuestionFile,
    kept_id,
)
from homeroom.questions.xml_tree import Element

FORMAT = "moodle"
FULL = Decimal(100)

_UNREADABLE = {
    "essay": "is an essay: no answer can be compared with it",
    "description": "is a description: it asks nothing",
    "matching": "is a matching question: it asks for several answers at once",
    "cloze": "is an embedded-answers question (cloze): it asks for several answers at once",
    "ddwtos": "is a drag-and-drop question: it asks for several answers at once",
    "ddimageortext": "is a drag-and-drop question: it needs an image",
    "gapselect": "asks for several answers at once",
    "calculated": "is a calculated question: its numbers change with each attempt",
    "calculatedmulti": "is a calculated question: its numbers change with each attempt",
    "calculatedsimple": "is a calculated question: its numbers change with each attempt",
}


def read_moodle_xml(quiz: Element) -> QuestionFile:
    """All questions of a quiz.

    Raises:
        FileRefusedError: the root is no quiz.
    """
    if quiz.name != "quiz":
        raise FileRefusedError(f"the root element is {quiz.name!r}, not quiz")
    found = QuestionFile(FORMAT)
    subject: str | None = None
    for element in quiz.elements("question"):
        place = Place(element.line)
        if element.get("type") == "category":
            subject = _subject(_text(element.first("category")))
            continue
        try:
            question, losses = _question(element, subject)
        except ItemRefusedError as refusal:
            found.reject(place, refusal.reason)
        except HtmlTooLargeError:
            found.reject(place, "a text is too long")
        else:
            found.add(question, place, losses)
    return found


def _question(element: Element, subject: str | None) -> tuple[Question, list[str]]:
    kind = element.get("type").lower()
    losses: list[str] = []
    prompt = _shown(element.first("questiontext"), losses)
    feedback = [*element.elements("generalfeedback"), *element.elements("correctfeedback")]
    if any(_text(each).strip() for each in feedback) or any(
        _text(each.first("feedback")).strip() for each in element.elements("answer")
    ):
        losses.append("feedback")
    if next(element.all("file"), None) is not None:
        losses.append("an attached file")
    if next(element.elements("hint"), None) is not None:
        losses.append("hints")
    choices, accepted = _answers(kind, element, losses)
    identifier = kept_id(_text_or_content(element.first("idnumber")).strip())
    return Question(identifier, prompt, choices, accepted, subject=subject), losses


def _answers(kind: str, element: Element, losses: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The choices and the accepted answers."""
    if kind in _UNREADABLE:
        raise ItemRefusedError(_UNREADABLE[kind])
    answers = [(_fraction(each), each) for each in element.elements("answer")]
    if kind == "multichoice":
        if _text_or_content(element.first("single")).strip().lower() not in {"true", "1", ""}:
            raise ItemRefusedError("asks for several answers at once")
        shown = [(worth, _shown(each, losses)) for worth, each in answers]
        return tuple(text for _, text in shown), _full(shown, losses)
    if kind == "truefalse":
        shown = [(worth, _text(each).strip().capitalize()) for worth, each in answers]
        return ("True", "False"), _full(shown, losses)
    if kind == "shortanswer":
        return (), _full(_texts(element, answers, losses), losses)
    if kind == "numerical":
        return (), _full(_numbers(answers), losses)
    raise ItemRefusedError(f"has the type {kind!r}, which is not known" if kind else "has no type")


def _texts(
    element: Element, answers: list[tuple[Decimal, Element]], losses: list[str]
) -> list[tuple[Decimal, str]]:
    """The answers that may be typed."""
    if _text_or_content(element.first("usecase")).strip() == "1":
        losses.append("upper and lower case (answers are compared without)")
    typed = [(worth, _text(each).strip()) for worth, each in answers]
    if any("*" in text.replace("\\*", "") for worth, text in typed if worth >= FULL):
        raise ItemRefusedError("accepts a pattern with *: only exact answers can be compared")
    return [(worth, text.replace("\\*", "*")) for worth, text in typed]


def _numbers(answers: list[tuple[Decimal, Element]]) -> list[tuple[Decimal, str]]:
    """The numbers that may be typed."""
    typed = []
    for worth, each in answers:
        number = _text(each).strip()
        if worth >= FULL:
            _number(number)
            if _number(_text_or_content(each.first("tolerance")) or "0"):
                raise ItemRefusedError("accepts a range of numbers: only exact answers can be compared")
        typed.append((worth, number))
    return typed


def _full(shown: list[tuple[Decimal, str]], losses: list[str]) -> tuple[str, ...]:
    """The texts that are worth the whole question."""
    if any(0 < worth < FULL for worth, _ in shown):
        losses.append("partial credit")
    return tuple(dict.fromkeys(text for worth, text in shown if worth >= FULL))


def _fraction(answer: Element) -> Decimal:
    return _number(answer.get("fraction") or "0")


def _number(text: str) -> Decimal:
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        raise ItemRefusedError(f"{text.strip()[:40]!r} is not a number") from None
    if not number.is_finite():
        raise ItemRefusedError(f"{text.strip()[:40]!r} is not a number")
    return number


def _shown(element: Element | None, losses: list[str]) -> str:
    """The text of an element as its format says; `html` if it says none, as in Moodle."""
    text = _text(element)
    if element is None or element.get("format") in {"plain_text", "markdown"}:
        return text.strip()
    reduced, lost = text_of_html(text)
    losses.extend(lost)
    return reduced


def _text(element: Element | None) -> str:
    """What stands in the `text` of an element."""
    inner = element.first("text") if element is not None else None
    return inner.text() if inner is not None else ""


def _text_or_content(element: Element | None) -> str:
    if element is None:
        return ""
    return _text(element) or element.text()


def _subject(path: str) -> str | None:
    """The last part of a category's path; `//` stands for a slash in a name."""
    parts = [part.strip() for part in path.replace("//", "\0").split("/")]
    above = {"$course$", "$system$", "$module$", "top"}
    names = [part.replace("\0", "/") for part in parts if part and part not in above]
    return names[-1][:SUBJECT_CHARACTERS_MAX] if names else None
