"""Ids that a request's key stands for."""

from __future__ import annotations

import uuid

from chassis.context import Claim
from chassis.ids import named_uuid


def operation_id(claim: Claim) -> uuid.UUID:
    """The one id of everything that one key of one caller asks for."""
    return named_uuid(_OPERATIONS, f"{claim.user_id}\n{claim.method}\n{claim.key}")


_OPERATIONS = uuid.UUID("6f1f2c0e-52f4-4b8e-9a5e-3c9c1f0a7b11")
