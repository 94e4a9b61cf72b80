"""What a learner does with a session under way: answer, complete, abandon."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from chassis.errors import FieldViolation, Reason, ServiceError
from session_service.domain.ids import SessionId
from session_service.domain.sessions import (
    GivenAnswer,
    LatestAnswer,
    Session,
    abandon,
    complete,
    require_open,
    with_answer,
)
from session_service.domain.tests import Edition
from session_service.operations.calls import KeyedCall
from session_service.operations.drafts import Draft, Outcome
from session_service.operations.session_changes import SessionChanges


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """What a learner chose or typed; `occurred_at` is by their own clock."""

    session_id: SessionId
    question_id: str
    choice: str
    occurred_at: datetime | None


@dataclass(frozen=True, slots=True)
class CloseRequest:
    """A session that its learner ends."""

    session_id: SessionId
    question_id: str = ""


RenderAnswer = Callable[[Session, GivenAnswer], bytes]
RenderSession = Callable[[Session, Edition], bytes]


class SessionActions:
    """The learner's moves; each goes through `SessionChanges`.

    Args:
        changes: locks, replays, writes.
        render_answer: makes the stored answer to an answer.
        render_completed: makes the stored answer to a completion.
        render_abandoned: makes the stored answer to an abandonment.
    """

    def __init__(
        self,
        *,
        changes: SessionChanges,
        render_answer: RenderAnswer,
        render_completed: RenderSession,
        render_abandoned: RenderSession,
    ) -> None:
        self._changes = changes
        self._render_answer = render_answer
        self._render_completed = render_completed
        self._render_abandoned = render_abandoned

    async def answer_questions(self, calls: Sequence[KeyedCall[AnswerRequest]]) -> list[Outcome]:
        """Keep each answer and say whether it is right."""
        return await self._changes.apply(calls, self._answer)

    async def complete_sessions(self, calls: Sequence[KeyedCall[CloseRequest]]) -> list[Outcome]:
        """End each session with its score."""
        return await self._changes.apply(calls, self._complete)

    async def abandon_sessions(self, calls: Sequence[KeyedCall[CloseRequest]]) -> list[Outcome]:
        """End each session as given up; an unanswered one gives its unit back."""
        return await self._changes.apply(calls, self._abandon)

    def _answer(self, draft: Draft, call: KeyedCall[AnswerRequest], now: datetime) -> bytes:
        request = call.request
        require_open(draft.session)
        if not draft.edition.asks(request.question_id):
            description = "is not one of the session's questions"
            raise ServiceError(
                Reason.INVALID_ARGUMENT,
                f"questionId: {description}",
                violations=[FieldViolation("questionId", description)],
            )
        previous = draft.latest_answers.get(request.question_id)
        correct = draft.edition.accepts(request.question_id, request.choice)
        answer = GivenAnswer(
            user_id=draft.session.user_id,
            session_id=draft.session.session_id,
            question_id=request.question_id,
            attempt=1 if previous is None else previous.attempt + 1,
            choice=request.choice,
            correct=correct,
            occurred_at=request.occurred_at,
            answered_at=now,
        )
        draft.session = with_answer(draft.session, correct=correct, previous=previous, now=now)
        draft.latest_answers[request.question_id] = LatestAnswer(answer.attempt, correct)
        draft.answers.append(answer)
        return self._render_answer(draft.session, answer)

    def _complete(self, draft: Draft, call: KeyedCall[CloseRequest], now: datetime) -> bytes:
        draft.close(complete(draft.session, draft.edition.definition, now=now), call.call.traceparent)
        return self._render_completed(draft.session, draft.edition)

    def _abandon(self, draft: Draft, call: KeyedCall[CloseRequest], now: datetime) -> bytes:
        draft.close(abandon(draft.session, now=now), call.call.traceparent)
        return self._render_abandoned(draft.session, draft.edition)
