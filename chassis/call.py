"""Who asks, under which key and until when: what travels with every request, alone or in a batch."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Call:
    """The context of one request.

    `deadline` is on this process' `time.monotonic()` clock, in seconds. `user_id` is the authenticated
    caller, or empty when a service calls on its own behalf. `idempotency_key` and `traceparent` are empty
    when there is none.
    """

    method: str
    user_id: str
    roles: frozenset[str]
    idempotency_key: str
    request_id: str
    deadline: float
    traceparent: str

    def remaining_seconds(self) -> float:
        return self.deadline - time.monotonic()


SERVICE_ROLES = frozenset({"service"})


def service_call(method: str, *, timeout_seconds: float, request_id: str = "", traceparent: str = "") -> Call:
    """A call that a service makes on its own behalf: a relay, a janitor, a sweep."""
    return Call(
        method=method,
        user_id="",
        roles=SERVICE_ROLES,
        idempotency_key="",
        request_id=request_id,
        deadline=time.monotonic() + timeout_seconds,
        traceparent=traceparent,
    )
