"""What was watched of a video: a union of ranges, whose order, overlap and repetition make no difference."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from chassis.errors import Reason, ServiceError, invalid_field

RANGES_MAX = 1000
# A gap shorter than this counts as watched: players report positions that are a little apart. Closing short gaps
# is a closure (extensive, monotone, idempotent), so the order of the reports still makes no difference.
GAP_MS_MIN = 250


class Range(NamedTuple):
    """Milliseconds of a video, without the last one."""

    from_ms: int
    to_ms: int


def clipped(ranges: Iterable[Range], *, video_ms: int) -> list[Range]:
    """The parts of the ranges that lie within the video; empty ones are left out."""
    inside = (Range(each.from_ms, min(each.to_ms, video_ms)) for each in ranges)
    return [each for each in inside if each.from_ms < each.to_ms]


def union(ranges: Iterable[Range]) -> list[Range]:
    """Everything that the ranges cover, in order, with short gaps closed."""
    merged: list[Range] = []
    for each in sorted(ranges):
        if merged and each.from_ms - merged[-1].to_ms < GAP_MS_MIN:
            merged[-1] = Range(merged[-1].from_ms, max(merged[-1].to_ms, each.to_ms))
        else:
            merged.append(each)
    return merged


def require_bounded(ranges: Sequence[Range]) -> None:
    """Raises ServiceError with INVALID_ARGUMENT if this is more than is kept of one video."""
    if len(ranges) > RANGES_MAX:
        raise invalid_field("ranges", f"more than {RANGES_MAX} separate parts of a video are not kept")


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def watched_ratio(ranges: Iterable[Range], *, video_ms: int) -> float:
    """The share of the video that the ranges cover, 0 to 1; the ranges must not overlap."""
    covered = sum(each.to_ms - each.from_ms for each in clipped(ranges, video_ms=video_ms))
    return covered / video_ms if video_ms > 0 else 0.0


def engagement_too_low(*, needed: float, current: float) -> ServiceError:
    return ServiceError(
        Reason.ENGAGEMENT_TOO_LOW,
        "Not enough of the video was watched",
        metadata={"needed": needed, "current": current},
    )
