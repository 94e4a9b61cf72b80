"""Calls to subscription_service: holds placed, resolved and listed, and the events that resolve them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from chassis.context import Context, service_context
from chassis.errors import Reason, ServiceError
from chassis.postgres.outbox import OutboxEvent, event_id
from chassis.rpc.client import Upstream
from chassis.rpc.deliveries import DELIVERY_SECONDS_MAX, deliver, refusals_of
from chassis.rpc.timestamps import moment_of, timestamp
from protos.subscription.v1 import hold_checks_pb2, holds_pb2
from session_service.domain.holds import (
    HoldName,
    HoldPosition,
    HoldRequest,
    HoldState,
    OpenHold,
    SubjectTaken,
    subject_test,
)
from session_service.domain.ids import NAMESPACE, HoldId

COMMIT_TOPIC = "subscription.CommitHold"
RELEASE_TOPIC = "subscription.ReleaseHold"

_SERVICE = "/homeroom.subscription.v1.HoldService"
PLACE_HOLD = f"{_SERVICE}/PlaceHold"
COMMIT_HOLD = f"{_SERVICE}/CommitHold"
RELEASE_HOLD = f"{_SERVICE}/ReleaseHold"
LIST_OPEN_HOLDS = f"{_SERVICE}/ListOpenHolds"
FIND_HOLDS = "/homeroom.subscription.v1.HoldCheckService/FindHolds"

RESOLVE_SECONDS_MAX = 5.0
# What the contract allows in one call.
NAMES_MAX = 500
# A learner who ends a session waits for this; so do the others of the same batch.
GIVE_BACK_SECONDS_MAX = 0.25

_STATES = {
    holds_pb2.Hold.OPEN: HoldState.OPEN,
    holds_pb2.Hold.COMMITTED: HoldState.COMMITTED,
    holds_pb2.Hold.RELEASED: HoldState.RELEASED,
}


@dataclass(frozen=True, slots=True)
class HoldPage:
    """Some open holds, and whether there are more behind them."""

    holds: list[OpenHold]
    more: bool


class SubscriptionClient:
    """What session_service asks of subscription_service."""

    def __init__(self, *, upstream: Upstream) -> None:
        self._upstream = upstream

    async def place_holds(
        self, wanted: Sequence[tuple[HoldRequest, Context]]
    ) -> list[HoldState | SubjectTaken | ServiceError]:
        """Place each hold on behalf of its request, in this order; what became of it, in the same order.

        A key whose hold was placed for another test is refused: that hold may have taken less.
        """
        outcomes = await self._upstream.call_many(
            PLACE_HOLD,
            [(_place_request(request), context.on_behalf(PLACE_HOLD)) for request, context in wanted],
        )
        return [
            outcome if isinstance(outcome, ServiceError) else _state_of(outcome.message, request)
            for outcome, (request, _) in zip(outcomes, wanted, strict=True)
        ]

    async def give_back(self, holds: Sequence[HoldName]) -> None:
        """Release these holds now, if that is possible within GIVE_BACK_SECONDS_MAX.

        A failure is not reported: the release of each hold must also be in the outbox.
        """
        await self._resolve(RELEASE_HOLD, holds, timeout_seconds=GIVE_BACK_SECONDS_MAX)

    async def release_holds(self, holds: Sequence[HoldName]) -> list[ServiceError | None]:
        """Give back the units of these holds; None for each that is released now."""
        return await self._resolve(RELEASE_HOLD, holds)

    async def commit_holds(self, holds: Sequence[HoldName]) -> list[ServiceError | None]:
        """Spend the units of these holds; None for each that is committed now."""
        return await self._resolve(COMMIT_HOLD, holds)

    async def list_open_holds(
        self, method: str, *, older_than_seconds: float, page_size: int, after: HoldPosition | None
    ) -> HoldPage:
        """Open holds of at least this age of this method's requests, oldest first, those behind `after`.

        Raises ServiceError.
        """
        request = holds_pb2.ListOpenHoldsRequest(
            method=method, older_than_seconds=older_than_seconds, page_size=page_size
        )
        if after is not None:
            request.placed_after.CopyFrom(
                holds_pb2.OpenHoldPosition(
                    placed_at=timestamp(after.placed_at), user_id=after.user_id, hold_id=str(after.hold_id)
                )
            )
        context = service_context(LIST_OPEN_HOLDS, timeout_seconds=RESOLVE_SECONDS_MAX)
        page: Any = (await self._upstream.call(LIST_OPEN_HOLDS, request, context)).message
        return HoldPage([_open_hold(hold) for hold in page.holds], more=bool(page.next_page_token))

    async def find_holds(self, holds: Collection[HoldName], *, deadline: float) -> dict[HoldName, HoldState]:
        """What became of these holds; one that does not exist is absent. Raises ServiceError."""
        ordered = sorted(holds)
        found: dict[HoldName, HoldState] = {}
        for first in range(0, len(ordered), NAMES_MAX):
            request = hold_checks_pb2.FindHoldsRequest(
                holds=[
                    hold_checks_pb2.HoldName(user_id=hold.user_id, hold_id=str(hold.hold_id))
                    for hold in ordered[first : first + NAMES_MAX]
                ]
            )
            seconds = min(RESOLVE_SECONDS_MAX, deadline - time.monotonic())
            context = service_context(FIND_HOLDS, timeout_seconds=seconds)
            response: Any = (await self._upstream.call(FIND_HOLDS, request, context)).message
            found |= {
                HoldName(hold.user_id, HoldId(uuid.UUID(hold.hold_id))): _STATES[hold.state]
                for hold in response.holds
            }
        return found

    async def deliver_commits(self, events: list[OutboxEvent]) -> Sequence[ServiceError | None]:
        """Deliver events of COMMIT_TOPIC."""
        return await deliver(self._upstream, COMMIT_HOLD, events)

    async def deliver_releases(
        self, events: Sequence[OutboxEvent], *, timeout_seconds: float = DELIVERY_SECONDS_MAX
    ) -> list[ServiceError | None]:
        """Deliver events of RELEASE_TOPIC."""
        return await deliver(self._upstream, RELEASE_HOLD, events, timeout_seconds=timeout_seconds)

    async def _resolve(
        self, path: str, holds: Sequence[HoldName], *, timeout_seconds: float = RESOLVE_SECONDS_MAX
    ) -> list[ServiceError | None]:
        context = service_context(path, timeout_seconds=timeout_seconds)
        return await refusals_of(self._upstream, path, [(_RESOLVING[path](hold), context) for hold in holds])


def commit_event(hold: HoldName, *, traceparent: str) -> OutboxEvent:
    """The event that commits a hold, at least once."""
    return _event(COMMIT_TOPIC, hold, _commit_request(hold), traceparent)


def release_event(hold: HoldName, *, traceparent: str) -> OutboxEvent:
    """The event that releases a hold, at least once."""
    return _event(RELEASE_TOPIC, hold, _release_request(hold), traceparent)


def resolving_event_ids(hold: HoldName) -> list[uuid.UUID]:
    """The ids of the events that commit or release a hold."""
    return [_event_id(topic, hold) for topic in (COMMIT_TOPIC, RELEASE_TOPIC)]


def _event_id(topic: str, hold: HoldName) -> uuid.UUID:
    return event_id(NAMESPACE, str(hold.hold_id), topic)


def _event(topic: str, hold: HoldName, request: Message, traceparent: str) -> OutboxEvent:
    return OutboxEvent(
        hold.user_id,
        _event_id(topic, hold),
        topic,
        request.SerializeToString(),
        traceparent,
    )


def _commit_request(hold: HoldName) -> Message:
    return holds_pb2.CommitHoldRequest(user_id=hold.user_id, hold_id=str(hold.hold_id))


def _release_request(hold: HoldName) -> Message:
    return holds_pb2.ReleaseHoldRequest(user_id=hold.user_id, hold_id=str(hold.hold_id))


_RESOLVING = {COMMIT_HOLD: _commit_request, RELEASE_HOLD: _release_request}


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


def _state_of(response: Any, request: HoldRequest) -> HoldState | SubjectTaken | ServiceError:
    if not response.HasField("hold"):
        return SubjectTaken(_open_hold(response.rival) if response.HasField("rival") else None)
    state = _STATES[response.hold.state]
    if state is HoldState.OPEN and subject_test(response.hold.subject) != subject_test(request.subject):
        return ServiceError(Reason.IDEMPOTENCY_KEY_REUSED)
    return state


def _open_hold(hold: Any) -> OpenHold:
    return OpenHold(
        hold.user_id,
        HoldId(uuid.UUID(hold.hold_id)),
        hold.method,
        hold.idempotency_key,
        moment_of(hold.placed_at, "placedAt"),
    )
