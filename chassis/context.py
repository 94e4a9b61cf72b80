"""The context of a request: its caller, its key, its deadline and its trace."""

from __future__ import annotations

import time
from typing import NamedTuple

SERVICE_ROLES = frozenset({"service"})
SAMPLED_DIGITS = frozenset("13579bdf")
"""The last digit of a traceparent whose trace is recorded: the sampled flag is its lowest bit."""


class Claim(NamedTuple):
    """The identity of a keyed mutation: the caller, the RPC and the caller's key."""

    user_id: str
    method: str
    key: str


class Context(NamedTuple):
    """The context of one request. A tuple, because each process makes several for each request.

    `deadline` is in seconds, on the `time.monotonic()` clock of this process. `user_id` is the authenticated
    caller; it is empty when a service calls for itself. `idempotency_key` and `traceparent` are empty when
    the request has none.
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
        """The claim that the request makes with its key."""
        return Claim(self.user_id, self.method, self.idempotency_key)

    @property
    def recorded_trace(self) -> str:
        """The traceparent if its trace is recorded (the sampled flag of W3C Trace Context), else empty."""
        return self.traceparent if self.traceparent[-1:] in SAMPLED_DIGITS else ""

    def remaining_seconds(self) -> float:
        return self.deadline - time.monotonic()

    def on_behalf(self, method: str) -> Context:
        """The context of our own call to another service: with the deadline and the trace of this request."""
        return Context(
            method=method,
            user_id="",
            roles=SERVICE_ROLES,
            idempotency_key="",
            request_id=self.request_id,
            deadline=self.deadline,
            traceparent=self.traceparent,
        )


def service_context(
    method: str, *, timeout_seconds: float, request_id: str = "", traceparent: str = ""
) -> Context:
    """The context of a call that a service makes without a request, such as a relay's or a janitor's call."""
    return Context(
        method=method,
        user_id="",
        roles=SERVICE_ROLES,
        idempotency_key="",
        request_id=request_id,
        deadline=time.monotonic() + timeout_seconds,
        traceparent=traceparent,
    )
