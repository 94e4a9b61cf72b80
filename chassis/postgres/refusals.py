"""The refusal table of all services: the ServiceError for each refusal of the database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from chassis.errors import Reason, ServiceError
from chassis.postgres.errors import ConstraintViolation, DataRefused, InvalidValue, ViolationKind
from chassis.telemetry.logs import get_logger

BUSY_RETRY_AFTER_SECONDS = 0.1

# A constraint's name, and the refusal that it stands for.
Meanings = Mapping[str, Callable[[], ServiceError]]
NO_MEANINGS: Meanings = MappingProxyType({})

# Refusals with these reasons are about the database, an upstream or the time, never about one request.
ABOUT_ALL = frozenset({Reason.UNAVAILABLE, Reason.DEADLINE_EXCEEDED, Reason.OVERLOADED})

log = get_logger(__name__)


def busy(detail: str = "") -> ServiceError:
    """UNAVAILABLE: the request is valid, and it should be sent again."""
    return ServiceError(Reason.UNAVAILABLE, detail, retry_after_seconds=BUSY_RETRY_AFTER_SECONDS)


def refusal_of(error: DataRefused, meanings: Meanings = NO_MEANINGS) -> ServiceError:
    """The refusal of the one request that the database refused.

    A unique constraint without a meaning is a lost race: a retry finds the row that the winner wrote. Any
    other constraint without a meaning is a rule that the contract should have as well; the log names it.
    """
    if isinstance(error, InvalidValue):
        return ServiceError(Reason.INVALID_ARGUMENT, "A value cannot be stored")
    constraint = error.constraint if isinstance(error, ConstraintViolation) else ""
    if constraint in meanings:
        return meanings[constraint]()
    if isinstance(error, ConstraintViolation) and error.kind is ViolationKind.UNIQUE:
        return busy()
    log.error("request_refused_by_database", constraint=constraint, problem=str(error))
    return ServiceError(Reason.INVALID_ARGUMENT, "The values contradict each other")
