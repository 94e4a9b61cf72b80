"""Tests and their questions: what an administrator defines, and what a session asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from chassis.errors import invalid_field

QUESTIONS_PER_TEST_MAX = 20_000

# A session shows all its questions, and no public answer is larger than 4 MiB. The difference is left for the
# session itself.
SHOWN_BYTES_MAX = 3_670_016
# Bounds the memory of a process, which keeps the accepted answers of a test beside its questions.
ACCEPTED_BYTES_MAX = 4_194_304


class Kind(StrEnum):
    PRACTICE = "practice"
    MOCK = "mock"
    QUIZ = "quiz"
    COMPLIANCE = "compliance"
    INTERVIEW = "interview"


@dataclass(frozen=True, slots=True)
class Definition:
    """An administrator's definition of a test. A field that is None sets no limit and no requirement."""

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


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What an import changes: questions to add, and questions whose content becomes another."""

    created: Sequence[Question]
    updated: Sequence[Question]
    counts: ImportCounts


def plan_import(questions: Sequence[Question], known: Mapping[str, Question], total: int) -> ImportPlan:
    """Compares the imported questions with those that the test has.

    Args:
        questions: what is imported; no id comes twice.
        known: the questions of the test that have one of these ids.
        total: how many questions the test has.

    Raises:
        ServiceError: INVALID_ARGUMENT, when the test would have more than QUESTIONS_PER_TEST_MAX questions.
    """
    created = [question for question in questions if question.question_id not in known]
    updated = [
        question
        for question in questions
        if question.question_id in known and known[question.question_id] != question
    ]
    total += len(created)
    if total > QUESTIONS_PER_TEST_MAX:
        raise invalid_field(
            "questions", f"a test may have {QUESTIONS_PER_TEST_MAX} questions, this would make {total}"
        )
    unchanged = len(questions) - len(created) - len(updated)
    return ImportPlan(created, updated, ImportCounts(len(created), len(updated), unchanged, total))


def require_distinct(questions: Sequence[Question]) -> None:
    """Raises ServiceError with INVALID_ARGUMENT when two of the questions have the same id."""
    seen: set[str] = set()
    for place, question in enumerate(questions):
        if question.question_id in seen:
            raise invalid_field(f"questions[{place}].questionId", f"{question.question_id!r} comes twice")
        seen.add(question.question_id)


@dataclass(frozen=True, slots=True)
class AskedSize:
    """How large the questions of a session are, in bytes of JSON."""

    shown_bytes: int
    accepted_bytes: int

    def require_bounded(self, field_at_fault: str) -> None:
        """Raises ServiceError with INVALID_ARGUMENT, which names the field, when a session is too large."""
        if self.shown_bytes > SHOWN_BYTES_MAX:
            raise invalid_field(
                field_at_fault,
                f"the questions of a session may have {SHOWN_BYTES_MAX} bytes, "
                f"these would have {self.shown_bytes}",
            )
        if self.accepted_bytes > ACCEPTED_BYTES_MAX:
            raise invalid_field(
                field_at_fault,
                f"the accepted answers of a session may have {ACCEPTED_BYTES_MAX} bytes, "
                f"these would have {self.accepted_bytes}",
            )


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
