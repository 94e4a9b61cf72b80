"""Protobuf requests as domain objects, and what only this conversion can find wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from chassis.errors import FieldViolation, Reason, ServiceError
from protos.session.v1 import sessions_pb2, tests_pb2
from session_service.domain.ids import SessionId, parse_session_id
from session_service.domain.sessions import StartRequest
from session_service.domain.states import SessionState
from session_service.domain.tests import Definition, Kind, NamedTest, Question
from session_service.operations.change_sessions import AnswerRequest, CloseRequest
from session_service.operations.manage_tests import CatalogRequest, ImportRequest
from session_service.operations.read_sessions import ListRequest
from session_service.servicer.messages import KINDS, STATES

PAGE_SIZE_DEFAULT = 50
NUL = "holds a NUL character"

_STATE_OF: Mapping[Any, SessionState] = {number: state for state, number in STATES.items()}
_KIND_OF: Mapping[Any, Kind] = {number: kind for kind, number in KINDS.items()}


def start_request(message: sessions_pb2.CreateSessionRequest) -> StartRequest:
    """What a learner wants to start; raises ServiceError for a text that PostgreSQL could not keep.

    That is looked at here, and not left to the database as elsewhere: the hold comes before the insert.
    """
    metadata = dict(message.metadata)
    texts = (message.test_id, message.title, message.difficulty, *metadata, *metadata.values())
    if "\0" in "".join(texts):
        raise _invalid(_field_with_nul(message), NUL)
    return StartRequest(
        test_id=message.test_id,
        title=message.title if message.HasField("title") else None,
        difficulty=message.difficulty if message.HasField("difficulty") else None,
        duration_minutes=message.duration_minutes if message.HasField("duration_minutes") else None,
        metadata=metadata,
    )


def answer_request(message: sessions_pb2.AnswerQuestionRequest) -> AnswerRequest:
    """An answer; raises ServiceError for a session id that is none, or a time outside the calendar."""
    return AnswerRequest(
        session_id=session_id_of(message.session_id),
        question_id=message.question_id,
        choice=message.choice,
        occurred_at=_moment("occurredAt", message.occurred_at) if message.HasField("occurred_at") else None,
    )


def close_request(
    message: sessions_pb2.CompleteSessionRequest | sessions_pb2.AbandonSessionRequest,
) -> CloseRequest:
    """The end of a session; raises ServiceError for a session id that is none."""
    return CloseRequest(session_id=session_id_of(message.session_id))


def list_request(message: sessions_pb2.ListSessionsRequest) -> ListRequest:
    """Which sessions to list; raises ServiceError for a page token that we never gave."""
    before = parse_session_id(message.page_token) if message.page_token else None
    if message.page_token and before is None:
        raise _invalid("pageToken", "is not one of ours")
    if "\0" in message.test_id:
        raise _invalid("testId", NUL)
    return ListRequest(
        state=_STATE_OF.get(message.state),
        test_id=message.test_id or None,
        before=before,
        page_size=message.page_size or PAGE_SIZE_DEFAULT,
    )


def session_id_of(text: str) -> SessionId:
    """The session meant; raises ServiceError with NOT_FOUND when none could be called so."""
    session_id = parse_session_id(text)
    if session_id is None:
        raise ServiceError(Reason.NOT_FOUND, "There is no such session")
    return session_id


def named_test(message: tests_pb2.PutTestRequest) -> NamedTest:
    def optional(field: str) -> Any:
        return getattr(message, field) if message.HasField(field) else None

    return NamedTest(
        test_id=message.test_id,
        definition=Definition(
            title=message.title,
            kind=_KIND_OF[message.kind],
            difficulty=message.difficulty,
            question_count=message.question_count,
            time_limit_seconds=optional("time_limit_seconds"),
            max_attempts=optional("max_attempts"),
            credit_cost=message.credit_cost,
            counts_toward_daily_limit=message.counts_toward_daily_limit,
            pass_score=optional("pass_score"),
            specialization=optional("specialization"),
            xp=optional("xp"),
            min_engaged_seconds=optional("min_engaged_seconds"),
            identity_checks=optional("identity_checks"),
        ),
    )


def import_request(message: tests_pb2.ImportQuestionsRequest) -> ImportRequest:
    return ImportRequest(
        test_id=message.test_id,
        questions=[
            Question(
                question_id=question.question_id,
                prompt=question.prompt,
                choices=tuple(question.choices),
                accepted=tuple(question.accepted),
                difficulty=question.difficulty if question.HasField("difficulty") else None,
                subject=question.subject if question.HasField("subject") else None,
            )
            for question in message.questions
        ],
    )


def test_id_of(message: tests_pb2.GetTestRequest) -> str:
    """The test meant; raises ServiceError with NOT_FOUND when none could be called so."""
    if "\0" in message.test_id:
        raise ServiceError(Reason.NOT_FOUND, "There is no such test")
    return message.test_id


def tests_wanted(message: tests_pb2.ListTestsRequest) -> CatalogRequest:
    """Which tests to list; raises ServiceError for a page token that we never gave."""
    if "\0" in message.page_token:
        raise _invalid("pageToken", "is not one of ours")
    return CatalogRequest(after=message.page_token, page_size=message.page_size or PAGE_SIZE_DEFAULT)


def _field_with_nul(message: sessions_pb2.CreateSessionRequest) -> str:
    named = {"testId": message.test_id, "title": message.title, "difficulty": message.difficulty}
    return next((field for field, text in named.items() if "\0" in text), "metadata")


def _moment(field: str, moment: Timestamp) -> datetime:
    try:
        return moment.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise _invalid(field, "is outside the calendar") from error


def _invalid(field: str, description: str) -> ServiceError:
    return ServiceError(
        Reason.INVALID_ARGUMENT,
        f"{field}: {description}",
        violations=[FieldViolation(field, description)],
    )
