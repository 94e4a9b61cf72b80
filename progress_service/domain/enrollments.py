"""Enrollments: a learner in a course."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from progress_service.domain.courses import CourseId
from progress_service.domain.statistics import UserId


class EnrollRequest(NamedTuple):
    """A course that a learner enrolls in."""

    user_id: UserId
    course_id: CourseId


@dataclass(frozen=True, slots=True)
class Enrollment:
    """How far a learner is in a course.

    `total_lessons` are those on offer, and those that the learner completed before they were left out. So
    `completed_lessons` never exceeds it. `version` is that of the learner's progress.
    """

    user_id: UserId
    course_id: CourseId
    enrolled_at: datetime
    completed_lessons: int
    total_lessons: int
    completed_at: datetime | None
    version: int
