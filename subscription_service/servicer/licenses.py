"""LicenseService: messages to licenses and back."""

from __future__ import annotations

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
from subscription_service.servicer.paging import number_in, pages, text_in
from subscription_service.store.license_reads import SequencedProgression


class LicenseServicer:
    def __init__(self, *, operations: LicenseOperations, feed: LicenseFeed) -> None:
        self._operations = operations
        self._feed = feed

    async def ListMyLicenses(
        self, batch: list[Item[pb.ListMyLicensesRequest]]
    ) -> list[Reply[pb.ListMyLicensesResponse] | ServiceError]:
        return await pages(
            batch,
            lambda item, limit: self._licenses(item, item.call.user_id, limit, of_inactive=False),
            position=lambda license_: (license_.specialization,),
            render=lambda licenses, token: pb.ListMyLicensesResponse(
                licenses=map(_message, licenses), next_page_token=token
            ),
        )

    async def ListLicenses(
        self, batch: list[Item[pb.ListLicensesRequest]]
    ) -> list[Reply[pb.ListLicensesResponse] | ServiceError]:
        return await pages(
            batch,
            lambda item, limit: self._licenses(item, item.request.user_id, limit, of_inactive=True),
            position=lambda license_: (license_.specialization,),
            render=lambda licenses, token: pb.ListLicensesResponse(
                licenses=map(_message, licenses), next_page_token=token
            ),
        )

    async def GetLicenseHistory(
        self, batch: list[Item[pb.GetLicenseHistoryRequest]]
    ) -> list[Reply[pb.GetLicenseHistoryResponse] | ServiceError]:
        return await pages(
            batch,
            self._history,
            position=lambda change: (change.sequence,),
            render=lambda history, token: pb.GetLicenseHistoryResponse(
                progressions=[_progression(change.progression) for change in history], next_page_token=token
            ),
        )

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

    async def _licenses(
        self, item: Item[Any], user_id: str, limit: int, *, of_inactive: bool
    ) -> list[License]:
        return await self._operations.list_licenses(
            user_id=user_id,
            after=text_in(item.request.page_token),
            limit=limit,
            of_inactive=of_inactive,
            deadline=item.call.deadline,
        )

    async def _history(
        self, item: Item[pb.GetLicenseHistoryRequest], limit: int
    ) -> list[SequencedProgression]:
        return await self._operations.list_history(
            user_id=item.call.user_id,
            specialization=item.request.specialization,
            before=number_in(item.request.page_token),
            limit=limit,
            deadline=item.call.deadline,
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
