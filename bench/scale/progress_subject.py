"""What progress_service does all day, in a store of any size."""

from __future__ import annotations

import itertools
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from bench.scale.measuring import BATCH, Call, Measure
from bench.scale.plans import WatchedDatabase
from bench.scale.progress_population import (
    COMPLETED,
    COMPLETIONS_PER_LEARNER,
    LESSONS,
    build,
    course_of,
    learner,
    lesson_name,
)
from bench.scale.server import telling
from chassis.batch import Item
from chassis.cache.clock import DatabaseClock
from chassis.cache.versioned import VersionedCache
from chassis.errors import ServiceError
from chassis.postgres import Connection
from chassis.rpc.client import Upstream
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler
from chassis.rpc.timestamps import timestamp
from chassis.telemetry.metrics import Metrics
from progress_service.__main__ import Wakes, handlers, learning_handlers
from progress_service.account_client import AccountClient
from protos.progress.v1 import lessons_pb2, progress_pb2, specializations_pb2

LESSONS_SERVICE = "/homeroom.progress.v1.LessonService"
STATISTICS = "/homeroom.progress.v1.StatisticsService"


class VerifiedAccounts(AccountClient):
    """Stands for subscription_service: every account is active and verified, at no cost."""

    def __init__(self) -> None:
        super().__init__(upstream=cast("Upstream", None))

    async def refusals_of_unverified(self, items: Sequence[Item[Any]]) -> list[ServiceError | None]:
        return [None for _ in items]


@dataclass
class ProgressSubject:
    """Learners who go on in their first course, and hand in sessions. The size counts completions."""

    service: str = "progress"
    sizes: Sequence[int] = (10_000, 100_000, 1_000_000, 10_000_000)
    tables: Sequence[str] = (
        "enrollments",
        "lesson_completions",
        "watched_videos",
        "learner_statistics",
        "learner_achievements",
        "specialization_progress",
        "session_results",
        "progress_resets",
        "idempotency_keys",
        "xp_entries",
        "activity_days",
        "outbox",
    )
    completed: Counter[int] = field(default_factory=Counter, init=False)
    """How many lessons of their first course these learners have completed, besides those of the store."""

    async def build(self, connection: Connection, size: int, told: Callable[[str], object]) -> int:
        total = size // COMPLETIONS_PER_LEARNER * COMPLETIONS_PER_LEARNER
        self.completed.clear()
        return await build(connection, size, told=telling(told, "completions", total))

    def assemble(self, database: WatchedDatabase, secret: str) -> Sequence[Handler]:
        metrics, tokens, clock = (
            Metrics(service="progress_service"),
            PageTokens(secret=secret),
            DatabaseClock(),
        )
        wakes = Wakes(relay=lambda: None, raising=lambda: None)
        return [
            *handlers(database=database, wakes=wakes, tokens=tokens, metrics=metrics),
            *learning_handlers(
                database=database,
                accounts=VerifiedAccounts(),
                # Without Redis every read is answered by the store, which is what grows.
                cache=VersionedCache(url=None, secret=secret, name="access", clock=clock, metrics=metrics),
                clock=clock,
                wake_relay=wakes.relay,
                metrics=metrics,
                tokens=tokens,
            ),
        ]

    async def round(self, measure: Measure, learners: Sequence[int], batches: int) -> AsyncIterator[None]:
        """Each learner completes the next lesson of a course; no learner is in a batch twice."""
        groups = [learners[first : first + BATCH] for first in range(0, len(learners) - BATCH + 1, BATCH)]
        chosen = list(itertools.islice(itertools.cycle(groups), batches))
        for step, path, make in (
            ("access", f"{LESSONS_SERVICE}/GetLessonAccess", self._ask_access),
            ("watched range", f"{LESSONS_SERVICE}/PutWatched", self._watch),
            ("complete a lesson", f"{LESSONS_SERVICE}/CompleteLesson", self._complete),
            ("progress of a course", f"{LESSONS_SERVICE}/GetProgress", _ask_progress),
            ("result of a session", f"{STATISTICS}/RecordSessionResult", _tell_result),
            ("statistics", f"{STATISTICS}/GetStats", _ask_statistics),
            (
                "levels",
                "/homeroom.progress.v1.SpecializationService/ListSpecializationProgress",
                _ask_levels,
            ),
            ("enrollments", f"{LESSONS_SERVICE}/ListEnrollments", _ask_enrollments),
        ):
            await measure.calls(step, path, _each(chosen, make))
            yield

    def _next(self, number: int) -> tuple[str, str]:
        place = COMPLETED + self.completed[number]
        if place >= LESSONS:
            raise RuntimeError("the learners have completed their course: measure fewer rounds")
        return lesson_name(course_of(number, 0), place)

    def _ask_access(self, number: int) -> Call:
        module_id, lesson_id = self._next(number)
        request = lessons_pb2.GetLessonAccessRequest(module_id=module_id, lesson_id=lesson_id)
        return Call(learner(number), request)

    def _watch(self, number: int) -> Call:
        module_id, lesson_id = self._next(number)
        ranges = [lessons_pb2.WatchedRange(from_seconds=0, to_seconds=30 + self.completed[number])]
        request = lessons_pb2.PutWatchedRequest(module_id=module_id, lesson_id=lesson_id, ranges=ranges)
        return Call(learner(number), request)

    def _complete(self, number: int) -> Call:
        module_id, lesson_id = self._next(number)
        self.completed[number] += 1
        request = lessons_pb2.CompleteLessonRequest(module_id=module_id, lesson_id=lesson_id)
        return Call(learner(number), request, str(uuid.uuid4()))


def _each(groups: Sequence[Sequence[int]], make: Callable[[int], Call]) -> Iterator[list[Call]]:
    return ([make(number) for number in group] for group in groups)


def _ask_progress(number: int) -> Call:
    course_id = f"course-{course_of(number, 0):02d}"
    return Call(learner(number), lessons_pb2.GetProgressRequest(course_id=course_id))


def _tell_result(number: int) -> Call:
    request = progress_pb2.RecordSessionResultRequest(
        user_id=learner(number),
        session_id=str(uuid.uuid4()),
        test_id="bench-00",
        specialization="PLAYER",
        completed=True,
        answered=10,
        total=12,
        answers=11,
        correct=8,
        score=0.6,
        passed=True,
        xp=10,
        closed_at=timestamp(datetime.now(UTC)),
    )
    return Call("", request)


def _ask_statistics(number: int) -> Call:
    return Call(learner(number), progress_pb2.GetStatsRequest())


def _ask_levels(number: int) -> Call:
    return Call(learner(number), specializations_pb2.ListSpecializationProgressRequest())


def _ask_enrollments(number: int) -> Call:
    return Call(learner(number), lessons_pb2.ListEnrollmentsRequest())
