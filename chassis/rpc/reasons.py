"""The gRPC code and the HTTP status of each reason: one table for both ends of a call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from grpc import StatusCode

from chassis.errors import Reason


class Codes(NamedTuple):
    """A reason's status codes."""

    grpc: StatusCode
    http: int


CODES: Mapping[Reason, Codes] = {
    Reason.INVALID_ARGUMENT: Codes(StatusCode.INVALID_ARGUMENT, 400),
    Reason.IDEMPOTENCY_KEY_MISSING: Codes(StatusCode.INVALID_ARGUMENT, 400),
    Reason.IDEMPOTENCY_KEY_REUSED: Codes(StatusCode.FAILED_PRECONDITION, 422),
    Reason.REQUEST_ABORTED: Codes(StatusCode.ABORTED, 409),
    Reason.INVALID_USER_REFERENCE: Codes(StatusCode.FAILED_PRECONDITION, 400),
    Reason.EMAIL_NOT_VERIFIED: Codes(StatusCode.FAILED_PRECONDITION, 403),
    Reason.INSUFFICIENT_CREDITS: Codes(StatusCode.FAILED_PRECONDITION, 403),
    Reason.DAILY_LIMIT_REACHED: Codes(StatusCode.RESOURCE_EXHAUSTED, 429),
    Reason.SUBSCRIPTION_INACTIVE: Codes(StatusCode.FAILED_PRECONDITION, 403),
    Reason.LESSON_LOCKED: Codes(StatusCode.FAILED_PRECONDITION, 403),
    Reason.ILLEGAL_TRANSITION: Codes(StatusCode.FAILED_PRECONDITION, 409),
    Reason.SESSION_CLOSED: Codes(StatusCode.FAILED_PRECONDITION, 409),
    Reason.DEADLINE_PASSED: Codes(StatusCode.FAILED_PRECONDITION, 409),
    Reason.ATTEMPTS_EXHAUSTED: Codes(StatusCode.FAILED_PRECONDITION, 409),
    Reason.ENGAGEMENT_TOO_LOW: Codes(StatusCode.FAILED_PRECONDITION, 409),
    Reason.IDENTITY_LOCKED: Codes(StatusCode.FAILED_PRECONDITION, 409),
    Reason.VERSION_MISMATCH: Codes(StatusCode.ABORTED, 412),
    Reason.NOT_FOUND: Codes(StatusCode.NOT_FOUND, 404),
    Reason.UNAUTHENTICATED: Codes(StatusCode.UNAUTHENTICATED, 401),
    Reason.PERMISSION_DENIED: Codes(StatusCode.PERMISSION_DENIED, 403),
    Reason.METHOD_NOT_ALLOWED: Codes(StatusCode.UNIMPLEMENTED, 405),
    Reason.PAYLOAD_TOO_LARGE: Codes(StatusCode.INVALID_ARGUMENT, 413),
    Reason.UNSUPPORTED_MEDIA_TYPE: Codes(StatusCode.INVALID_ARGUMENT, 415),
    Reason.RATE_LIMITED: Codes(StatusCode.RESOURCE_EXHAUSTED, 429),
    Reason.OVERLOADED: Codes(StatusCode.RESOURCE_EXHAUSTED, 503),
    Reason.UNAVAILABLE: Codes(StatusCode.UNAVAILABLE, 503),
    Reason.DEADLINE_EXCEEDED: Codes(StatusCode.DEADLINE_EXCEEDED, 504),
    Reason.INTERNAL: Codes(StatusCode.INTERNAL, 500),
}
