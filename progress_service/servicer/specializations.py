"""homeroom.progress.v1.SpecializationService: its messages, converted."""

from __future__ import annotations

from typing import Any

from chassis.batch import Item
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler, PagedOperation, paged, plain
from progress_service.domain.specializations import (
    Level,
    Specialization,
    SpecializationProgress,
    check_levels,
)
from progress_service.operations.specializations import SpecializationOperations
from progress_service.servicer.counts import shown
from protos.progress.v1 import specializations_pb2 as pb

SERVICE = "/homeroom.progress.v1.SpecializationService"


def handlers(
    *,
    operations: SpecializationOperations,
    list_specializations: PagedOperation[None, Specialization],
    list_progress: PagedOperation[None, SpecializationProgress],
    tokens: PageTokens,
) -> list[Handler]:
    """Every method of the service."""
    return [
        plain(
            f"{SERVICE}/PutSpecialization",
            _specialization_of,
            operations.put_specializations,
            lambda each: pb.PutSpecializationResponse(specialization=_specialization(each)),
        ),
        paged(
            f"{SERVICE}/ListSpecializations",
            _all,
            list_specializations,
            _specialization,
            position=lambda each: (each.specialization,),
            tokens=tokens,
        ),
        paged(
            f"{SERVICE}/ListSpecializationProgress",
            _all,
            list_progress,
            _progress,
            position=lambda each: (each.specialization,),
            tokens=tokens,
        ),
    ]


def _all(_item: Item[Any]) -> None:
    """There is nothing to choose."""


def _specialization_of(item: Item[pb.PutSpecializationRequest]) -> Specialization:
    request = item.request
    levels = tuple(Level(each.level, each.name, each.xp_required) for each in request.levels)
    check_levels(levels)
    return Specialization(request.specialization, request.name, levels)


def _specialization(specialization: Specialization) -> pb.Specialization:
    return pb.Specialization(
        specialization=specialization.specialization,
        name=specialization.name,
        levels=[
            pb.Level(level=each.level, name=each.name, xp_required=each.xp_required)
            for each in specialization.levels
        ],
    )


def _progress(progress: SpecializationProgress) -> pb.SpecializationProgress:
    return pb.SpecializationProgress(
        specialization=progress.specialization,
        xp=shown(progress.xp),
        level=progress.level,
        max_level=progress.max_level,
        next_level_xp=progress.next_level_xp,
    )
