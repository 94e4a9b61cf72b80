"""Calls to subscription_service: licenses that follow progress, and their changes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from chassis.context import service_context
from chassis.errors import ServiceError
from chassis.postgres.outbox import OutboxEvent
from chassis.rpc.client import Upstream
from chassis.rpc.deliveries import DELIVERY_SECONDS_MAX, refusals_of
from progress_service.domain.license_orders import LicenseOrder
from protos.subscription.v1 import licenses_pb2

_SERVICE = "/homeroom.subscription.v1.LicenseService"
APPLY_LICENSE_LEVEL = f"{_SERVICE}/ApplyLicenseLevel"
RESET_LICENSE = f"{_SERVICE}/ResetLicense"
WATCH_LICENSES = f"{_SERVICE}/WatchLicenses"


class SubscriptionClient:
    """What progress_service asks of subscription_service."""

    def __init__(self, *, upstream: Upstream) -> None:
        self._upstream = upstream

    async def deliver_orders(self, events: list[OutboxEvent]) -> Sequence[ServiceError | None]:
        """Deliver events of LICENSE_TOPIC: the resets first, then the levels."""
        orders = [LicenseOrder.parse(event.payload) for event in events]
        answers: list[ServiceError | None] = [None] * len(events)
        for path, reset in ((RESET_LICENSE, True), (APPLY_LICENSE_LEVEL, False)):
            places = [place for place, order in enumerate(orders) if order.reset is reset]
            requests = [
                (
                    _message(orders[place], event_id=str(events[place].event_id)),
                    service_context(
                        path,
                        timeout_seconds=DELIVERY_SECONDS_MAX,
                        traceparent=events[place].traceparent,
                    ),
                )
                for place in places
            ]
            if requests:
                for place, answer in zip(
                    places, await refusals_of(self._upstream, path, requests), strict=True
                ):
                    answers[place] = answer
        return answers

    async def watch_licenses(self, *, after_sequence: int) -> AsyncIterator[Any]:
        """Follow the changes of all licenses after a sequence number, as messages, until the stream ends.

        Raises ServiceError.
        """
        request = licenses_pb2.WatchLicensesRequest(after_sequence=after_sequence)
        context = service_context(WATCH_LICENSES, timeout_seconds=DELIVERY_SECONDS_MAX)
        async for message in self._upstream.stream(WATCH_LICENSES, request, context):
            yield message


def _message(
    order: LicenseOrder, *, event_id: str
) -> licenses_pb2.ApplyLicenseLevelRequest | licenses_pb2.ResetLicenseRequest:
    if order.reset:
        return licenses_pb2.ResetLicenseRequest(
            user_id=order.user_id,
            specialization=order.specialization,
            to_level=order.level,
            max_level=order.max_level,
            event_id=event_id,
            by=order.ordered_by,
            reason=order.reason,
            epoch=order.epoch,
        )
    return licenses_pb2.ApplyLicenseLevelRequest(
        user_id=order.user_id,
        specialization=order.specialization,
        level=order.level,
        max_level=order.max_level,
        event_id=event_id,
        reason=order.reason,
        epoch=order.epoch,
    )
