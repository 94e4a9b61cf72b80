"""What was watched of a video: a union of ranges, whose order, overlap and repetition make no difference."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from chassis.errors import Reason, ServiceError, invalid_field
from progress_service.domain.access import CourseAccess, lesson_locked
from progress_service.domain.courses import UNKNOWN_COURSE, CourseId, Edition, LessonName, no_such_lesson
from progress_service.domain.statistics import UserId

RANGES_MAX = 1000
# A gap shorter than this counts as watched: players report positions that are a little apart. Closing short
# gaps is a closure (extensive, monotone, idempotent), so the order of the reports makes no difference.
GAP_MS_MIN = 250


class Range(NamedTuple):
    """Milliseconds of a video, without the last one."""

    from_ms: int
    to_ms: int


class WatchRequest(NamedTuple):
    """Parts of a lesson's video that a learner has watched; without any, it only asks."""

    user_id: UserId
    name: LessonName
    ranges: tuple[Range, ...]
    course_id: CourseId = UNKNOWN_COURSE

    def within(self, course_id: CourseId) -> WatchRequest:
        """The same request with its course."""
        return WatchRequest(self.user_id, self.name, self.ranges, course_id)


class Watched(NamedTuple):
    """Everything that a learner has watched of a video, as a share of it too, and the learner's version."""

    ranges: Sequence[Range]
    ratio: float
    version: int


@dataclass
class Viewing:
    """A learner and a video, under the learner's lock: what was watched of it until now."""

    edition: Edition
    access: CourseAccess
    ranges: list[Range]
    changed: bool = False

    def watch(self, request: WatchRequest) -> ServiceError | None:
        """Add the ranges of the request to what was watched; None, or why not."""
        lesson = self.edition.lessons.get(request.name)
        access = self.access.of(request.name)
        if lesson is None or access is None:
            return no_such_lesson(request.name)
        if not access.open:
            return lesson_locked(request.name)
        if lesson.video_seconds is None:
            return invalid_field("lessonId", "the lesson has no video")
        inside = clipped(request.ranges, video_ms=milliseconds(lesson.video_seconds))
        ranges = union([*self.ranges, *inside])
        if len(ranges) > RANGES_MAX:
            return invalid_field("ranges", f"more than {RANGES_MAX} separate parts of a video are not kept")
        self.changed = self.changed or ranges != self.ranges
        self.ranges = ranges
        return None

    def watched(self, name: LessonName, *, version: int) -> Watched:
        """The answer, once the learner has this version."""
        video_ms = milliseconds(self.edition.lessons[name].video_seconds or 0.0)
        return Watched(tuple(self.ranges), watched_ratio(self.ranges, video_ms=video_ms), version)


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
