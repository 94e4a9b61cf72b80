"""The one error vocabulary: stable reasons, their titles, and whether a retry can help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum


class Reason(Enum):
    """Why a request was refused. Clients see the name, and may rely on it.

    `chassis/rpc/reasons.py` has the gRPC code and the HTTP status of each reason.
    """

    INVALID_ARGUMENT = ("The request is not valid", False)
    IDEMPOTENCY_KEY_MISSING = ("This request needs an Idempotency-Key", False)
    IDEMPOTENCY_KEY_REUSED = ("The Idempotency-Key was used for another request", False)
    REQUEST_ABORTED = ("The request was aborted; use a new key", False)
    INVALID_USER_REFERENCE = ("The user is unknown or inactive", False)
    EMAIL_NOT_VERIFIED = ("The e-mail address is not verified", False)
    INSUFFICIENT_CREDITS = ("Not enough credits", False)
    DAILY_LIMIT_REACHED = ("Today's limit is reached", False)
    SUBSCRIPTION_INACTIVE = ("The subscription is not active", False)
    LESSON_LOCKED = ("The lesson is locked", False)
    ILLEGAL_TRANSITION = ("Not possible in this state", False)
    SESSION_CLOSED = ("The session is closed", False)
    DEADLINE_PASSED = ("The time is over", False)
    ATTEMPTS_EXHAUSTED = ("No attempts are left", False)
    ENGAGEMENT_TOO_LOW = ("Not enough time was spent on it", False)
    IDENTITY_LOCKED = ("The identity check is locked", False)
    VERSION_MISMATCH = ("It was changed in the meantime", False)
    NOT_FOUND = ("Not found", False)
    UNAUTHENTICATED = ("Authentication is needed", False)
    PERMISSION_DENIED = ("Not allowed", False)
    METHOD_NOT_ALLOWED = ("The method is not allowed here", False)
    PAYLOAD_TOO_LARGE = ("The body is too large", False)
    UNSUPPORTED_MEDIA_TYPE = ("The body must be application/json", False)
    RATE_LIMITED = ("Too many requests", True)
    OVERLOADED = ("Overloaded", True)
    UNAVAILABLE = ("Temporarily unavailable", True)
    DEADLINE_EXCEEDED = ("No answer in time; the outcome may be unknown, retry with the same key", True)
    INTERNAL = ("Internal error", False)

    def __init__(self, title: str, retryable: bool) -> None:
        self.title = title
        self.retryable = retryable


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field of the request, as the client wrote it (lowerCamelCase path), and what is wrong with it."""

    field: str
    description: str


class ServiceError(Exception):
    """A refusal that the caller should understand. Every other exception becomes INTERNAL.

    The client sees `metadata`. Numbers stay numbers, and entries that are None are left out.
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


def invalid_field(field: str, description: str) -> ServiceError:
    """The refusal of a request for one field: INVALID_ARGUMENT that names it."""
    return invalid_fields([FieldViolation(field, description)])


def invalid_fields(violations: Sequence[FieldViolation]) -> ServiceError:
    """The refusal of a request for its fields: INVALID_ARGUMENT that names them; the detail is the first."""
    first = violations[0]
    detail = f"{first.field}: {first.description}" if first.field else first.description
    return ServiceError(Reason.INVALID_ARGUMENT, detail, violations=violations)
