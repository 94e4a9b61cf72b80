"""Completing lessons: decided one after the other, each seeing the effects of those before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from chassis.errors import Reason, ServiceError
from chassis.frozen import quick
from chassis.ids import named_uuid
from progress_service.domain.access import (
    Access,
    CourseAccess,
    Standing,
    access_of,
    access_to,
    lesson_locked,
)
from progress_service.domain.courses import UNKNOWN_COURSE, CourseId, Edition, LessonName, no_such_lesson
from progress_service.domain.earnings import Earning
from progress_service.domain.statistics import XP_OPERATIONS, UserId
from progress_service.domain.watching import Range, engagement_too_low, milliseconds, watched_ratio

OCCURRED_AGO_MAX = timedelta(days=30)


class CompletionRequest(NamedTuple):
    """A lesson that its learner completed, at `occurred_at` or now; the course is that of its module."""

    user_id: UserId
    name: LessonName
    occurred_at: datetime | None = None
    course_id: CourseId = UNKNOWN_COURSE

    def within(self, course_id: CourseId) -> CompletionRequest:
        """The same request with its course."""
        return CompletionRequest(self.user_id, self.name, self.occurred_at, course_id)


@quick
@dataclass(frozen=True, slots=True)
class NewCompletion:
    """A row of lesson_completions."""

    user_id: UserId
    course_id: CourseId
    epoch: int
    module_id: str
    lesson_id: str
    revision: int
    xp: int
    occurred_at: datetime


@dataclass(frozen=True, slots=True)
class NextLesson:
    """The lesson after a completed one."""

    name: LessonName
    accessible: bool


@dataclass(frozen=True, slots=True)
class Completion:
    """What became of a completion. `access` is the learner's course after it."""

    xp_awarded: int
    next: NextLesson | None
    access: CourseAccess

    @property
    def version(self) -> int:
        return self.access.version


class Draft(NamedTuple):
    """A completion that brings nothing but its own row, its XP, and one more for the counters."""

    book: CourseBook
    completion: NewCompletion
    earning: Earning

    @property
    def outcome(self) -> Completion:
        """What becomes of it: it raises the learner's version by one."""
        name = LessonName(self.completion.module_id, self.completion.lesson_id)
        return self.book.completion_of(name, self.earning.xp, version=self.book.standing.version + 1)


