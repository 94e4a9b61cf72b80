"""A request of a keyed mutation, as operations take it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from chassis.context import Context
from chassis.postgres.idempotency import Claim

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class KeyedCall(Generic[R]):
    """Who asks for what, under which key; the fingerprint tells it from another request under that key."""

    call: Context
    fingerprint: bytes
    request: R

    @property
    def claim(self) -> Claim:
        return Claim(self.call.user_id, self.call.method, self.call.idempotency_key)

    @property
    def recorded_trace(self) -> str:
        """The request's traceparent if its trace is recorded, for replays to point to; else empty."""
        flags = self.call.traceparent[-2:] or "00"
        return self.call.traceparent if int(flags, 16) & 1 else ""
