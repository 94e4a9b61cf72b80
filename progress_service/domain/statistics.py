"""How the result of a session counts toward a learner's statistics: once, or not at all."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import NamedTuple, NewType

UserId = NewType("UserId", str)
SessionId = NewType("SessionId", str)

XP_OPERATIONS = uuid.UUID("6d2f8f5e-53a4-4f0e-9a64-0d1c6b7f3a21")


class ResultKey(NamedTuple):
    """Names a result: there is one per session of a learner."""

    user_id: UserId
    session_id: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionResult:
    """The result of a closed session, in absolute values; `closed_at` is in UTC."""

    user_id: UserId
    session_id: SessionId
    test_id: str
    specialization: str
    completed: bool
    answered: int
    total: int
    answers: int
    correct: int
    score: float
    passed: bool
    xp: int
    closed_at: datetime

    @property
    def key(self) -> ResultKey:
        return ResultKey(self.user_id, self.session_id)

    @property
    def counts(self) -> bool:
        """Whether the result changes the learner's statistics.

        A session that has questions and no answer costs its learner no unit of the daily quota. So it earns
        nothing either: no XP, no completion, no active day. Otherwise a learner could complete any number of
        sessions a day for free. A session without questions has nothing to answer, and counts.
        """
        return self.answered > 0 or self.total == 0

    @property
    def activity_day(self) -> date | None:
        """The UTC day on which this session makes its learner active; None if it was not completed."""
        return self.closed_at.astimezone(UTC).date() if self.completed else None

    @property
    def xp_operation_id(self) -> uuid.UUID:
        """The id of the session's entry in the XP ledger: the same however often the result is sent."""
        return result_operation_id(self.user_id, self.session_id)


def result_operation_id(user_id: str, session_id: str) -> uuid.UUID:
    """The id of the entry of a session's result in the XP ledger."""
    return uuid.uuid5(XP_OPERATIONS, f"session\n{user_id}\n{session_id}")


@dataclass(frozen=True, slots=True)
class Statistics:
    """A learner's totals; `updated_at` is None until the first result counts."""

    user_id: UserId
    enrolled: int = 0
    completed_lessons: int = 0
    completed_sessions: int = 0
    questions_answered: int = 0
    answers: int = 0
    correct: int = 0
    xp: int = 0
    version: int = 0
    updated_at: datetime | None = None


class Verdict(StrEnum):
    """What became of a result."""

    RECORDED = "recorded"
    # The session's result was recorded before, with the same values.
    REPEATED = "repeated"
    # The session's result was recorded before, with other values; those stay. This is a bug of the sender.
    CONTRADICTED = "contradicted"


@dataclass(frozen=True, slots=True)
class Recording:
    """What became of one result, and the learner's version after it."""

    verdict: Verdict
    version: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What a batch of results leads to: a recording for each, and which of them are new."""

    recordings: list[Recording]
    new_results: list[SessionResult]


def decide(
    results: Sequence[SessionResult],
    *,
    versions: Mapping[UserId, int],
    recorded: Mapping[ResultKey, SessionResult],
) -> Decision:
    """Decide the results one after the other, in their order; each sees the effect of those before it.

    `versions` holds the version of each learner, `recorded` the results of these sessions that were recorded
    before. A new result that counts raises its learner's version by one. A result that does not count is
    recorded too, so that a second one for its session is found.
    """
    current = dict(versions)
    known = dict(recorded)
    recordings: list[Recording] = []
    new_results: list[SessionResult] = []
    for result in results:
        before = known.get(result.key)
        if before is None:
            known[result.key] = result
            new_results.append(result)
            if result.counts:
                current[result.user_id] += 1
            verdict = Verdict.RECORDED
        else:
            verdict = Verdict.REPEATED if before == result else Verdict.CONTRADICTED
        recordings.append(Recording(verdict, current[result.user_id]))
    return Decision(recordings, new_results)
