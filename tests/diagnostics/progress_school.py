"""A school for the checks of progress_service: learners who act through the service, and an operator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from chassis.cache.clock import DatabaseClock
from chassis.cache.versioned import VersionedCache
from chassis.diagnostics.checks import Check
from chassis.diagnostics.findings import Finding
from chassis.diagnostics.operations import Diagnostics
from chassis.postgres import Connection
from chassis.postgres.relay import Relay
from chassis.telemetry.metrics import Metrics
from homeroom.embedded.redis import Redis
from progress_service.domain.license_orders import LICENSE_TOPIC
from progress_service.operations.comparison import StoreComparison
from progress_service.operations.diagnosis import REPAIRS, checks
from progress_service.store.access_cache import AccessCache
from progress_service.store.cache_entries import CACHED_ENTRIES, CachedEntries, cache_checks
from progress_service.store.level_reads import LevelReader
from progress_service.subscription_client import SubscriptionClient
from protos.progress.v1 import progress_pb2
from tests.diagnostics.operators import Operator
from tests.learning.world import STALE_SECONDS, STATISTICS, TOKEN, World, new_world, unique
from tests.progress.specializations import put_levels, specialization_name
from tests.support.databases import Databases

LADDER = [0, 20, 60, 100]
LESSON_XP = 10
SESSION_XP = 7
VIDEO_SECONDS = 10.0

# Every table that has rows of learners, with the order of its rows.
TABLES = (
    "learner_statistics",
    "session_results",
    "xp_entries",
    "activity_days",
    "enrollments",
    "lesson_completions",
    "watched_videos",
    "specialization_progress",
    "progress_resets",
    "learner_achievements",
    "outbox",
)


@dataclass(frozen=True)
class Pupil:
    """A learner who has level 2, and is at the third lesson of a course."""

    user_id: str
    course_id: str
    specialization: str
    names: Sequence[tuple[str, str]]

    @property
    def module(self) -> str:
        return self.names[0][0]


@dataclass
class School:
    """The world, and its operator. Nothing is too young for a check."""

    world: World
    operator: Operator
    relay: Relay
    cache: AccessCache
    clock: DatabaseClock
    checks: Sequence[Check]

    @property
    def truth(self) -> Connection:
        return self.world.truth

    async def pupil(self, *, video: dict[str, Any] | None = None) -> Pupil:
        """A learner whose rows come from the service's own operations; the license is told."""
        world = self.world
        name = specialization_name()
        await put_levels(self.truth, name, LADDER)
        course_id = unique("school")
        module = f"{course_id}-m1"
        lessons = [{"lesson_id": f"l{n}", "xp": LESSON_XP} | (video or {}) for n in range(1, 5)]
        await world.put_course(course_id, [(module, lessons)], specialization=name)
        user_id = await world.learner("pupil")
        pupil = Pupil(user_id, course_id, name, [(module, f"l{n}") for n in range(1, 5)])
        await world.one(world.enrollment(user_id, course_id))
        for lesson in pupil.names[:2]:
            if video:
                await world.one(world.watching(user_id, lesson, (0.0, VIDEO_SECONDS)))
            await world.complete(user_id, lesson)
        request = progress_pb2.RecordSessionResultRequest(
            user_id=user_id,
            session_id=unique("session"),
            test_id="t",
            specialization=name,
            completed=True,
            answered=3,
            total=4,
            answers=5,
            correct=2,
            score=0.5,
            passed=True,
            xp=SESSION_XP,
            closed_at=Timestamp(seconds=1_774_785_600),
        )
        await world.one(world.item(f"{STATISTICS}/RecordSessionResult", request))
        await self.deliver()
        return pupil

    async def deliver(self) -> None:
        """Deliver the outbox until nothing is due."""
        while await self.truth.fetchval(
            "SELECT count(*) FROM outbox WHERE parked_at IS NULL AND leased_until IS NULL"
        ):
            await self.relay.deliver_due(LICENSE_TOPIC)

    async def findings(self, *check_ids: str, user_id: str = "") -> list[Finding]:
        return await self.operator.findings(*check_ids, user_id=user_id)

    async def rows(self, pupil: Pupil) -> dict[str, list[str]]:
        """All rows of the learner, the order of the course, and the license."""
        found = {
            table: [
                row["row"]
                for row in await self.truth.fetch(
                    f"SELECT to_jsonb(kept)::text AS row FROM {table} AS kept "  # noqa: S608 - of TABLES
                    "WHERE user_id = $1 ORDER BY 1",
                    pupil.user_id,
                )
            ]
            for table in TABLES
        }
        for table in ("courses", "lesson_successions"):
            found[table] = [
                row["row"]
                for row in await self.truth.fetch(
                    f"SELECT to_jsonb(kept)::text AS row FROM {table} AS kept "  # noqa: S608 - a constant
                    "WHERE course_id = $1 ORDER BY 1",
                    pupil.course_id,
                )
            ]
        return found

    async def unchecked(self, work: Callable[[], Awaitable[object]]) -> None:
        """Write what foreign keys refuse."""
        async with self.truth.transaction():
            await self.truth.execute("SET LOCAL session_replication_role = replica")
            await work()


@asynccontextmanager
async def new_school(databases: Databases, redis_server: Redis) -> AsyncIterator[School]:
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(new_world(databases, redis_server))
        clock = DatabaseClock()
        versioned = VersionedCache(
            url=world.proxy.url,
            secret=TOKEN,
            name="access",
            clock=clock,
            metrics=Metrics(service="progress_service"),
            stale_seconds=STALE_SECONDS,
            read_seconds_max=5.0,
        )
        stack.push_async_callback(versioned.close)
        cache = AccessCache(cache=versioned)
        subscription = SubscriptionClient(upstream=world.upstream)
        stores = StoreComparison(
            levels=LevelReader(world.database), licenses=subscription, age_seconds_min=0.0
        )
        all_checks = [
            *checks(world.database, stores=stores),
            *cache_checks(world.database, cache, clock, stale_seconds=STALE_SECONDS, each_nth=1),
        ]
        operator = Operator(world.database, checks=[], repairs=[])
        operator.diagnostics = Diagnostics(
            world.database,
            checks=[replace(check, age=timedelta(0)) for check in all_checks],
            repairs=REPAIRS,
            others={CACHED_ENTRIES: CachedEntries(cache)},
        )
        relay = Relay(world.database, {LICENSE_TOPIC: subscription.deliver_orders}, in_order={LICENSE_TOPIC})
        yield School(world, operator, relay, cache, clock, all_checks)
