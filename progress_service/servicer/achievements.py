"""homeroom.progress.v1.AchievementService: its messages, converted."""

from __future__ import annotations

from chassis.batch import Item
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler, PagedOperation, paged
from chassis.rpc.timestamps import timestamp
from progress_service.domain.achievements import Achievement
from protos.progress.v1 import achievements_pb2 as pb

SERVICE = "/homeroom.progress.v1.AchievementService"


def handlers(*, list_achievements: PagedOperation[None, Achievement], tokens: PageTokens) -> list[Handler]:
    """Every method of the service."""
    return [
        paged(
            f"{SERVICE}/ListAchievements",
            _all,
            list_achievements,
            _achievement,
            position=lambda each: (each.achievement,),
            tokens=tokens,
        )
    ]


def _all(_item: Item[pb.ListAchievementsRequest]) -> None:
    """There is nothing to choose."""


def _achievement(achievement: Achievement) -> pb.Achievement:
    return pb.Achievement(
        achievement=achievement.achievement,
        title=achievement.title,
        description=achievement.description,
        earned_at=timestamp(achievement.earned_at),
    )
