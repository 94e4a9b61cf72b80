"""The identifiers of a session: its own, and that of the hold that pays for it."""

from __future__ import annotations

import uuid
from typing import NewType

from chassis.ids import named_uuid, parse_uuid

SessionId = NewType("SessionId", uuid.UUID)
HoldId = NewType("HoldId", uuid.UUID)

NAMESPACE = uuid.UUID("6f1c7f0e-6a0b-5d0c-9a53-5e55107e0001")
"""Under which hold and event ids are made from names; changing it would make every retry a new hold."""


def hold_id_of(user_id: str, method: str, key: str) -> HoldId:
    """The hold of a request: the same for every retry of it, so that none takes a second unit."""
    return HoldId(named_uuid(NAMESPACE, f"{user_id}\n{method}\n{key}"))


def parse_session_id(text: str) -> SessionId | None:
    """The session id that this text spells; None for any other text."""
    parsed = parse_uuid(text)
    return None if parsed is None else SessionId(parsed)
