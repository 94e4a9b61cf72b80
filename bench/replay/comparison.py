"""The log against the server: every count, every verdict, every session."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.replay.books import Books
from bench.replay.log import LoggedAnswer, LoggedLearner, LoggedSession, PracticeLog
from bench.replay.play import Play, SessionSeen
from bench.replay.seen import Seen
from bench.replay.tally import FIGURES, Tally, tally_of_log, total

SCORE_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Difference:
    """A fact on which the server differs from the log, or from the first play."""

    learner: str
    where: str
    what: str
    expected: Any
    found: Any

    def __str__(self) -> str:
        return f"{self.learner} {self.where}: {self.what} should be {self.expected}, is {self.found}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Totals over all learners, by source, and every difference."""

    log: Tally
    answers_of_gateway: Tally
    listed_sessions: Tally
    stats: Tally
    differences: Sequence[Difference]


def compare(log: PracticeLog, play: Play, books: Mapping[str, Books], *, xp_per_session: int) -> Comparison:
    """Compare learner by learner, session by session, answer by answer."""
    expected = {
        learner.name: tally_of_log(learner, xp_per_session=xp_per_session) for learner in log.learners
    }
    played = {name: tally_of_play(play.sessions[name]) for name in expected}
    listed = {name: tally_of_sessions(books[name].sessions) for name in expected}
    stats = {name: tally_of_stats(books[name].stats) for name in expected}
    differences: list[Difference] = []
    for learner in log.learners:
        name = learner.name
        differences += _steps(learner, play.sessions[name], questions=len(log.questions))
        differences += _tallies(name, "in the answers", expected[name], played[name])
        differences += _sessions(learner, play.sessions[name], books[name].sessions, len(log.questions))
        differences += _tallies(name, "in /v1/sessions", expected[name], listed[name])
        differences += _tallies(name, "in /v1/stats", expected[name], stats[name])
    return Comparison(
        log=total(expected.values()),
        answers_of_gateway=total(played.values()),
        listed_sessions=total(listed.values()),
        stats=total(stats.values()),
        differences=differences,
    )


def compare_plays(
    first: Play, second: Play, books_before: Mapping[str, Books], books_after: Mapping[str, Books]
) -> list[Difference]:
    """What a second play with the same keys changed, or answered differently from the first."""
    differences: list[Difference] = []
    for learner, sessions in first.sessions.items():
        for number, (one, other) in enumerate(zip(sessions, second.sessions[learner], strict=True), start=1):
            differences += _replays(learner, f"session {number}", one, other)
        before, after = books_before[learner], books_after[learner]
        if before.stats != after.stats:
            differences.append(Difference(learner, "in /v1/stats", "stats", before.stats, after.stats))
        if before.sessions != after.sessions:
            what = "sessions"
            differences.append(Difference(learner, "in /v1/sessions", what, before.sessions, after.sessions))
    return differences


def tally_of_play(sessions: Sequence[SessionSeen]) -> Tally:
    """What the gateway's answers to a learner add up to."""
    accepted = [
        (number, seen.fields)
        for number, session in enumerate(sessions)
        for seen in session.answers
        if seen.ok
    ]
    last_attempts = {(number, fields["questionId"]): fields["attempts"] for number, fields in accepted}
    completed = [session.complete for session in sessions if session.complete and session.complete.ok]
    return Tally(
        sessions=len(completed),
        answers=len(accepted),
        right_answers=sum(fields["correct"] for _, fields in accepted),
        attempts=sum(last_attempts.values()),
        questions_answered=sum(seen.fields["answered"] for seen in completed),
    )


def tally_of_sessions(sessions: Sequence[Mapping[str, Any]]) -> Tally:
    """What a learner's list of sessions adds up to."""
    completed = [session for session in sessions if session["state"] == "COMPLETED"]
    return Tally(
        sessions=len(completed), questions_answered=sum(session["answered"] for session in completed)
    )