@dataclass
class CourseBook:
    """A learner in a course: as the database had it, and what is new."""

    edition: Edition
    standing: Standing
    completed: dict[LessonName, int] = field(init=False)
    new: list[NewCompletion] = field(default_factory=list)
    earnings: list[Earning] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.completed = dict(self.standing.completed)

    @property
    def enrolls(self) -> bool:
        """Whether the learner is not enrolled yet, and becomes so by what is new."""
        return self.standing.since_revision is None and bool(self.earnings)

    @property
    def total_lessons(self) -> int:
        """The lessons on offer, and those completed before they were left out."""
        return len(self.edition.order) + len(self.completed.keys() - self.edition.offered)

    @property
    def changed(self) -> bool:
        """Whether there is something to write.

        That is also so if everything on offer is completed because the rest was left out.
        """
        newly_finished = self.finished and self.standing.finished_at is None
        return bool(self.earnings) or (newly_finished and self.standing.since_revision is not None)

    @property
    def finished(self) -> bool:
        """Whether everything that the course offers now is completed."""
        return bool(self.edition.order) and self.edition.offered <= self.completed.keys()

    @property
    def _since_revision(self) -> int | None:
        """The revision of the course at the enrollment, also if that is new."""
        return self.edition.revision if self.enrolls else self.standing.since_revision

    def standing_at(self, version: int) -> Standing:
        """The learner in the course after all that is new."""
        standing = self.standing
        return Standing(  # `replace` takes three times as long, and this runs for each completion
            user_id=standing.user_id,
            course_id=standing.course_id,
            version=version,
            read_at=standing.read_at,
            epoch=standing.epoch,
            reset_at=standing.reset_at,
            last_reset_at=standing.last_reset_at,
            since_revision=self._since_revision,
            enrolled_before=standing.enrolled_before,
            enrolled_at=standing.enrolled_at,
            finished_at=standing.finished_at,
            completed=dict(self.completed),
            started=standing.started,
        )

    def _access_to(self, name: LessonName) -> Access | None:
        return access_to(
            self.edition,
            name,
            since_revision=self._since_revision,
            completed=self.completed,
            started=self.standing.started,
        )

    def enroll(self) -> None:
        """Enroll the learner; nothing if they are enrolled."""
        if self.standing.since_revision is not None or self.earnings:
            return
        self.earnings.append(
            Earning(
                user_id=self.standing.user_id,
                operation_id=self._operation_id("enroll", self.edition.course_id),
                earned_at=self.standing.read_at,
                enrolled=0 if self.standing.enrolled_before else 1,
            )
        )

    def complete(self, request: CompletionRequest, watched: Sequence[Range]) -> int | ServiceError:
        """Complete a lesson; the XP that this earns, 0 if the lesson was completed before.

        `watched` is what was watched of its video, if the lesson demands something of that.
        """
        name = request.name
        access = self._access_to(name)
        if access is None:
            return no_such_lesson(name)
        if name in self.completed:
            return 0
        if not access.open:
            return lesson_locked(name)
        lesson = self.edition.lessons[name]
        if lesson.min_watched_ratio is not None and lesson.video_seconds is not None:
            current = watched_ratio(watched, video_ms=milliseconds(lesson.video_seconds))
            if current < lesson.min_watched_ratio:
                return engagement_too_low(needed=lesson.min_watched_ratio, current=current)
        occurred_at = self._occurred_at(request)
        if self.standing.reset_at is not None and occurred_at < self.standing.reset_at:
            return _before_a_reset(occurred_at, self.standing.reset_at)
        self.enroll()
        self._add(name, xp=lesson.xp, occurred_at=occurred_at)
        return lesson.xp

    def draft(self, request: CompletionRequest) -> Draft | None:
        """Complete a lesson that is open to an enrolled learner and was not completed before.

        None for any other completion, also for one that would be refused, and for a lesson that demands that
        its video was watched: `complete` decides it.
        """
        lesson = self.edition.lessons.get(request.name)
        if lesson is None or lesson.min_watched_ratio is not None or self.standing.since_revision is None:
            return None
        if isinstance(self.complete(request, ()), ServiceError) or not self.new:
            return None
        (completion,), (earning,) = self.new, self.earnings
        return Draft(self, completion, earning)

    def take_over(self, name: LessonName, completed_at: datetime) -> ServiceError | None:
        """Complete a lesson as another system knew it: whatever is open, and without XP.

        Its XP are among those that the other system knew. An unknown lesson is refused, and so is a
        time before a reset.
        """
        if self._access_to(name) is None:
            return no_such_lesson(name)
        if name in self.completed:
            return None
        if self.standing.reset_at is not None and completed_at < self.standing.reset_at:
            return _before_a_reset(completed_at, self.standing.reset_at)
        self.enroll()
        self._add(name, xp=0, occurred_at=completed_at)
        return None

    def completion_of(self, name: LessonName, xp: int, *, version: int) -> Completion:
        """What became of a completion, after all that is new; `version` is the learner's then."""
        access = access_of(self.edition, self.standing_at(version))
        return Completion(xp_awarded=xp, next=self.next_after(name, access), access=access)

    def next_after(self, name: LessonName, access: CourseAccess) -> NextLesson | None:
        """The lesson to go to from this one. From one that is no longer offered: the first not completed."""
        following = self.edition.after(name)
        if following is None and name not in self.edition.offered:
            following = next((each for each in self.edition.order if each not in self.completed), None)
        if following is None:
            return None
        found = access.of(following)
        return NextLesson(following, accessible=found is not None and found.open)

    def _add(self, name: LessonName, *, xp: int, occurred_at: datetime) -> None:
        """Complete a lesson that is not completed yet, and earn what it brings."""
        self.completed[name] = self.edition.revision
        self.new.append(
            NewCompletion(
                user_id=self.standing.user_id,
                course_id=self.edition.course_id,
                epoch=self.standing.epoch,
                module_id=name.module_id,
                lesson_id=name.lesson_id,
                revision=self.edition.revision,
                xp=xp,
                occurred_at=occurred_at,
            )
        )
        self.earnings.append(
            Earning(
                user_id=self.standing.user_id,
                operation_id=self._operation_id("lesson", *name),
                earned_at=occurred_at,
                specialization=self.edition.specialization or "",
                xp=xp,
                active_day=occurred_at.astimezone(UTC).date(),
                completed_lessons=1,
            )
        )

    def _occurred_at(self, request: CompletionRequest) -> datetime:
        """When it was completed: not in the future, and not too long ago, by the database's clock.

        Now is never before a reset, even if the clock has stepped back since: it would be of an older epoch.
        """
        now = max(self.standing.read_at, self.standing.last_reset_at or self.standing.read_at)
        return max(min(request.occurred_at or now, now), now - OCCURRED_AGO_MAX)

    def _operation_id(self, kind: str, *names: str) -> UUID:
        """The same for every sending of the operation; a reset begins new ones."""
        return _operation_id(kind, self.standing.user_id, *names, epoch=self.standing.epoch)


def lesson_operation_id(user_id: UserId, name: LessonName, *, epoch: int) -> UUID:
    """The id of a completion's entry in the XP ledger: the same for every sending in this epoch."""
    return _operation_id("lesson", user_id, *name, epoch=epoch)


def _operation_id(kind: str, user_id: UserId, *names: str, epoch: int) -> UUID:
    return named_uuid(XP_OPERATIONS, "\n".join((kind, user_id, *names, str(epoch))))


def _before_a_reset(occurred_at: datetime, reset_at: datetime) -> ServiceError:
    return ServiceError(
        Reason.ILLEGAL_TRANSITION,
        "The progress was reset after this lesson was completed",
        metadata={"from": occurred_at.isoformat(), "to": reset_at.isoformat()},
    )
