"""Times and ids between the contract and the domain."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import overload

from google.protobuf.timestamp_pb2 import Timestamp

from chassis.context import Claim


@overload
def timestamp(moment: datetime) -> Timestamp: ...
@overload
def timestamp(moment: datetime | None) -> Timestamp | None: ...
def timestamp(moment: datetime | None) -> Timestamp | None:
    """A time as a message; None stays None, which leaves the field absent."""
    if moment is None:
        return None
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def operation_id(claim: Claim) -> uuid.UUID:
    """The one id of everything that one key of one caller asks for."""
    return uuid.uuid5(_OPERATIONS, f"{claim.user_id}\n{claim.method}\n{claim.key}")


_OPERATIONS = uuid.UUID("6f1f2c0e-52f4-4b8e-9a5e-3c9c1f0a7b11")
