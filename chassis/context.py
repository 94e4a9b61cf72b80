"""Who asks, under which key and until when: what travels with every request, alone or in a batch."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import NamedTuple

SERVICE_ROLES = frozenset({"service"})


class Claim(NamedTuple):
    """Names a keyed mutation: the caller, the RPC and the caller's key."""

    user_id: str
    method: str
    key: str


@dataclass(frozen=True, slots=True)
class Context:
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

    @property
    def claim(self) -> Claim:
        """What the request claims with its key."""
        return Claim(self.user_id, self.method, self.idempotency_key)

    @property
    def recorded_trace(self) -> str:
        """The traceparent if its trace is recorded (the sampled flag of W3C Trace Context), else empty."""
        return self.traceparent if int(self.traceparent[-2:] or "0", 16) & 1 else ""

    def remaining_seconds(self) -> float:
        return self.deadline - time.monotonic()

    def on_behalf(self, method: str) -> Context:
        """The context of our own call to another service, within the time and the trace of this request."""
        return replace(self, method=method, user_id="", roles=SERVICE_ROLES, idempotency_key="")


def service_context(
    method: str, *, timeout_seconds: float, request_id: str = "", traceparent: str = ""
) -> Context:
    """The context of a call that a service makes without a request: a relay, a janitor, a sweep."""
    return Context(
        method=method,
        user_id="",
        roles=SERVICE_ROLES,
        idempotency_key="",
        request_id=request_id,
        deadline=time.monotonic() + timeout_seconds,
        traceparent=traceparent,
    )
