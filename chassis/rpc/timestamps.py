"""Moments, between protobuf and the domain."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import overload

from google.protobuf.timestamp_pb2 import Timestamp

from chassis.errors import invalid_field

# As in the contract: from 2000-01-01, before 2100-01-01.
SECONDS_MIN = 946_684_800
SECONDS_MAX = 4_102_444_800


@overload
def timestamp(moment: datetime) -> Timestamp: ...
@overload
def timestamp(moment: datetime | None) -> Timestamp | None: ...
def timestamp(moment: datetime | None) -> Timestamp | None:
    """A moment as a message. None stays None, which leaves the field absent."""
    return None if moment is None else _timestamp(moment)


def moment_of(message: Timestamp, field: str) -> datetime:
    """A message as a moment in UTC.

    Raises:
        ServiceError: INVALID_ARGUMENT, which names the field, for a moment out of range.
    """
    if not SECONDS_MIN <= message.seconds < SECONDS_MAX:
        raise invalid_field(field, "must lie between the years 2000 and 2100")
    try:
        return message.ToDatetime(tzinfo=UTC)
    except ValueError as error:  # the contract has no rule for the nanoseconds
        raise invalid_field(field, "must have 0 to 999,999,999 nanoseconds") from error


# The rows of a batch often share a moment, so most moments are converted once.
@lru_cache(maxsize=64)
def _timestamp(moment: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(moment)
    return message
