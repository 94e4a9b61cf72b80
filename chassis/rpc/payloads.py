"""What a call carries: its request and its answer as bytes, and its context as metadata."""

from __future__ import annotations

from urllib.parse import quote

from google.protobuf.message import DecodeError, Message

from chassis.batch import Outcome, Reply
from chassis.context import Context
from chassis.errors import Reason, ServiceError
from chassis.rpc.carrier import Carried
from chassis.rpc.methods import Method
from chassis.rpc.wire import METADATA_KEY, METADATA_REQUEST_ID, METADATA_ROLES, METADATA_TRACE, METADATA_USER
from chassis.telemetry.logs import get_logger

log = get_logger(__name__)


def serialized(request: Message | bytes) -> bytes:
    return request if isinstance(request, bytes) else request.SerializeToString(deterministic=True)


def parsed(method: Method, response: bytes) -> Message:
    """The response message. If it cannot be read, only this call fails, with UNAVAILABLE."""
    try:
        return method.response_type.FromString(response)
    except DecodeError as error:
        log.error("response_unreadable", method=method.path)  # noqa: TRY400 - the error says nothing more
        raise ServiceError(Reason.UNAVAILABLE) from error


def outcome_of(method: Method, answer: Carried | ServiceError) -> Outcome:
    if isinstance(answer, ServiceError):
        return answer
    response, replayed = answer
    try:
        return Reply(parsed(method, response), replayed)
    except ServiceError as error:
        return error


def metadata_of(context: Context) -> tuple[tuple[str, str], ...]:
    pairs = (
        # A header has printable ASCII only (RFC 9113, 8.2.1); a user id may be any text.
        (METADATA_USER, quote(context.user_id, safe="/:@+,;=", errors="replace")),
        (METADATA_ROLES, ",".join(sorted(context.roles))),
        (METADATA_KEY, context.idempotency_key),
        (METADATA_REQUEST_ID, context.request_id),
        (METADATA_TRACE, context.traceparent),
    )
    return tuple((key, value) for key, value in pairs if value)
