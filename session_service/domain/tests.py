"""Tests and their questions: what an administrator defines, and what a session asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    PRACTICE = "practice"
    MOCK = "mock"
    QUIZ = "quiz"
    COMPLIANCE = "compliance"
    INTERVIEW = "interview"


@dataclass(frozen=True, slots=True)
class Definition:
    """What an administrator says of a test. What is None has no limit, or is not asked for."""

    title: str
    kind: Kind
    difficulty: str
    question_count: int
    time_limit_seconds: int | None
    max_attempts: int | None
    credit_cost: int
    counts_toward_daily_limit: bool
    pass_score: float | None
    specialization: str | None
    xp: int | None
    min_engaged_seconds: int | None
    identity_checks: int | None


@dataclass(frozen=True, slots=True)
class Question:
    """A question as it was imported; without choices the answer is free text."""

    question_id: str
    prompt: str
    choices: tuple[str, ...]
    accepted: tuple[str, ...]
    difficulty: str | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class NamedTest:
    """A test as it stands now."""

    test_id: str
    definition: Definition


@dataclass(frozen=True, slots=True)
class ImportCounts:
    """What an import did, and how many questions the test has now."""

    created: int
    updated: int
    unchanged: int
    total: int


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Edition:
    """One revision of a test with its questions, in the order in which they are asked."""

    test_id: str
    revision: int
    definition: Definition
    questions: tuple[Question, ...]
    _accepted: dict[str, frozenset[str]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        accepted = {
            question.question_id: frozenset(map(normalized, question.accepted)) for question in self.questions
        }
        object.__setattr__(self, "_accepted", accepted)

    @property
    def total(self) -> int:
        return len(self.questions)

    def asks(self, question_id: str) -> bool:
        return question_id in self._accepted

    def accepts(self, question_id: str, choice: str) -> bool:
        """Whether the choice is a right answer; raises KeyError for a question that is not asked."""
        return normalized(choice) in self._accepted[question_id]


def normalized(choice: str) -> str:
    """An answer as it is compared: without surrounding white space, in lower case."""
    return choice.strip().lower()
