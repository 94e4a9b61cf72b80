"""What every format is read into: questions, the places that they come from, and what is not taken over."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

# The bounds of the contract; a test compares them.
QUESTION_ID_CHARACTERS_MAX = 128
PROMPT_CHARACTERS_MAX = 10_000
CHOICES_MAX = 50
ACCEPTED_MAX = 500
TEXT_CHARACTERS_MAX = 2_000
DIFFICULTY_CHARACTERS_MAX = 50
SUBJECT_CHARACTERS_MAX = 100

# What a file may hold before anything of it is read.
FILE_BYTES_MAX = 64 * 1024 * 1024
QUESTIONS_PER_FILE_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Question:
    """A question as Homeroom keeps it. Without choices, the answer is free text."""

    question_id: str
    prompt: str
    choices: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()
    difficulty: str | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: a line of the file, or an item file of a package (and a line in it)."""

    line: int | None = None
    item: str = ""

    def __str__(self) -> str:
        parts = [self.item, "" if self.line is None else f"line {self.line}"]
        return ", ".join(filter(None, parts)) or "the file"


@dataclass(frozen=True, slots=True)
class Located:
    """A question that can be imported, where it comes from, and what of it is lost."""

    question: Question
    place: Place
    losses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejection:
    """A part of the file that cannot be imported, and why, in plain words."""

    place: Place
    reason: str


@dataclass(slots=True)
class QuestionFile:
    """What a file holds: questions in their order, and what cannot be imported."""

    format: str
    questions: list[Located] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    _places: dict[str, Place] = field(default_factory=dict)

    def reject(self, place: Place, reason: str) -> None:
        self.rejections.append(Rejection(place, reason))

    def add(self, question: Question, place: Place, losses: Sequence[str] = ()) -> None:
        """Take the question if Homeroom can keep it, otherwise the reason why it cannot.

        A question without an id gets one from its content, so that reading the file again gives the same id.
        """
        if not question.question_id:
            question = replace(question, question_id=content_id(question))
        reason = problem_of(question)
        if reason is None and question.question_id in self._places:
            reason = f"repeats the question of {self._places[question.question_id]}"
        if reason is None and len(self.questions) >= QUESTIONS_PER_FILE_MAX:
            reason = f"a test may have {QUESTIONS_PER_FILE_MAX} questions"
        if reason is not None:
            self.reject(place, reason)
            return
        self._places[question.question_id] = place
        self.questions.append(Located(question, place, tuple(dict.fromkeys(losses))))


class FileRefusedError(Exception):
    """Nothing of the file can be read; the message says why."""


class ItemRefusedError(Exception):
    """One question of the file cannot be read; the message says why."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


def content_id(question: Question) -> str:
    """An id that the content alone decides: the prompt, the choices and the accepted answers."""
    content = json.dumps([question.prompt, question.choices, question.accepted])
    return "q-" + hashlib.sha256(content.encode()).hexdigest()[:24]


def kept_id(text: str) -> str:
    """The identifier of a file as a question id; empty if it cannot be one."""
    return text if text.strip() and len(text) <= QUESTION_ID_CHARACTERS_MAX and _storable(text) else ""


def problem_of(question: Question) -> str | None:
    """Why Homeroom cannot keep the question, in plain words; None if it can."""
    for check in (_problem_of_texts, _problem_of_answers):
        problem = check(question)
        if problem is not None:
            return problem
    return None


def _problem_of_texts(question: Question) -> str | None:
    if not question.prompt.strip():
        return "has no question text"
    bounded = [
        ("the question id", question.question_id, QUESTION_ID_CHARACTERS_MAX),
        ("the question text", question.prompt, PROMPT_CHARACTERS_MAX),
        ("the difficulty", question.difficulty or "", DIFFICULTY_CHARACTERS_MAX),
        ("the subject", question.subject or "", SUBJECT_CHARACTERS_MAX),
        *(("a choice", choice, TEXT_CHARACTERS_MAX) for choice in question.choices),
        *(("an accepted answer", answer, TEXT_CHARACTERS_MAX) for answer in question.accepted),
    ]
    for name, text, longest in bounded:
        if len(text) > longest:
            return f"{name} has {len(text)} characters; at most {longest} are possible"
        if not _storable(text):
            return f"{name} has a character that cannot be stored (NUL, or half of a pair)"
    return None


def _problem_of_answers(question: Question) -> str | None:
    if not question.accepted:
        return "has no right answer"
    if len(question.accepted) > ACCEPTED_MAX:
        return f"has {len(question.accepted)} accepted answers; at most {ACCEPTED_MAX} are possible"
    if not question.choices:
        return None
    if len(question.choices) > CHOICES_MAX:
        return f"has {len(question.choices)} choices; at most {CHOICES_MAX} are possible"
    if len(set(question.choices)) < len(question.choices):
        return "two choices have the same text"
    compared = {_compared(choice) for choice in question.choices}
    missing = next((answer for answer in question.accepted if _compared(answer) not in compared), None)
    return None if missing is None else f"the right answer {shortened(missing)} is not one of the choices"


def shortened(text: str, characters_max: int = 60) -> str:
    """A text as a message shows it: quoted, on one line, and not too long."""
    line = " ".join(text.split())
    visible = "".join(character for character in line if unicodedata.category(character)[0] != "C")
    return repr(visible if len(visible) <= characters_max else visible[: characters_max - 1] + "…")


def _compared(text: str) -> str:
    """As the service compares an accepted text with the choices, if no choice is spelled exactly so."""
    return text.strip().lower()


def _storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text
