"""Requests about sessions as domain objects, with the checks that the contract cannot state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chassis.batch import Item
from chassis.errors import invalid_field
from chassis.rpc.timestamps import moment_of
from protos.session.v1 import sessions_pb2
from session_service.domain.ids import SessionId, parse_session_id
from session_service.domain.missing import no_such_session
from session_service.domain.sessions import AnswerRequest, CloseRequest, ListRequest, StartRequest
from session_service.domain.states import SessionState
from session_service.servicer.session_messages import STATES

METADATA_BYTES_MAX = 4096
NUL = "holds a NUL character"

_STATE_OF: Mapping[Any, SessionState] = {number: state for state, number in STATES.items()}


def start_request(item: Item[sessions_pb2.CreateSessionRequest]) -> StartRequest:
    """What a learner wants to start; raises ServiceError for a text that the database cannot store.

    A start needs this check before its hold is placed.
    """
    message = item.request
    metadata = dict(message.metadata)
    texts = (message.test_id, message.title, message.difficulty, *metadata, *metadata.values())
    if "\0" in "".join(texts):
        raise invalid_field(_field_with_nul(message), NUL)
    if metadata and _bytes_in(metadata) > METADATA_BYTES_MAX:
        raise invalid_field("metadata", f"is larger than {METADATA_BYTES_MAX} bytes in all")
    return StartRequest(
        test_id=message.test_id,
        title=message.title if message.HasField("title") else None,
        difficulty=message.difficulty if message.HasField("difficulty") else None,
        duration_minutes=message.duration_minutes if message.HasField("duration_minutes") else None,
        metadata=metadata,
    )


def answer_request(item: Item[sessions_pb2.AnswerQuestionRequest]) -> AnswerRequest:
    """An answer; raises ServiceError for a malformed session id or time, or a text that cannot be stored.

    The database would refuse such a text too, and with it the transaction of all answers beside it. An upload
    can have hundreds of them.
    """
    message = item.request
    if "\0" in message.choice or "\0" in message.question_id:
        raise invalid_field("choice" if "\0" in message.choice else "questionId", NUL)
    return AnswerRequest(
        session_id=named_session_id(message.session_id),
        question_id=message.question_id,
        choice=message.choice,
        occurred_at=moment_of(message.occurred_at, "occurredAt") if message.HasField("occurred_at") else None,
    )


def close_request(item: Item[Any]) -> CloseRequest:
    """The end of a session; raises ServiceError for a malformed session id."""
    message = item.request
    return CloseRequest(
        session_id=named_session_id(message.session_id),
        expected_version=message.expected_version if message.HasField("expected_version") else None,
    )


def session_id_of(item: Item[sessions_pb2.GetSessionRequest]) -> SessionId:
    """The id of a session; raises ServiceError with NOT_FOUND if it is malformed."""
    return named_session_id(item.request.session_id)


def list_request(item: Item[sessions_pb2.ListSessionsRequest]) -> ListRequest:
    """Which of the caller's sessions to list."""
    return session_filter(item.user_id, item.request.state, item.request.test_id)


def session_filter(user_id: str, state: Any, test_id: str) -> ListRequest:
    """Which sessions of a learner to list; an unspecified state and an empty test do not restrict."""
    if "\0" in test_id:
        raise invalid_field("testId", NUL)
    return ListRequest(user_id=user_id, state=_STATE_OF.get(state), test_id=test_id or None)


def named_session_id(text: str) -> SessionId:
    """The session id that a text spells; raises ServiceError with NOT_FOUND if it spells none."""
    session_id = parse_session_id(text)
    if session_id is None:
        raise no_such_session()
    return session_id


def _bytes_in(metadata: Mapping[str, str]) -> int:
    return sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())


def _field_with_nul(message: sessions_pb2.CreateSessionRequest) -> str:
    named = {"testId": message.test_id, "title": message.title, "difficulty": message.difficulty}
    return next((field for field, text in named.items() if "\0" in text), "metadata")
