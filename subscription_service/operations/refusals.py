"""What a client hears when the database would not have its request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from chassis.errors import Reason, ServiceError
from chassis.telemetry.logs import get_logger
from chassis.postgres import ConstraintViolation, DataRefused, InvalidValue

Meanings = Mapping[str, Callable[[], ServiceError]]

log = get_logger(__name__)


def refusal_of(
    _request: object, error: DataRefused, *, meanings: Meanings = MappingProxyType({})
) -> ServiceError:
    """The answer to the one request that is to blame; `meanings` has those of constraints, by their names."""
    if isinstance(error, InvalidValue):
        return ServiceError(Reason.INVALID_ARGUMENT, "A value cannot be stored")
    constraint = error.constraint if isinstance(error, ConstraintViolation) else ""
    if constraint in meanings:
        return meanings[constraint]()
    log.error("refused by the database", constraint=constraint, exc_info=error)
    return ServiceError(Reason.INTERNAL)
