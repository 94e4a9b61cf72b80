"""Calls to subscription_service: licenses that follow progress, and their changes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from chassis.context import Context, service_context
from chassis.errors import ServiceError
from chassis.postgres.outbox import OutboxEvent
from chassis.rpc.client import Upstream
from chassis.rpc.deliveries import DELIVERY_SECONDS_MAX, refusals_of
from progress_service.domain.desyncs import Key, LicenseLevel, ProgressLevel, Slice
from progress_service.domain.license_changes import LicenseChange
from progress_service.domain.license_orders import LicenseOrder
from progress_service.domain.statistics import UserId
from progress_service.domain.sync_runs import Change, RunId
from protos.subscription.v1 import license_levels_pb2, licenses_pb2

_SERVICE = "/homeroom.subscription.v1.LicenseService"
APPLY_LICENSE_LEVEL = f"{_SERVICE}/ApplyLicenseLevel"
RESET_LICENSE = f"{_SERVICE}/ResetLicense"
WATCH_LICENSES = f"{_SERVICE}/WatchLicenses"
_LEVEL_SERVICE = "/homeroom.subscription.v1.LicenseLevelService"
LIST_LICENSE_LEVELS = f"{_LEVEL_SERVICE}/ListLicenseLevels"
MIRROR_LEVEL = f"{_LEVEL_SERVICE}/MirrorLevel"

LEVELS_PER_PAGE_MAX = 1000
MIRROR_SECONDS_MAX = 5.0


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

    async def list_license_levels(
        self, *, after: Key | None, specialization: str, user_id: str, limit: int, deadline: float
    ) -> Slice[LicenseLevel]:
        """Licenses behind a key: of one specialization, or of one learner, unless these are empty.

        There may be fewer than `limit`, which is at most LEVELS_PER_PAGE_MAX, although there are more behind
        them. Raises ServiceError.
        """
        request = license_levels_pb2.ListLicenseLevelsRequest(
            page_size=limit, specialization=specialization or None, user_id=user_id or None
        )
        if after is not None:
            request.after.specialization, request.after.user_id = after
        context = _until(LIST_LICENSE_LEVELS, deadline)
        page: Any = (await self._upstream.call(LIST_LICENSE_LEVELS, request, context)).message
        return Slice([_license_level(level) for level in page.levels], more=bool(page.next_page_token))

    async def mirror_levels(
        self, run_id: RunId, changes: Sequence[tuple[Change, ProgressLevel]], *, by: str, reason: str
    ) -> list[Change | ServiceError]:
        """Let the licenses follow the progress, each once for a run; how each change has ended.

        The levels are positive. At most 256 changes may be sent at once.
        """
        context = service_context(MIRROR_LEVEL, timeout_seconds=MIRROR_SECONDS_MAX)
        requests = [
            (
                license_levels_pb2.MirrorLevelRequest(
                    user_id=progress.user_id,
                    specialization=progress.specialization,
                    level=progress.level,
                    max_level=progress.max_level,
                    epoch=progress.epoch,
                    event_id=str(change.event_id(run_id, progress)),
                    by=by,
                    reason=reason,
                ),
                context,
            )
            for change, progress in changes
        ]
        outcomes = await self._upstream.call_many(MIRROR_LEVEL, requests)
        return [
            outcome if isinstance(outcome, ServiceError) else _mirrored(change, progress, outcome.message)
            for (change, progress), outcome in zip(changes, outcomes, strict=True)
        ]

    async def watch_licenses(self, *, after_sequence: int) -> AsyncIterator[LicenseChange]:
        """Follow the changes of all licenses after a sequence number, until the stream ends.

        Raises ServiceError.
        """
        request = licenses_pb2.WatchLicensesRequest(after_sequence=after_sequence)
        context = service_context(WATCH_LICENSES, timeout_seconds=DELIVERY_SECONDS_MAX)
        async for message in self._upstream.stream(WATCH_LICENSES, request, context):
            yield _change(message)


def _change(message: licenses_pb2.WatchLicensesResponse) -> LicenseChange:
    before_origins = message.origin == licenses_pb2.WatchLicensesResponse.ORIGIN_UNSPECIFIED
    return LicenseChange(
        sequence=message.sequence,
        user_id=UserId(message.license.user_id),
        specialization=message.license.specialization,
        level=message.license.level,
        max_level=message.license.max_level,
        epoch=message.epoch,
        advanced=message.origin == licenses_pb2.WatchLicensesResponse.ADVANCE
        or (before_origins and message.progression.by != "progress_service"),
    )


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


def _until(path: str, deadline: float) -> Context:
    return service_context(path, timeout_seconds=deadline - time.monotonic())


def _license_level(level: Any) -> LicenseLevel:
    return LicenseLevel(
        user_id=UserId(level.user_id),
        specialization=level.specialization,
        level=level.level,
        epoch=level.epoch,
        age_seconds=level.age_seconds,
    )


def _mirrored(change: Change, progress: ProgressLevel, response: Any) -> Change:
    return change.mirrored(
        progress, license_before=response.level_before, license_after=response.license.level
    )
