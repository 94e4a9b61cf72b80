"""Calls to subscription_service: holds placed, resolved and listed, and the events that resolve them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chassis.batch import Reply
from chassis.context import SERVICE_ROLES, Context, service_context
from chassis.rpc.client import Upstream
from chassis.errors import Reason, ServiceError
from chassis.postgres.outbox import OutboxEvent, event_id
from protos.subscription.v1 import holds_pb2
from session_service.domain.holds import HoldRequest, HoldState, OpenHold, subject_test
from session_service.domain.ids import NAMESPACE, HoldId

COMMIT_TOPIC = "subscription.CommitHold"
RELEASE_TOPIC = "subscription.ReleaseHold"

_SERVICE = "/homeroom.subscription.v1.HoldService"
PLACE_HOLD = f"{_SERVICE}/PlaceHold"
COMMIT_HOLD = f"{_SERVICE}/CommitHold"
RELEASE_HOLD = f"{_SERVICE}/ReleaseHold"
LIST_OPEN_HOLDS = f"{_SERVICE}/ListOpenHolds"

RESOLVE_SECONDS_MAX = 5.0

_STATES = {
    holds_pb2.Hold.OPEN: HoldState.OPEN,
    holds_pb2.Hold.COMMITTED: HoldState.COMMITTED,
    holds_pb2.Hold.RELEASED: HoldState.RELEASED,
}


@dataclass(frozen=True, slots=True)
class HoldPage:
    """Some open holds, and where the next ones begin; empty at the end."""

    holds: list[OpenHold]
    next_page_token: str


class SubscriptionClient:
    """What session_service asks of subscription_service."""

    def __init__(self, *, upstream: Upstream) -> None:
        self._upstream = upstream

    async def place_holds(
        self, wanted: Sequence[tuple[HoldRequest, Context]]
    ) -> list[HoldState | ServiceError | None]:
        """Place each hold on behalf of its call, in this order; what came of it, in the same order.

        None: another open hold of this learner has the same subject, and nothing was taken. A key whose hold
        was placed for another test is refused: that hold may have taken less.
        """
        outcomes = await self._upstream.call_many(
            PLACE_HOLD, [(_place_request(request), _on_behalf(call)) for request, call in wanted]
        )
        return [
            outcome if isinstance(outcome, ServiceError) else _state_of(outcome.message, request)
            for outcome, (request, _) in zip(outcomes, wanted, strict=True)
        ]

    async def release_holds(self, holds: Sequence[tuple[str, HoldId]]) -> list[ServiceError | None]:
        """Give back the units of these holds (user and hold id); None for each that is released now."""
        return await self._resolve(
            RELEASE_HOLD,
            [
                (
                    holds_pb2.ReleaseHoldRequest(user_id=user_id, hold_id=str(hold_id)),
                    service_context(RELEASE_HOLD, timeout_seconds=RESOLVE_SECONDS_MAX),
                )
                for user_id, hold_id in holds
            ],
        )

    async def commit_holds(self, holds: Sequence[tuple[str, HoldId]]) -> list[ServiceError | None]:
        """Spend the units of these holds (user and hold id); None for each that is committed now."""
        return await self._resolve(
            COMMIT_HOLD,
            [
                (
                    holds_pb2.CommitHoldRequest(user_id=user_id, hold_id=str(hold_id)),
                    service_context(COMMIT_HOLD, timeout_seconds=RESOLVE_SECONDS_MAX),
                )
                for user_id, hold_id in holds
            ],
        )

    async def list_open_holds(
        self, method: str, *, older_than_seconds: float, page_size: int, page_token: str
    ) -> HoldPage:
        """Open holds of at least this age of this method's requests, oldest first; raises ServiceError."""
        reply = await self._upstream.call(
            LIST_OPEN_HOLDS,
            holds_pb2.ListOpenHoldsRequest(
                method=method,
                older_than_seconds=older_than_seconds,
                page_size=page_size,
                page_token=page_token,
            ),
            service_context(LIST_OPEN_HOLDS, timeout_seconds=RESOLVE_SECONDS_MAX),
        )
        page: Any = reply.message
        return HoldPage(
            holds=[
                OpenHold(hold.user_id, HoldId(uuid.UUID(hold.hold_id)), hold.method, hold.idempotency_key)
                for hold in page.holds
            ],
            next_page_token=page.next_page_token,
        )

    async def deliver_commits(self, events: list[OutboxEvent]) -> Sequence[ServiceError | None]:
        """Deliver events of COMMIT_TOPIC."""
        return await self._resolve(
            COMMIT_HOLD,
            [
                (holds_pb2.CommitHoldRequest.FromString(event.payload), _delivery(COMMIT_HOLD, event))
                for event in events
            ],
        )

    async def deliver_releases(self, events: list[OutboxEvent]) -> Sequence[ServiceError | None]:
        """Deliver events of RELEASE_TOPIC."""
        return await self._resolve(
            RELEASE_HOLD,
            [
                (holds_pb2.ReleaseHoldRequest.FromString(event.payload), _delivery(RELEASE_HOLD, event))
                for event in events
            ],
        )

    async def _resolve(self, method: str, requests: Sequence[tuple[Any, Context]]) -> list[ServiceError | None]:
        outcomes = await self._upstream.call_many(method, requests)
        return [None if isinstance(outcome, Reply) else outcome for outcome in outcomes]


def commit_event(user_id: str, hold_id: HoldId, *, traceparent: str) -> OutboxEvent:
    """Says later, at least once, that a hold is spent."""
    payload = holds_pb2.CommitHoldRequest(user_id=user_id, hold_id=str(hold_id)).SerializeToString()
    return OutboxEvent(
        user_id, event_id(NAMESPACE, str(hold_id), COMMIT_TOPIC), COMMIT_TOPIC, payload, traceparent
    )


def release_event(user_id: str, hold_id: HoldId, *, traceparent: str) -> OutboxEvent:
    """Says later, at least once, that a hold is given back."""
    payload = holds_pb2.ReleaseHoldRequest(user_id=user_id, hold_id=str(hold_id)).SerializeToString()
    return OutboxEvent(
        user_id, event_id(NAMESPACE, str(hold_id), RELEASE_TOPIC), RELEASE_TOPIC, payload, traceparent
    )


def _place_request(request: HoldRequest) -> holds_pb2.PlaceHoldRequest:
    return holds_pb2.PlaceHoldRequest(
        user_id=request.user_id,
        hold_id=str(request.hold_id),
        tests=request.tests,
        credits=request.credits,
        subject=request.subject,
        method=request.method,
        idempotency_key=request.key,
    )


def _state_of(response: Any, request: HoldRequest) -> HoldState | ServiceError | None:
    if not response.HasField("hold"):
        return None
    state = _STATES[response.hold.state]
    if state is HoldState.OPEN and subject_test(response.hold.subject) != subject_test(request.subject):
        return ServiceError(Reason.IDEMPOTENCY_KEY_REUSED)
    return state


def _on_behalf(call: Context) -> Context:
    """Our own call, within the time and the trace of the learner's."""
    return Context(
        method=PLACE_HOLD,
        user_id="",
        roles=SERVICE_ROLES,
        idempotency_key="",
        request_id=call.request_id,
        deadline=call.deadline,
        traceparent=call.traceparent,
    )


def _delivery(method: str, event: OutboxEvent) -> Context:
    return service_context(method, timeout_seconds=RESOLVE_SECONDS_MAX, traceparent=event.traceparent)
