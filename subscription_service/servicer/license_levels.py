"""LicenseLevelService: the licenses in one order, and the repair of those that disagree with the progress."""

from __future__ import annotations

from uuid import UUID

from chassis.batch import Item
from chassis.rpc.paging import PageTokens, Position
from chassis.rpc.servicing import Handler, PagedOperation, paged, plain
from protos.subscription.v1 import license_levels_pb2 as pb
from subscription_service.domain.licenses import (
    AgedLicense,
    LevelMirror,
    LicensePosition,
    LicenseSelection,
    MirroredLicense,
)
from subscription_service.operations.licenses import LicenseOperations

SERVICE = "/homeroom.subscription.v1.LicenseLevelService"


def handlers(
    *,
    operations: LicenseOperations,
    list_levels: PagedOperation[LicenseSelection, AgedLicense],
    tokens: PageTokens,
) -> list[Handler]:
    """The methods of LicenseLevelService."""
    return [
        paged(
            f"{SERVICE}/ListLicenseLevels",
            _selection,
            list_levels,
            _message,
            position=_position,
            tokens=tokens,
        ),
        plain(f"{SERVICE}/MirrorLevel", _mirror, operations.mirror_levels, _mirrored),
    ]


def _selection(item: Item[pb.ListLicenseLevelsRequest]) -> LicenseSelection:
    request = item.request
    after = None
    if request.HasField("after"):
        after = LicensePosition(request.after.specialization, request.after.user_id)
    return LicenseSelection(
        specialization=request.specialization if request.HasField("specialization") else None,
        user_id=request.user_id if request.HasField("user_id") else None,
        after=after,
    )


def _position(aged: AgedLicense) -> Position:
    return aged.license.specialization, aged.license.user_id


def _message(aged: AgedLicense) -> pb.LicenseLevel:
    license_ = aged.license
    return pb.LicenseLevel(
        user_id=license_.user_id,
        specialization=license_.specialization,
        level=license_.level,
        max_level=license_.max_level,
        epoch=license_.epoch,
        age_seconds=aged.age_seconds,
    )


def _mirror(item: Item[pb.MirrorLevelRequest]) -> LevelMirror:
    request = item.request
    return LevelMirror(
        user_id=request.user_id,
        specialization=request.specialization,
        level=request.level,
        max_level=request.max_level,
        epoch=request.epoch,
        event_id=UUID(request.event_id),
        by=request.by,
        reason=request.reason,
    )


def _mirrored(mirrored: MirroredLicense) -> pb.MirrorLevelResponse:
    return pb.MirrorLevelResponse(
        license=_message(AgedLicense(mirrored.license, 0.0)), level_before=mirrored.level_before
    )
