"""What learners have and may do, by the rules alone: lists of orders and moments, no revisions, no cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Name = tuple[str, str]
VIDEO_SECONDS = 60
XP = 3


@dataclass
class ModelCourse:
    """A course: every order that it has had, the newest last."""

    course_id: str
    orders: list[list[Name]]

    @property
    def order(self) -> list[Name]:
        return self.orders[-1]

    @property
    def now(self) -> int:
        return len(self.orders) - 1

    def put(self, order: list[Name]) -> None:
        if order != self.order:
            self.orders.append(order)

    def knows(self, name: Name) -> bool:
        return any(name in order for order in self.orders)


@dataclass
class ModelLearner:
    """A learner: when each thing was done, counted in the orders of its course."""

    user: str
    enrolled: dict[str, int] = field(default_factory=dict)
    completed: dict[str, dict[Name, int]] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    watched: dict[Name, set[int]] = field(default_factory=dict)
    sessions: set[str] = field(default_factory=set)
    session_xp: int = 0
    told_open: set[Name] = field(default_factory=set)
    version: int = 0

    def open(self, course: ModelCourse) -> set[Name]:
        """First now, or first since the enrollment; completed; after a completed one since then; begun."""
        done = self.completed.get(course.course_id, {})
        found = {name for name in self.watched if self.watched[name] and course.knows(name)}
        found |= done.keys()
        since = self.enrolled.get(course.course_id, course.now)
        found |= {order[0] for order in course.orders[since:] if order}
        for name, moment in done.items():
            for order in course.orders[moment:]:
                if name in order[:-1]:
                    found.add(order[order.index(name) + 1])
        return found

    def enroll(self, course: ModelCourse) -> None:
        self.enrolled.setdefault(course.course_id, course.now)

    def complete(self, course: ModelCourse, name: Name) -> None:
        self.enroll(course)
        self.completed.setdefault(course.course_id, {}).setdefault(name, course.now)
        self.see_end(course)

    def see_end(self, course: ModelCourse) -> None:
        """Any change of the learner in the course may find that nothing is left to complete."""
        done = self.completed.get(course.course_id, {})
        if course.course_id in self.enrolled and course.order and done.keys() >= set(course.order):
            self.finished.add(course.course_id)

    def watch(self, name: Name, seconds: Sequence[int]) -> None:
        self.watched.setdefault(name, set()).update(seconds)

    @property
    def lessons(self) -> int:
        return sum(map(len, self.completed.values()))

    @property
    def xp(self) -> int:
        return XP * self.lessons + self.session_xp
