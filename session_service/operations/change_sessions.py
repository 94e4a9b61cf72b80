"""What a learner does with a session under way: answer, pause, resume, complete, abandon."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from chassis.batch import Item, Outcome
from chassis.errors import invalid_field
from chassis.postgres.idempotency import CompletedCall
from chassis.postgres.keyed import completed_call
from session_service.domain.engagement import require_engagement
from session_service.domain.identity import require_identity, require_no_check_due
from session_service.domain.moves import abandon, complete, pause, require_version, resume
from session_service.domain.sessions import (
    AnswerRequest,
    CloseRequest,
    GivenAnswer,
    JudgedAnswer,
    LatestAnswer,
    Session,
    content_name,
    require_open,
    with_answer,
)
from session_service.domain.states import SessionState
from session_service.domain.timing import clamped
from session_service.operations.drafts import Decide, Draft
from session_service.operations.session_changes import SessionChanges


class SessionActions:
    """The learner's actions; each goes through `SessionChanges`, and its answer is stored with its key."""

    def __init__(self, *, changes: SessionChanges) -> None:
        self._changes = changes

    async def answer_questions(
        self, items: Sequence[Item[AnswerRequest]], render: Callable[[JudgedAnswer], bytes]
    ) -> list[Outcome]:
        """Keep each answer and say whether it is right."""
        return await self._changes.apply(items, answering(render), optimistic=True)

    async def pause_sessions(
        self, items: Sequence[Item[CloseRequest]], render: Callable[[Session], bytes]
    ) -> list[Outcome]:
        """Stop the clock of each session, as long as its pause budget lasts."""

        def decide(draft: Draft, item: Item[CloseRequest], now: datetime) -> CompletedCall:
            require_no_check_due(draft.session, now)
            paused = pause(draft.session, budget=draft.times.pause_budget, now=now)
            return _moved(draft, item, paused, render)

        return await self._changes.apply(items, decide)

    async def resume_sessions(
        self, items: Sequence[Item[CloseRequest]], render: Callable[[Session], bytes]
    ) -> list[Outcome]:
        """Let the clock of each session go on."""

        def decide(draft: Draft, item: Item[CloseRequest], now: datetime) -> CompletedCall:
            return _moved(draft, item, resume(draft.session, now=now), render)

        return await self._changes.apply(items, decide)

    async def complete_sessions(
        self, items: Sequence[Item[CloseRequest]], render: Callable[[Session], bytes]
    ) -> list[Outcome]:
        """End each session with its score. A session that was completed before stays as it is."""
        return await self._changes.apply(items, completing(render))

    async def abandon_sessions(
        self, items: Sequence[Item[CloseRequest]], render: Callable[[Session], bytes]
    ) -> list[Outcome]:
        """End each session as given up; an unanswered one gives its unit back."""

        def decide(draft: Draft, item: Item[CloseRequest], now: datetime) -> CompletedCall:
            return _moved(draft, item, abandon(draft.session, now=now), render)

        return await self._changes.apply(items, decide)


def answering(render: Callable[[JudgedAnswer], bytes]) -> Decide[AnswerRequest]:
    """Keeps an answer, and says whether it is right."""

    def decide(draft: Draft, item: Item[AnswerRequest], now: datetime) -> CompletedCall:
        return completed_call(item, render(_answer(draft, item, now)))

    return decide


def completing(render: Callable[[Session], bytes]) -> Decide[CloseRequest]:
    """Ends a session with its score; one that was completed before stays as it is."""

    def decide(draft: Draft, item: Item[CloseRequest], now: datetime) -> CompletedCall:
        if draft.session.state is SessionState.COMPLETED:
            return completed_call(item, render(draft.session), content=content_name(draft.session))
        if draft.session.live:
            require_no_check_due(draft.session, now)
            require_engagement(draft.session, draft.edition.definition)
        closed = complete(draft.session, draft.edition.definition, now=now)
        return _moved(draft, item, closed, render)

    return decide


def _answer(draft: Draft, item: Item[AnswerRequest], now: datetime) -> JudgedAnswer:
    request = item.request
    require_open(draft.session)
    require_identity(draft.session, now)
    if not draft.paper.asks(request.question_id):
        raise invalid_field("questionId", "is not one of the session's questions")
    previous = draft.latest_answers.get(request.question_id)
    correct = draft.edition.accepts(request.question_id, request.choice)
    occurred_at, occurred_at_clamped = clamped(request.occurred_at, now=now)
    answer = GivenAnswer(
        user_id=draft.session.user_id,
        session_id=draft.session.session_id,
        question_id=request.question_id,
        attempt=1 if previous is None else previous.attempt + 1,
        choice=request.choice,
        correct=correct,
        occurred_at=occurred_at,
        answered_at=now,
        occurred_at_clamped=occurred_at_clamped,
        version=draft.session.version + 1,
        request_id=draft.author.request_id,
        trace_id=draft.author.trace_id,
    )
    draft.session = with_answer(draft.session, correct=correct, previous=previous, now=now)
    draft.latest_answers[request.question_id] = LatestAnswer(answer.attempt, correct)
    draft.answers.append(answer)
    return JudgedAnswer(draft.session, answer)


def _moved(
    draft: Draft, item: Item[CloseRequest], moved: Session, render: Callable[[Session], bytes]
) -> CompletedCall:
    require_version(draft.session, item.request.expected_version)
    completed = completed_call(item, render(moved), content=content_name(moved))
    draft.move(moved, item.context.traceparent)
    return completed
