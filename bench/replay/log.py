"""The practice log: questions, and what each learner answered, session by session."""

from __future__ import annotations

import csv
import gzip
import json
import random
import uuid
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.replay.errors import ReplayError

ANSWERS_FILE = "answers.csv.gz"
QUESTIONS_FILE = "questions.jsonl"
COLUMNS = ["learner", "session", "occurred_at", "question_id", "choice", "correct"]
KEYS = uuid.UUID("0b8a4b0e-2f0c-4f7e-8a44-5f1f6f6a7c55")

Question = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LoggedAnswer:
    """One answer: `attempt` says how many times this question was answered in this session, this included."""

    question_id: str
    choice: str
    occurred_at: str
    correct: bool
    attempt: int


@dataclass(frozen=True, slots=True)
class LoggedSession:
    """One sitting of one learner, in the order of time."""

    learner: str
    name: str
    answers: tuple[LoggedAnswer, ...]

    def key(self, step: str) -> str:
        """The idempotency key of a step: the same in every play of this log."""
        return str(uuid.uuid5(KEYS, f"{self.learner}\n{self.name}\n{step}"))

    def shuffled(self, seed: int) -> LoggedSession:
        """The same answers in another order, counted in that order: another log of the same sitting."""
        answers = list(self.answers)
        self.chance(seed, "order").shuffle(answers)
        attempts: Counter[str] = Counter()
        counted: list[LoggedAnswer] = []
        for answer in answers:
            attempts[answer.question_id] += 1
            counted.append(replace(answer, attempt=attempts[answer.question_id]))
        return replace(self, answers=tuple(counted))

    def chance(self, seed: int, purpose: str) -> random.Random:
        """A source of chance for this session: the same in every play with this seed."""
        return random.Random(f"{seed}\n{self.learner}\n{self.name}\n{purpose}")

    @property
    def questions_answered(self) -> int:
        return len({answer.question_id for answer in self.answers})

    @property
    def right_at_last(self) -> int:
        """How many questions have a right latest answer."""
        latest = {answer.question_id: answer.correct for answer in self.answers}
        return sum(latest.values())


@dataclass(frozen=True, slots=True)
class LoggedLearner:
    name: str
    sessions: tuple[LoggedSession, ...]

    def renamed(self, name: str) -> LoggedLearner:
        return LoggedLearner(name, tuple(replace(session, learner=name) for session in self.sessions))


@dataclass(frozen=True, slots=True)
class PracticeLog:
    """Learners come in the order in which they first appear."""

    questions: tuple[Question, ...]
    learners: tuple[LoggedLearner, ...]

    @property
    def session_count(self) -> int:
        return sum(len(learner.sessions) for learner in self.learners)

    @property
    def answer_count(self) -> int:
        return sum(len(session.answers) for learner in self.learners for session in learner.sessions)

    def first(self, learners: int) -> PracticeLog:
        """The same log with only so many learners."""
        return PracticeLog(self.questions, self.learners[:learners])

    def shuffled(self, seed: int) -> PracticeLog:
        """The same log with the answers of each session in a random order."""
        learners = (
            LoggedLearner(learner.name, tuple(session.shuffled(seed) for session in learner.sessions))
            for learner in self.learners
        )
        return PracticeLog(self.questions, tuple(learners))

    def with_new_learners(self, mark: str) -> PracticeLog:
        """The same log, played by learners of other names: to the server it is another log."""
        return PracticeLog(
            self.questions, tuple(learner.renamed(f"{learner.name}-{mark}") for learner in self.learners)
        )

    def and_also(self, other: PracticeLog) -> PracticeLog:
        """The learners of both; the questions are the same."""
        return PracticeLog(self.questions, (*self.learners, *other.learners))


def read_log(folder: Path) -> PracticeLog:
    """Read `questions.jsonl` and `answers.csv.gz`; raises ReplayError naming the file and the line."""
    try:
        questions = tuple(_read_questions(folder / QUESTIONS_FILE))
        with gzip.open(folder / ANSWERS_FILE, "rt", encoding="utf-8", newline="") as file:
            learners = _read_learners(csv.reader(file), {question["questionId"] for question in questions})
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise ReplayError(f"the practice log in {folder} cannot be read: {error}") from error
    return PracticeLog(questions, learners)


def _read_questions(path: Path) -> Iterator[Question]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                question = json.loads(line)
                missing = {"questionId", "prompt", "choices", "accepted"} - question.keys()
            except (json.JSONDecodeError, AttributeError) as error:
                raise ReplayError(f"{path.name}, line {number}: not a JSON object") from error
            if missing:
                raise ReplayError(f"{path.name}, line {number}: without {', '.join(sorted(missing))}")
            yield question


@dataclass(slots=True)
class _Sitting:
    """A session while it is read."""

    learner: str
    name: str
    answers: list[LoggedAnswer] = field(default_factory=list)
    attempts: Counter[str] = field(default_factory=Counter)

    def add(self, occurred_at: str, question_id: str, choice: str, correct: str) -> None:
        self.attempts[question_id] += 1
        self.answers.append(
            LoggedAnswer(question_id, choice, occurred_at, correct == "1", self.attempts[question_id])
        )

    def finished(self) -> LoggedSession:
        return LoggedSession(self.learner, self.name, tuple(self.answers))


def _read_learners(rows: Iterable[list[str]], questions: set[str]) -> tuple[LoggedLearner, ...]:
    sittings: dict[str, dict[str, _Sitting]] = {}
    for number, row in enumerate(rows, start=1):
        if number == 1:
            if row != COLUMNS:
                raise ReplayError(f"{ANSWERS_FILE}: the columns are not {', '.join(COLUMNS)}")
            continue
        problem = _problem(row, questions)
        if problem:
            raise ReplayError(f"{ANSWERS_FILE}, line {number}: {problem}")
        learner, session, *answer = row
        theirs = sittings.setdefault(learner, {})
        if session not in theirs:
            theirs[session] = _Sitting(learner, session)
        elif session != next(reversed(theirs)):
            raise ReplayError(
                f"{ANSWERS_FILE}, line {number}: {learner} goes on with {session} after a later one"
            )
        theirs[session].add(*answer)
    return tuple(
        LoggedLearner(learner, tuple(sitting.finished() for sitting in theirs.values()))
        for learner, theirs in sittings.items()
    )


def _problem(row: list[str], questions: set[str]) -> str | None:
    if len(row) != len(COLUMNS):
        return f"{len(row)} columns instead of {len(COLUMNS)}"
    if row[3] not in questions:
        return f"there is no question {row[3]!r}"
    if row[5] not in {"0", "1"}:
        return f"correct is {row[5]!r}, neither 0 nor 1"
    return None
