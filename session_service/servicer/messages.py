"""Domain objects as protobuf messages."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from weakref import WeakKeyDictionary

from google.protobuf.timestamp_pb2 import Timestamp

from protos.session.v1 import sessions_pb2, tests_pb2
from session_service.domain.sessions import GivenAnswer, Session
from session_service.domain.states import SessionState
from session_service.domain.tests import Edition, Kind, NamedTest

STATES = {
    SessionState.ACTIVE: sessions_pb2.Session.ACTIVE,
    SessionState.PAUSED: sessions_pb2.Session.PAUSED,
    SessionState.COMPLETED: sessions_pb2.Session.COMPLETED,
    SessionState.ABANDONED: sessions_pb2.Session.ABANDONED,
    SessionState.EXPIRED: sessions_pb2.Session.EXPIRED,
}
KINDS = {
    Kind.PRACTICE: tests_pb2.Test.PRACTICE,
    Kind.MOCK: tests_pb2.Test.MOCK,
    Kind.QUIZ: tests_pb2.Test.QUIZ,
    Kind.COMPLIANCE: tests_pb2.Test.COMPLIANCE,
    Kind.INTERVIEW: tests_pb2.Test.INTERVIEW,
}

# An edition's questions never change, and every session of it shows them: converted once, serialized once.
_questions: WeakKeyDictionary[Edition, list[sessions_pb2.Session.Question]] = WeakKeyDictionary()
_serialized_questions: WeakKeyDictionary[Edition, bytes] = WeakKeyDictionary()


def session_message(
    session: Session, edition: Edition | None = None, *, resumed: bool = False
) -> sessions_pb2.Session:
    """A session; with its questions if the edition is given."""
    return sessions_pb2.Session(
        session_id=str(session.session_id),
        user_id=session.user_id,
        test_id=session.test_id,
        title=session.title,
        kind=KINDS[session.kind],
        difficulty=session.difficulty,
        state=STATES[session.state],
        resumed=resumed,
        started_at=timestamp(session.started_at),
        deadline_at=timestamp(session.deadline_at),
        last_answer_at=timestamp(session.last_answer_at),
        submitted_at=timestamp(session.submitted_at),
        closed_at=timestamp(session.closed_at),
        close_reason=session.close_reason,
        attempt=session.attempt,
        questions=None if edition is None else question_messages(edition),
        answered=session.answered,
        total=session.total,
        score=session.score,
        passed=session.passed,
        metadata=session.metadata,
        version=session.version,
    )


def question_messages(edition: Edition) -> list[sessions_pb2.Session.Question]:
    """The edition's questions as a learner may see them."""
    messages = _questions.get(edition)
    if messages is None:
        messages = _questions[edition] = [
            sessions_pb2.Session.Question(
                question_id=question.question_id, prompt=question.prompt, choices=question.choices
            )
            for question in edition.questions
        ]
    return messages


def test_message(test: NamedTest) -> tests_pb2.Test:
    definition = test.definition
    return tests_pb2.Test(
        test_id=test.test_id,
        title=definition.title,
        kind=KINDS[definition.kind],
        difficulty=definition.difficulty,
        question_count=definition.question_count,
        time_limit_seconds=definition.time_limit_seconds,
        max_attempts=definition.max_attempts,
        credit_cost=definition.credit_cost,
        counts_toward_daily_limit=definition.counts_toward_daily_limit,
        pass_score=definition.pass_score,
        specialization=definition.specialization,
        xp=definition.xp,
        min_engaged_seconds=definition.min_engaged_seconds,
        identity_checks=definition.identity_checks,
    )


@lru_cache(maxsize=64)
def timestamp(moment: datetime | None) -> Timestamp | None:
    """A moment as protobuf has it; the sessions of a batch share theirs, so it is seldom converted."""
    if moment is None:
        return None
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def render_created(session: Session, edition: Edition, resumed: bool) -> bytes:
    """The serialized answer to a start.

    Its questions are appended, not copied: protobuf reads encodings that follow each other as one message,
    merged (protobuf.dev/programming-guides/encoding, "Last One Wins").
    """
    questions = _serialized_questions.get(edition)
    if questions is None:
        questions = _serialized_questions[edition] = sessions_pb2.CreateSessionResponse(
            session=sessions_pb2.Session(questions=question_messages(edition))
        ).SerializeToString()
    bare = sessions_pb2.CreateSessionResponse(session=session_message(session, resumed=resumed))
    return bare.SerializeToString() + questions


def render_completed(session: Session, edition: Edition) -> bytes:
    """The serialized answer to a completion."""
    return sessions_pb2.CompleteSessionResponse(session=session_message(session, edition)).SerializeToString()


def render_abandoned(session: Session, edition: Edition) -> bytes:
    """The serialized answer to an abandonment."""
    return sessions_pb2.AbandonSessionResponse(session=session_message(session, edition)).SerializeToString()


def render_answer(session: Session, answer: GivenAnswer) -> bytes:
    """The serialized answer to an answer."""
    return sessions_pb2.AnswerQuestionResponse(
        question_id=answer.question_id,
        correct=answer.correct,
        attempts=answer.attempt,
        answered=session.answered,
        total=session.total,
        score_so_far=session.score_so_far,
    ).SerializeToString()
