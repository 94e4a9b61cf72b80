"""UploadService."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from chassis.batch import Item
from chassis.errors import Reason, ServiceError, invalid_field
from chassis.rpc.servicing import Handler, fingerprint, plain
from chassis.rpc.validation import validate
from protos.session.v1 import presence_pb2, sessions_pb2
from protos.session.v1 import uploads_pb2 as pb
from session_service.domain.presence import Presence
from session_service.domain.sessions import CloseRequest, JudgedAnswer, Session
from session_service.domain.states import LIVE_STATES
from session_service.operations.upload_operations import (
    OperationOutcome,
    OperationRequest,
    StoredAnswers,
    Upload,
    UploadedOperation,
    Uploads,
    is_conflict,
)
from session_service.servicer.presence import RECORD_HEARTBEAT, heartbeat_request, recorded
from session_service.servicer.session_messages import judged, session_message
from session_service.servicer.session_requests import answer_request, close_request, named_session_id
from session_service.servicer.sessions import ANSWER_QUESTION, COMPLETE_SESSION

SERVICE = "/homeroom.session.v1.UploadService"

_KEY = re.compile(r"[\x21-\x7e]{1,255}")  # as the gateway takes it in the Idempotency-Key header


def handlers(*, uploads: Uploads) -> list[Handler]:
    """Uploads of operations."""
    return [plain(f"{SERVICE}/UploadOperations", _upload, uploads.upload_operations, _response)]


def _answer_bytes(answer: JudgedAnswer) -> bytes:
    return judged(answer).SerializeToString(deterministic=True)


def _completion_bytes(session: Session) -> bytes:
    message = sessions_pb2.CompleteSessionResponse(session=session_message(session))
    return message.SerializeToString(deterministic=True)


STORED_ANSWERS = StoredAnswers(answer=_answer_bytes, completion=_completion_bytes)


def _upload(item: Item[pb.UploadOperationsRequest]) -> Upload:
    """An upload; an operation that is wrong is refused alone."""
    session_id = item.request.session_id
    return Upload(
        named_session_id(session_id),
        [
            UploadedOperation(operation.op_id, _operation(item, session_id, operation))
            for operation in item.request.operations
        ],
    )


def _operation(
    item: Item[Any], session_id: str, operation: pb.Operation
) -> Item[OperationRequest] | ServiceError:
    """The operation as its own route would get it: the same method, key, fingerprint and checks."""
    if not _KEY.fullmatch(operation.op_id):
        return invalid_field("opId", "must be 1 to 255 visible ASCII characters")
    name = operation.WhichOneof("operation")
    if name is None:
        return invalid_field("operation", f"is missing: it must be one of {', '.join(_KINDS)}")
    kind = _KINDS[name]
    message = kind.message(session_id, operation)
    invalid = validate(message)
    if invalid is not None:
        return invalid
    context = item.context._replace(method=kind.method, idempotency_key=operation.op_id)
    own = Item(context, message, fingerprint(kind.method, message))
    try:
        return own.asking(kind.convert(own))
    except ServiceError as refusal:
        return refusal


def _answer_message(session_id: str, operation: pb.Operation) -> sessions_pb2.AnswerQuestionRequest:
    answer = operation.answer
    return sessions_pb2.AnswerQuestionRequest(
        session_id=session_id,
        question_id=answer.question_id,
        choice=answer.choice,
        occurred_at=answer.occurred_at if answer.HasField("occurred_at") else None,
    )


def _completion_message(session_id: str, _operation: pb.Operation) -> sessions_pb2.CompleteSessionRequest:
    return sessions_pb2.CompleteSessionRequest(session_id=session_id)


def _heartbeat_message(session_id: str, operation: pb.Operation) -> presence_pb2.RecordHeartbeatRequest:
    heartbeat = operation.heartbeat
    return presence_pb2.RecordHeartbeatRequest(
        session_id=session_id,
        seq=heartbeat.seq,
        visible=heartbeat.visible,
        occurred_at=heartbeat.occurred_at if heartbeat.HasField("occurred_at") else None,
    )


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of operation: its own route's method, request and conversion."""

    method: str
    message: Callable[[str, pb.Operation], Message]
    convert: Callable[[Item[Any]], OperationRequest]


_KINDS: Mapping[str, _Kind] = {
    "answer": _Kind(ANSWER_QUESTION, _answer_message, answer_request),
    "heartbeat": _Kind(RECORD_HEARTBEAT, _heartbeat_message, heartbeat_request),
    "complete": _Kind(COMPLETE_SESSION, _completion_message, close_request),
}


def _response(outcomes: Sequence[OperationOutcome]) -> pb.UploadOperationsResponse:
    return pb.UploadOperationsResponse(results=map(_result, outcomes))


def _result(outcome: OperationOutcome) -> pb.OperationResult:
    operation, became = outcome.operation, outcome.outcome
    if isinstance(became, Presence):
        return _heartbeat_result(operation.op_id, became)
    if isinstance(became, ServiceError):
        return _refused(operation.op_id, became)
    result = pb.OperationResult(
        op_id=operation.op_id,
        status=pb.OperationResult.DUPLICATE if became.replayed else pb.OperationResult.APPLIED,
    )
    if operation.asks_for(CloseRequest):
        completion = sessions_pb2.CompleteSessionResponse.FromString(became.payload())
        result.session.CopyFrom(completion.session)
    else:
        result.answer.MergeFromString(became.payload())
    return result


def _heartbeat_result(op_id: str, presence: Presence) -> pb.OperationResult:
    """A heartbeat of a session that has ended is refused here: a client that was offline has to know."""
    if presence.state not in LIVE_STATES:
        closed = ServiceError(Reason.SESSION_CLOSED, f"The session is {presence.state}")
        return _refused(op_id, closed)
    return pb.OperationResult(
        op_id=op_id,
        status=pb.OperationResult.APPLIED if presence.counted else pb.OperationResult.DUPLICATE,
        heartbeat=recorded(presence),
    )


def _refused(op_id: str, error: ServiceError) -> pb.OperationResult:
    return pb.OperationResult(
        op_id=op_id,
        status=pb.OperationResult.CONFLICT if is_conflict(error) else pb.OperationResult.REFUSED,
        reason=error.reason.name,
        detail=error.detail,
        retryable=error.reason.retryable,
    )
