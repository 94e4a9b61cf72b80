"""UploadService."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from chassis.batch import Item, Reply
from chassis.errors import ServiceError, invalid_field
from chassis.rpc.servicing import Handler, fingerprint, plain
from chassis.rpc.validation import validate
from protos.session.v1 import sessions_pb2
from protos.session.v1 import uploads_pb2 as pb
from session_service.domain.sessions import JudgedAnswer, Session
from session_service.operations.upload_operations import (
    OperationOutcome,
    OperationRequest,
    StoredAnswers,
    UploadedOperation,
    Uploads,
    is_conflict,
)
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


def _upload(item: Item[pb.UploadOperationsRequest]) -> Sequence[UploadedOperation]:
    """The operations of an upload; one that is wrong is refused alone."""
    session_id = item.request.session_id
    named_session_id(session_id)
    return [
        UploadedOperation(operation.op_id, _operation(item, session_id, operation))
        for operation in item.request.operations
    ]


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


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of operation: its own route's method, request and conversion."""

    method: str
    message: Callable[[str, pb.Operation], Message]
    convert: Callable[[Item[Any]], OperationRequest]


_KINDS: Mapping[str, _Kind] = {
    "answer": _Kind(ANSWER_QUESTION, _answer_message, answer_request),
    "complete": _Kind(COMPLETE_SESSION, _completion_message, close_request),
}


def _response(outcomes: Sequence[OperationOutcome]) -> pb.UploadOperationsResponse:
    return pb.UploadOperationsResponse(results=map(_result, outcomes))


def _result(outcome: OperationOutcome) -> pb.OperationResult:
    operation, became = outcome.operation, outcome.outcome
    if isinstance(became, ServiceError):
        return pb.OperationResult(
            op_id=operation.op_id,
            status=pb.OperationResult.CONFLICT if is_conflict(became) else pb.OperationResult.REFUSED,
            reason=became.reason.name,
            detail=became.detail,
            retryable=became.reason.retryable,
        )
    result = pb.OperationResult(
        op_id=operation.op_id,
        status=pb.OperationResult.DUPLICATE if became.replayed else pb.OperationResult.APPLIED,
    )
    _add_answer(result, operation, became)
    return result


def _add_answer(result: pb.OperationResult, operation: UploadedOperation, reply: Reply[Any]) -> None:
    if operation.completes:
        completion = sessions_pb2.CompleteSessionResponse.FromString(reply.payload())
        result.session.CopyFrom(completion.session)
    else:
        result.answer.MergeFromString(reply.payload())
