"""LicenseService: messages to licenses and back."""

from __future__ import annotations

from uuid import UUID

from chassis.batch import Item
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler, StreamOperation, keyed, paged, plain, streamed
from chassis.rpc.timestamps import timestamp
from protos.subscription.v1 import licenses_pb2 as pb
from subscription_service.domain.accounts import ListOwner
from subscription_service.domain.licenses import (
    LevelAdvance,
    LevelReached,
    LevelReset,
    License,
    Origin,
    Progression,
    SequencedProgression,
)
from subscription_service.operations.licenses import LicenseOperations
from subscription_service.servicer.operation_ids import operation_id

SERVICE = "/homeroom.subscription.v1.LicenseService"

_ORIGINS = {
    None: pb.WatchLicensesResponse.ORIGIN_UNSPECIFIED,
    Origin.PROGRESS: pb.WatchLicensesResponse.PROGRESS,
    Origin.ADVANCE: pb.WatchLicensesResponse.ADVANCE,
    Origin.RESET: pb.WatchLicensesResponse.RESET,
}


def handlers(
    *,
    operations: LicenseOperations,
    watch_licenses: StreamOperation[int, SequencedProgression],
    tokens: PageTokens,
) -> list[Handler]:
    """The methods of LicenseService."""
    return [
        paged(
            f"{SERVICE}/ListMyLicenses",
            _my_licenses,
            operations.list_licenses,
            _message,
            position=lambda license_: (license_.specialization,),
            tokens=tokens,
        ),
        paged(
            f"{SERVICE}/ListLicenses",
            _licenses,
            operations.list_licenses,
            _message,
            position=lambda license_: (license_.specialization,),
            tokens=tokens,
        ),
        paged(
            f"{SERVICE}/GetLicenseHistory",
            _specialization,
            operations.list_history,
            lambda change: _progression(change.progression),
            position=lambda change: (change.sequence,),
            tokens=tokens,
        ),
        keyed(
            f"{SERVICE}/AdvanceLicense",
            _advance,
            operations.advance_licenses,
            lambda license_: pb.AdvanceLicenseResponse(license=_message(license_)),
        ),
        plain(
            f"{SERVICE}/ApplyLicenseLevel",
            _reached,
            operations.change_licenses,
            lambda license_: pb.ApplyLicenseLevelResponse(license=_message(license_)),
        ),
        plain(
            f"{SERVICE}/ResetLicense",
            _reset,
            operations.change_licenses,
            lambda license_: pb.ResetLicenseResponse(license=_message(license_)),
        ),
        streamed(f"{SERVICE}/WatchLicenses", _sequence, watch_licenses, _watched),
    ]


def _my_licenses(item: Item[pb.ListMyLicensesRequest]) -> ListOwner:
    return ListOwner(item.user_id, also_inactive=False)


def _licenses(item: Item[pb.ListLicensesRequest]) -> ListOwner:
    return ListOwner(item.request.user_id, also_inactive=True)


def _specialization(item: Item[pb.GetLicenseHistoryRequest]) -> str:
    return item.request.specialization


def _sequence(item: Item[pb.WatchLicensesRequest]) -> int:
    return item.request.after_sequence


def _reached(item: Item[pb.ApplyLicenseLevelRequest]) -> LevelReached | LevelReset:
    request = item.request
    return LevelReached(
        user_id=request.user_id,
        specialization=request.specialization,
        level=request.level,
        max_level=request.max_level,
        event_id=UUID(request.event_id),
        reason=request.reason,
        epoch=request.epoch if request.HasField("epoch") else None,
    )


def _reset(item: Item[pb.ResetLicenseRequest]) -> LevelReached | LevelReset:
    request = item.request
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
        event_id=operation_id(item.claim),
        by=item.user_id,
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
        by=progression.changed_by,
        reason=progression.reason,
        at=timestamp(progression.changed_at),
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
            updated_at=timestamp(progression.changed_at),
        ),
        progression=_progression(progression),
        event_id=str(progression.event_id),
        epoch=progression.epoch,
        origin=_ORIGINS[progression.origin],
    )
