"""What a client hears when the database would not have its request, however often it was tried."""

from __future__ import annotations

from chassis.telemetry.logs import get_logger

from chassis.postgres.errors import (
    ConstraintViolation,
    DataRefused,
    InvalidValue,
    LockTimeout,
    OutcomeUnknown,
    ViolationKind,
)
from chassis.errors import Reason, ServiceError

RETRY_AFTER_SECONDS = 0.25

log = get_logger(__name__)


def busy(detail: str = "") -> ServiceError:
    """Nothing is wrong with the request: the same one, sent again, will be answered."""
    return ServiceError(Reason.UNAVAILABLE, detail, retry_after_seconds=RETRY_AFTER_SECONDS)


def refusal_of(trouble: DataRefused | LockTimeout | OutcomeUnknown) -> ServiceError:
    """The answer to the one request that this trouble is about."""
    if isinstance(trouble, InvalidValue):
        return ServiceError(Reason.INVALID_ARGUMENT, "A value holds a character that cannot be stored")
    lost_a_race = isinstance(trouble, ConstraintViolation) and trouble.kind is ViolationKind.UNIQUE
    if lost_a_race or isinstance(trouble, LockTimeout | OutcomeUnknown):
        return busy()
    log.error("database_refused_request", problem=str(trouble))
    return ServiceError(Reason.INTERNAL)