def tally_of_stats(stats: Mapping[str, Any]) -> Tally:
    return Tally(
        sessions=stats["completedSessions"],
        answers=stats["answers"],
        right_answers=stats["correct"],
        questions_answered=stats["questionsAnswered"],
        xp=stats["xp"],
    )


def _tallies(learner: str, where: str, expected: Tally, found: Tally) -> Iterator[Difference]:
    for figure in FIGURES:
        value = getattr(found, figure)
        if value is not None and value != getattr(expected, figure):
            yield Difference(learner, where, figure.replace("_", " "), getattr(expected, figure), value)


def _steps(learner: LoggedLearner, played: Sequence[SessionSeen], *, questions: int) -> Iterator[Difference]:
    for session, seen in zip(learner.sessions, played, strict=True):
        where = session.name
        if not seen.start.ok or seen.start.fields["resumed"]:
            found = "resumed" if seen.start.ok else seen.start.problem
            yield Difference(learner.name, where, "start", "a session of its own", found)
        for number, (answer, answered) in enumerate(
            zip(session.answers, seen.answers, strict=False), start=1
        ):
            place = f"{where}, answer {number} ({answer.question_id})"
            yield from _answer(learner.name, place, answer, answered, questions)
        if seen.complete is not None and not seen.complete.ok:
            yield Difference(learner.name, where, "complete", "COMPLETED", seen.complete.problem)


def _answer(
    learner: str, where: str, logged: LoggedAnswer, seen: Seen, questions: int
) -> Iterator[Difference]:
    if not seen.ok:
        yield Difference(learner, where, "answer", "accepted", seen.problem)
        return
    expected = {
        "questionId": logged.question_id,
        "correct": logged.correct,
        "attempts": logged.attempt,
        "total": questions,
    }
    for what, value in expected.items():
        if seen.fields[what] != value:
            yield Difference(learner, where, what, value, seen.fields[what])


def _sessions(
    learner: LoggedLearner,
    played: Sequence[SessionSeen],
    listed: Sequence[Mapping[str, Any]],
    questions: int,
) -> Iterator[Difference]:
    by_id = {session["sessionId"]: session for session in listed}
    if len(listed) != len(learner.sessions):
        yield Difference(learner.name, "in /v1/sessions", "how many", len(learner.sessions), len(listed))
    for number, (session, seen) in enumerate(zip(learner.sessions, played, strict=True), start=1):
        if not seen.start.ok:
            continue  # reported already
        found = by_id.get(seen.start.fields["sessionId"])
        if found is None:
            yield Difference(learner.name, session.name, "in /v1/sessions", "there", "missing")
            continue
        yield from _session(learner.name, session, number, found, questions)


def _session(
    learner: str, session: LoggedSession, number: int, found: Mapping[str, Any], questions: int
) -> Iterator[Difference]:
    expected = {
        "state": "COMPLETED",
        "attempt": number,
        "answered": session.questions_answered,
        "total": questions,
    }
    for what, value in expected.items():
        if found[what] != value:
            yield Difference(learner, session.name, what, value, found[what])
    score = session.right_at_last / questions
    if not math.isclose(found.get("score", math.nan), score, abs_tol=SCORE_TOLERANCE):
        yield Difference(learner, session.name, "score", score, found.get("score"))


def _replays(learner: str, where: str, first: SessionSeen, second: SessionSeen) -> Iterator[Difference]:
    one, other = first.steps(), second.steps()
    if len(one) != len(other):
        yield Difference(learner, where, "steps", len(one), len(other))
    for (step, before), (_, after) in zip(one, other, strict=False):
        if not after.replayed:
            yield Difference(learner, f"{where}, {step}", "second answer", "a replay", after.status)
        if (before.status, before.digest) != (after.status, after.digest):
            expected, found = (f"{seen.status} {seen.digest}" for seen in (before, after))
            yield Difference(learner, f"{where}, {step}", "second answer", expected, found)
