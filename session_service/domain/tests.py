"""Tests and their questions: what an administrator defines, and what a session asks."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from chassis.errors import invalid_field

QUESTIONS_PER_TEST_MAX = 20_000

# A session shows all its questions, and no public answer is larger than 4 MiB. The difference is left for the
# session itself.
SHOWN_BYTES_MAX = 3_670_016
# Bound the memory of a process, which keeps the accepted answers of a test beside its questions, and all
# questions from which it draws.
ACCEPTED_BYTES_MAX = 4_194_304
POOL_BYTES_MAX = 33_554_432


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
    """How large the questions of a session can be at most, and all that it draws from, in bytes of JSON."""

    shown_bytes: int
    accepted_bytes: int
    pool_bytes: int

    @classmethod
    def of(cls, questions: Sequence[tuple[int, int]], question_count: int) -> AskedSize:
        """The size of the largest draw of so many questions; each has shown and accepted bytes."""

        def largest(sizes: Iterable[int]) -> int:
            return sum(heapq.nlargest(question_count, sizes))

        return cls(
            shown_bytes=largest(shown for shown, _ in questions),
            accepted_bytes=largest(accepted for _, accepted in questions),
            pool_bytes=sum(shown + accepted for shown, accepted in questions),
        )

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
        if self.pool_bytes > POOL_BYTES_MAX:
            raise invalid_field(
                field_at_fault,
                f"all questions of a test may have {POOL_BYTES_MAX} bytes with their accepted answers, "
                f"these would have {self.pool_bytes}",
            )


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Edition:
    """One revision of a test with its questions.

    `questions` are the first ones, as many as a session asks, in the order in which they were imported. The
    `rest` are those that a session only asks when they are drawn. Both together are the pool.
    """

    test_id: str
    revision: int
    definition: Definition
    questions: tuple[Question, ...]
    rest: tuple[Question, ...] = ()
    pool: tuple[Question, ...] = field(init=False, repr=False)
    _places: dict[str, int] = field(init=False, repr=False)
    _accepted: dict[str, frozenset[str]] = field(init=False, repr=False)
    _by_difficulty: dict[str, tuple[int, ...]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        pool = self.questions + self.rest
        accepted = {question.question_id: _right_answers(question) for question in pool}
        difficulties = [None if each.difficulty is None else normalized(each.difficulty) for each in pool]
        by_difficulty = {
            wanted: tuple(place for place, found in enumerate(difficulties) if found in {wanted, None})
            for wanted in set(difficulties)
            if wanted is not None
        }
        object.__setattr__(self, "pool", pool)
        object.__setattr__(self, "_places", {each.question_id: place for place, each in enumerate(pool)})
        object.__setattr__(self, "_accepted", accepted)
        object.__setattr__(self, "_by_difficulty", by_difficulty)

    @property
    def total(self) -> int:
        """How many questions a session asks that draws none."""
        return len(self.questions)

    def place_of(self, question_id: str) -> int | None:
        """Where the question is in the pool; None when it is not there."""
        return self._places.get(question_id)

    def places_of_difficulty(self, difficulty: str) -> Sequence[int]:
        """The places of the questions of this difficulty, and of those without one; see `draw_paper`."""
        if not self._by_difficulty:
            return range(len(self.pool))
        found = self._by_difficulty.get(normalized(difficulty))
        if found is not None:
            return found
        return [place for place, question in enumerate(self.pool) if question.difficulty is None]

    def accepts(self, question_id: str, choice: str) -> bool:
        """Whether the choice is a right answer; raises KeyError for a question that is not in the pool.

        A choice is compared exactly, free text without surrounding white space and case.
        """
        free_text = not self.pool[self._places[question_id]].choices
        return (normalized(choice) if free_text else choice) in self._accepted[question_id]


def _right_answers(question: Question) -> frozenset[str]:
    """What a learner's answer is compared with: normalized texts, or for a question with choices exact ones.

    An accepted text that is no choice as it is spelled stands for the choices that differ from it only in
    surrounding white space and case: imports before this rule were not checked for it.
    """
    if not question.choices:
        return frozenset(map(normalized, question.accepted))
    misspelled = {normalized(text) for text in question.accepted if text not in question.choices}
    meant = (choice for choice in question.choices if normalized(choice) in misspelled)
    return frozenset((*question.accepted, *meant))


def normalized(choice: str) -> str:
    """Free text as it is compared: without surrounding white space, in lower case."""
    return choice.strip().lower()
