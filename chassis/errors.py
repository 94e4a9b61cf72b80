"""The one error vocabulary: stable reasons, and what each means over gRPC, over HTTP and to a retry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from grpc import StatusCode


class Reason(Enum):
    """Why a call was refused; the name is what clients see and may rely on."""

    INVALID_ARGUMENT = (StatusCode.INVALID_ARGUMENT, 400, "The request is not valid", False)
    IDEMPOTENCY_KEY_MISSING = (
        StatusCode.INVALID_ARGUMENT,
        400,
        "This request needs an Idempotency-Key",
        False,
    )
    IDEMPOTENCY_KEY_REUSED = (
        StatusCode.FAILED_PRECONDITION,
        422,
        "The Idempotency-Key was used for another request",
        False,
    )
    REQUEST_ABORTED = (StatusCode.ABORTED, 409, "The request was aborted; use a new key", False)
    INVALID_USER_REFERENCE = (StatusCode.FAILED_PRECONDITION, 400, "The user is unknown or inactive", False)
    EMAIL_NOT_VERIFIED = (StatusCode.FAILED_PRECONDITION, 403, "The e-mail address is not verified", False)
    INSUFFICIENT_CREDITS = (StatusCode.FAILED_PRECONDITION, 403, "Not enough credits", False)
    DAILY_LIMIT_REACHED = (StatusCode.RESOURCE_EXHAUSTED, 429, "Today's limit is reached", False)
    SUBSCRIPTION_INACTIVE = (StatusCode.FAILED_PRECONDITION, 403, "The subscription is not active", False)
    LESSON_LOCKED = (StatusCode.FAILED_PRECONDITION, 403, "The lesson is locked", False)
    ILLEGAL_TRANSITION = (StatusCode.FAILED_PRECONDITION, 409, "Not possible in this state", False)
    SESSION_CLOSED = (StatusCode.FAILED_PRECONDITION, 409, "The session is closed", False)
    DEADLINE_PASSED = (StatusCode.FAILED_PRECONDITION, 409, "The time is over", False)
    ATTEMPTS_EXHAUSTED = (StatusCode.FAILED_PRECONDITION, 409, "No attempts are left", False)
    ENGAGEMENT_TOO_LOW = (StatusCode.FAILED_PRECONDITION, 409, "Not enough time was spent on it", False)
    IDENTITY_LOCKED = (StatusCode.FAILED_PRECONDITION, 409, "The identity check is locked", False)
    VERSION_MISMATCH = (StatusCode.ABORTED, 412, "It was changed in the meantime", False)
    NOT_FOUND = (StatusCode.NOT_FOUND, 404, "Not found", False)
    UNAUTHENTICATED = (StatusCode.UNAUTHENTICATED, 401, "Authentication is needed", False)
    PERMISSION_DENIED = (StatusCode.PERMISSION_DENIED, 403, "Not allowed", False)
    METHOD_NOT_ALLOWED = (StatusCode.UNIMPLEMENTED, 405, "The method is not allowed here", False)
    PAYLOAD_TOO_LARGE = (StatusCode.INVALID_ARGUMENT, 413, "The body is too large", False)
    UNSUPPORTED_MEDIA_TYPE = (StatusCode.INVALID_ARGUMENT, 415, "The body must be application/json", False)
    RATE_LIMITED = (StatusCode.RESOURCE_EXHAUSTED, 429, "Too many requests", True)
    OVERLOADED = (StatusCode.RESOURCE_EXHAUSTED, 503, "Overloaded", True)
    UNAVAILABLE = (StatusCode.UNAVAILABLE, 503, "Temporarily unavailable", True)
    DEADLINE_EXCEEDED = (
        StatusCode.DEADLINE_EXCEEDED,
        504,
        "No answer in time; the outcome may be unknown, retry with the same key",
        True,
    )
    INTERNAL = (StatusCode.INTERNAL, 500, "Internal error", False)

    def __init__(self, grpc_code: StatusCode, http_status: int, title: str, retryable: bool) -> None:
        self.grpc_code = grpc_code
        self.http_status = http_status
        self.title = title
        self.retryable = retryable


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field of the request, as the client wrote it (lowerCamelCase path), and what is wrong with it."""

    field: str
    description: str


class ServiceError(Exception):
    """A refusal that the caller should understand; everything else that is raised is INTERNAL.

    `metadata` is shown to the client: numbers stay numbers, and what is None is left out.
    """

    def __init__(
        self,
        reason: Reason,
        detail: str = "",
        *,
        metadata: Mapping[str, str | int | float | None] | None = None,
        violations: Sequence[FieldViolation] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail or reason.title
        self.metadata = {key: value for key, value in (metadata or {}).items() if value is not None}
        self.violations = tuple(violations)
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        return f"{self.reason.name}: {self.detail}"
