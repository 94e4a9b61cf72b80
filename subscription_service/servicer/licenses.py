"""LicenseService: messages to licenses and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from chassis.batch import Item, Reply
from chassis.errors import ServiceError
from protos.subscription.v1 import licenses_pb2 as pb
from subscription_service.domain.licenses import LevelAdvance, LevelReached, LevelReset, License, Progression
from subscription_service.operations.license_feed import LicenseFeed
from subscription_service.operations.licenses import LicenseOperations
from subscription_service.servicer.batches import deadline_of, keyed, operation_id, replies, timestamp
from subscription_service.servicer.paging import make_token, number_in, page_size, text_in
from subscription_service.store.license_reads import SequencedProgression


class LicenseServicer:
    def __init__(self, *, operations: LicenseOperations, feed: LicenseFeed) -> None:
        self._operations = operations
        self._feed = feed

    async def ListMyLicenses(
        self, batch: list[Item[pb.ListMyLicensesRequest]]
    ) -> list[Reply[pb.ListMyLicensesResponse] | ServiceError]:
        async def mine(
            item: Item[pb.ListMyLicensesRequest],
        ) -> Reply[pb.ListMyLicensesResponse] | ServiceError:
            page = await self._page(item, item.call.user_id, of_inactive=False)
            if isinstance(page, ServiceError):
                return page
            licenses, token = page
            return Reply(pb.ListMyLicensesResponse(licenses=licenses, next_page_token=token))

        return list(await asyncio.gather(*map(mine, batch)))

    async def ListLicenses(
        self, batch: list[Item[pb.ListLicensesRequest]]
    ) -> list[Reply[pb.ListLicensesResponse] | ServiceError]:
        async def of_learner(
            item: Item[pb.ListLicensesRequest],
        ) -> Reply[pb.ListLicensesResponse] | ServiceError:
            page = await self._page(item, item.request.user_id, of_inactive=True)
            if isinstance(page, ServiceError):
                return page
            licenses, token = page
            return Reply(pb.ListLicensesResponse(licenses=licenses, next_page_token=token))

        return list(await asyncio.gather(*map(of_learner, batch)))

    async def GetLicenseHistory(
        self, batch: list[Item[pb.GetLicenseHistoryRequest]]
    ) -> list[Reply[pb.GetLicenseHistoryResponse] | ServiceError]:
        return list(await asyncio.gather(*map(self._history, batch)))

    async def AdvanceLicense(
        self, batch: list[Item[pb.AdvanceLicenseRequest]]
    ) -> list[Reply[Any] | ServiceError]:
        return await self._operations.advance_licenses(
            [keyed(item, _advance(item)) for item in batch],
            render=lambda license_: pb.AdvanceLicenseResponse(license=_message(license_)).SerializeToString(),
            deadline=deadline_of(batch),
        )

    async def ApplyLicenseLevel(
        self, batch: list[Item[pb.ApplyLicenseLevelRequest]]
    ) -> list[Reply[pb.ApplyLicenseLevelResponse] | ServiceError]:
        outcomes = await self._operations.change_licenses(
            [_reached(item.request) for item in batch], deadline=deadline_of(batch)
        )
        return replies(outcomes, lambda license_: pb.ApplyLicenseLevelResponse(license=_message(license_)))

    async def ResetLicense(
        self, batch: list[Item[pb.ResetLicenseRequest]]
    ) -> list[Reply[pb.ResetLicenseResponse] | ServiceError]:
        outcomes = await self._operations.change_licenses(
            [_reset(item.request) for item in batch], deadline=deadline_of(batch)
        )
        return replies(outcomes, lambda license_: pb.ResetLicenseResponse(license=_message(license_)))

    async def WatchLicenses(
        self, item: Item[pb.WatchLicensesRequest]
    ) -> AsyncIterator[pb.WatchLicensesResponse]:
        async for change in self._feed.watch(after=item.request.after_sequence, deadline=item.call.deadline):
            yield _watched(change)

    async def _page(
        self, item: Item[Any], user_id: str, *, of_inactive: bool
    ) -> tuple[list[pb.License], str] | ServiceError:
        limit = page_size(item.request.page_size)
        try:
            licenses = await self._operations.list_licenses(
                user_id=user_id,
                after=text_in(item.request.page_token),
                limit=limit,
                of_inactive=of_inactive,
                deadline=item.call.deadline,
            )
        except ServiceError as error:
            return error
        token = make_token(licenses[-1].specialization) if len(licenses) == limit else ""
        return [_message(license_) for license_ in licenses], token

    async def _history(
        self, item: Item[pb.GetLicenseHistoryRequest]
    ) -> Reply[pb.GetLicenseHistoryResponse] | ServiceError:
        limit = page_size(item.request.page_size)
        try:
            history = await self._operations.list_history(
                user_id=item.call.user_id,
                specialization=item.request.specialization,
                before=number_in(item.request.page_token),
                limit=limit,
                deadline=item.call.deadline,
            )
        except ServiceError as error:
            return error
        return Reply(
            pb.GetLicenseHistoryResponse(
                progressions=[_progression(change.progression) for change in history],
                next_page_token=make_token(history[-1].sequence) if len(history) == limit else "",
            )
        )


def _reached(request: pb.ApplyLicenseLevelRequest) -> LevelReached:
    return LevelReached(
        user_id=request.user_id,
        specialization=request.specialization,
        level=request.level,
        max_level=request.max_level,
        event_id=UUID(request.event_id),
        reason=request.reason,
        epoch=request.epoch if request.HasField("epoch") else None,
    )


def _reset(request: pb.ResetLicenseRequest) -> LevelReset:
    return LevelReset(
        user_id=request.user_id,
        specialization=request.specialization,
        to_level=request.to_level,
        max_level=request.max_level,
        event_id=UUID(request.event_id),
        by=request.by,
        reason=request.reason,
        epoch=request.epoch if request.HasField("epoch") else None,
    )


def _advance(item: Item[pb.AdvanceLicenseRequest]) -> LevelAdvance:
    return LevelAdvance(
        user_id=item.request.user_id,
        specialization=item.request.specialization,
        to_level=item.request.to_level,
        event_id=operation_id(item.call),
        by=item.call.user_id,
        reason=item.request.reason,
    )


def _message(license_: License) -> pb.License:
    return pb.License(
        user_id=license_.user_id,
        specialization=license_.specialization,
        level=license_.level,
        max_level=license_.max_level,
        status=pb.License.COMPLETED if license_.completed else pb.License.ACTIVE,
        updated_at=timestamp(license_.updated_at),
    )


def _progression(progression: Progression) -> pb.Progression:
    message = pb.Progression(
        to=progression.to_level,
        by=progression.by,
        reason=progression.reason,
        at=timestamp(progression.at),
    )
    setattr(message, "from", progression.from_level)  # a keyword of Python
    return message


def _watched(change: SequencedProgression) -> pb.WatchLicensesResponse:
    progression = change.progression
    completed = progression.to_level >= progression.max_level
    return pb.WatchLicensesResponse(
        sequence=change.sequence,
        license=pb.License(
            user_id=progression.user_id,
            specialization=progression.specialization,
            level=progression.to_level,
            max_level=progression.max_level,
            status=pb.License.COMPLETED if completed else pb.License.ACTIVE,
            updated_at=timestamp(progression.at),
        ),
        progression=_progression(progression),
        event_id=str(progression.event_id),
    )
