"""What a start asks and what comes of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgspec


class StartRequest(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    test_id: str
    title: str | None = None
    difficulty: str | None = None
    duration_minutes: int | None = None
    metadata: dict[str, str] = {}

    def __post_init__(self) -> None:
        """Raises ValueError (msgspec's own, to a decoding caller) for what the types cannot say."""
        if not 1 <= len(self.test_id) <= 128:
            raise ValueError("testId must have 1 to 128 characters")
        if self.title is not None and not 1 <= len(self.title) <= 300:
            raise ValueError("title must have 1 to 300 characters")
        if self.difficulty is not None and len(self.difficulty) > 50:
            raise ValueError("difficulty must have at most 50 characters")
        if self.duration_minutes is not None and not 1 <= self.duration_minutes <= 43200:
            raise ValueError("durationMinutes must be from 1 to 43200")
        if len(self.metadata) > 50:
            raise ValueError("metadata must have at most 50 entries")
        if any(not 1 <= len(name) <= 100 or len(value) > 1000 for name, value in self.metadata.items()):
            raise ValueError("metadata names have 1 to 100 characters, values at most 1000")


@dataclass(frozen=True, slots=True)
class Started:
    status: int
    body: str
    replayed: bool = False


class StartRefusedError(Exception):
    """The learner may not start; says the HTTP status and a machine's reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def fingerprint(raw: bytes) -> bytes:
    """Tells one body from another under the same key."""
    return hashlib.sha256(raw).digest()
