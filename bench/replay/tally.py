"""The figures that both the log and the server have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from bench.replay.log import LoggedLearner


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Counts of one learner or of all; None if a source does not have the figure."""

    sessions: int | None = None
    answers: int | None = None
    right_answers: int | None = None
    # The sum, over sessions and questions, of the last `attempts` that was answered.
    attempts: int | None = None
    questions_answered: int | None = None
    xp: int | None = None


FIGURES = tuple(each.name for each in fields(Tally))


def tally_of_log(learner: LoggedLearner, *, xp_per_session: int) -> Tally:
    """What the log says a learner did."""
    answers = [answer for session in learner.sessions for answer in session.answers]
    last_attempts = {
        (session.name, answer.question_id): answer.attempt
        for session in learner.sessions
        for answer in session.answers
    }
    return Tally(
        sessions=len(learner.sessions),
        answers=len(answers),
        right_answers=sum(answer.correct for answer in answers),
        attempts=sum(last_attempts.values()),
        questions_answered=sum(session.questions_answered for session in learner.sessions),
        xp=xp_per_session * len(learner.sessions),
    )


def total(tallies: Iterable[Tally]) -> Tally:
    """The sum of several; a figure is None if one of them does not have it."""
    listed = list(tallies)
    sums: dict[str, int | None] = {}
    for figure in FIGURES:
        values = [getattr(tally, figure) for tally in listed]
        sums[figure] = None if None in values else sum(values)
    return Tally(**sums)
