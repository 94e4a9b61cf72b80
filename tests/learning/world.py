"""A school with courses: progress_service in replicas, subscription_service over gRPC, Redis at a proxy."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import redis.asyncio
from google.protobuf.message import Message

from chassis.batch import Item, Reply
from chassis.cache.clock import DatabaseClock
from chassis.cache.versioned import VersionedCache
from chassis.context import Context
from chassis.errors import Reason, ServiceError
from chassis.postgres import Connection, Database
from chassis.rpc.client import Upstream
from chassis.rpc.methods import find_method
from chassis.rpc.paging import PageTokens
from chassis.rpc.server import Server
from chassis.rpc.servicing import Handler, UnaryHandler
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.tracing import Tracing
from homeroom.embedded.redis import Redis
from progress_service.__main__ import Wakes, handlers, learning_handlers
from progress_service.account_client import AccountClient
from protos.progress.v1 import courses_pb2, lessons_pb2, progress_pb2
from protos.subscription.v1 import accounts_pb2
from subscription_service.__main__ import handlers as subscription_handlers
from subscription_service.operations.license_feed import LicenseFeed
from subscription_service.store.license_reads import LicenseReader
from tests.support.databases import Databases
from tests.support.redis_proxy import RedisProxy, redis_proxying

COURSES = "/homeroom.progress.v1.CourseService"
LESSONS = "/homeroom.progress.v1.LessonService"
STATISTICS = "/homeroom.progress.v1.StatisticsService"
ACCOUNTS = "/homeroom.subscription.v1.AccountService"
TOKEN = "a-secret-among-processes"
# Long enough that a starved machine makes no stale values; tests of staleness have their own.
STALE_SECONDS = 600.0
# A read that waits longer fails; tests of slowness have their own.
READ_SECONDS_MAX = 5.0

CACHE = lessons_pb2.GetLessonAccessResponse.CACHE
STORE = lessons_pb2.GetLessonAccessResponse.STORE

_numbers = itertools.count(1)


def unique(prefix: str) -> str:
    return f"{prefix}-{next(_numbers)}"


@dataclass(frozen=True)
class School:
    """A course of modules `<course>-m1`, … with lessons `l1`, …: the names of its lessons in their order."""

    course_id: str
    names: tuple[tuple[str, str], ...]


@dataclass
class Replica:
    """One progress_service: its own memory and its own connections to Redis."""

    handlers: Sequence[Handler]
    cache: VersionedCache
    metrics: Metrics
    wakes: list[None]

    async def send(self, items: Sequence[Item[Any]]) -> list[Any]:
        """Run a batch of one method; replies keep their bytes, see `body`."""
        path = items[0].context.method
        (answer,) = [
            handler.answer
            for handler in self.handlers
            if isinstance(handler, UnaryHandler) and handler.method.path == path
        ]
        outcomes = await answer(items)
        assert len(outcomes) == len(items)
        return list(outcomes)

    def count(self, metric: str, *labels: str) -> float:
        """The value of a counter of this replica."""
        name = f"homeroom_{metric}_total"
        for family in self.metrics.collect():
            for sample in family.samples:
                if sample.name == name and tuple(sample.labels.values()) == labels:
                    return sample.value
        return 0.0


@dataclass
class World:
    """What a test plays with, and both stores as a superuser sees them."""

    database: Database
    truth: Connection
    licenses: Connection
    upstream: Upstream
    proxy: RedisProxy
    redis: redis.asyncio.Redis
    stack: AsyncExitStack
    progress_dsn: str
    subscription_target: str
    timeout_seconds: float = 30.0
    replica: Replica = field(init=False)

    # --- calls ---------------------------------------------------------------------------------------

    def item(self, path: str, request: Message, *, user: str = "admin", key: str = "") -> Item[Any]:
        context = Context(
            method=path,
            user_id=user,
            roles=frozenset({"learner", "admin"}),
            idempotency_key=key,
            request_id="",
            deadline=time.monotonic() + self.timeout_seconds,
            traceparent="",
        )
        return Item(context, request)

    def again(self, item: Item[Any]) -> Item[Any]:
        """The same request, sent now."""
        return item._replace(context=item.context._replace(deadline=time.monotonic() + self.timeout_seconds))

    async def one(self, item: Item[Any], replica: Replica | None = None) -> Any:
        """The body of the single answer; raises the ServiceError that came instead."""
        (outcome,) = await (replica or self.replica).send([item])
        if isinstance(outcome, ServiceError):
            raise outcome
        return body(item, outcome)

    def completion(self, user: str, name: tuple[str, str], key: str = "", **fields: Any) -> Item[Any]:
        request = lessons_pb2.CompleteLessonRequest(module_id=name[0], lesson_id=name[1], **fields)
        return self.item(f"{LESSONS}/CompleteLesson", request, user=user, key=key or unique("key"))

    def question(self, user: str, name: tuple[str, str], min_version: int = 0) -> Item[Any]:
        request = lessons_pb2.GetLessonAccessRequest(
            module_id=name[0], lesson_id=name[1], min_version=min_version
        )
        return self.item(f"{LESSONS}/GetLessonAccess", request, user=user)

    def enrollment(self, user: str, course_id: str, key: str = "") -> Item[Any]:
        request = lessons_pb2.EnrollRequest(course_id=course_id)
        return self.item(f"{LESSONS}/Enroll", request, user=user, key=key or unique("key"))

    def watching(self, user: str, name: tuple[str, str], *ranges: tuple[float, float]) -> Item[Any]:
        request = lessons_pb2.PutWatchedRequest(
            module_id=name[0],
            lesson_id=name[1],
            ranges=[lessons_pb2.WatchedRange(from_seconds=a, to_seconds=b) for a, b in ranges],
        )
        return self.item(f"{LESSONS}/PutWatched", request, user=user)

    async def complete(self, user: str, name: tuple[str, str], key: str = "", **fields: Any) -> Any:
        return await self.one(self.completion(user, name, key, **fields))

    async def access(
        self, user: str, name: tuple[str, str], min_version: int = 0, replica: Replica | None = None
    ) -> Any:
        return await self.one(self.question(user, name, min_version), replica)

    async def progress(
        self, user: str, course_id: str, min_version: int = 0, replica: Replica | None = None
    ) -> Any:
        return (await self.one(self.progress_of(user, course_id, min_version), replica)).progress

    def progress_of(self, user: str, course_id: str, min_version: int = 0) -> Item[Any]:
        request = lessons_pb2.GetProgressRequest(course_id=course_id, min_version=min_version)
        return self.item(f"{LESSONS}/GetProgress", request, user=user)

    def enrollment_list(self, user: str) -> Item[Any]:
        return self.item(f"{LESSONS}/ListEnrollments", lessons_pb2.ListEnrollmentsRequest(), user=user)

    async def enrollments(self, user: str) -> Any:
        return (await self.one(self.enrollment_list(user))).enrollments

    async def stats(self, user: str) -> Any:
        return (
            await self.one(self.item(f"{STATISTICS}/GetStats", progress_pb2.GetStatsRequest(), user=user))
        ).stats

    # --- making things -------------------------------------------------------------------------------

    async def learner(self, prefix: str = "learner", *, verified: bool = True, active: bool = True) -> str:
        user = unique(prefix)
        await self.put_account(user, verified=verified, active=active)
        return user

    async def enrolled(self, **fields: Any) -> tuple[str, School]:
        """A learner in a course of their own."""
        user, school = await self.learner(), await self.course(**fields)
        await self.one(self.enrollment(user, school.course_id))
        return user, school

    async def deactivate(self, user: str) -> None:
        await self.put_account(user, verified=True, active=False)

    async def put_account(self, user: str, *, verified: bool, active: bool) -> None:
        request = accounts_pb2.PutAccountRequest(
            user_id=user,
            email=f"{user.replace(':', '.')}@school.example",
            email_verified=verified,
            status=accounts_pb2.Account.ACTIVE if active else accounts_pb2.Account.INACTIVE,
        )
        path = f"{ACCOUNTS}/PutAccount"
        await self.upstream.call(path, request, self.item(path, request).context)

    async def put_course(self, course_id: str, modules: Sequence[Any], **fields: Any) -> Any:
        """Each module is (id, [lessons]); a lesson is an id or its fields."""
        request = courses_pb2.PutCourseRequest(
            course_id=course_id,
            **({"title": "A course"} | fields),
            modules=[
                courses_pb2.Module(module_id=module_id, title="A module", lessons=map(lesson, lessons))
                for module_id, lessons in modules
            ],
        )
        return (await self.one(self.item(f"{COURSES}/PutCourse", request))).course

    async def course(self, *, modules: int = 2, lessons: int = 3, xp: int = 10, **fields: Any) -> School:
        course_id = unique("course")
        made = [
            (f"{course_id}-m{m}", [{"lesson_id": f"l{n}", "xp": xp} for n in range(1, lessons + 1)])
            for m in range(1, modules + 1)
        ]
        await self.put_course(course_id, made, **fields)
        names = tuple((module_id, each["lesson_id"]) for module_id, each_ in made for each in each_)
        return School(course_id, names)

    # --- faults --------------------------------------------------------------------------------------

    async def freeze(self) -> None:
        """Let Redis refuse every write from now on, and answer reads with what it has."""
        await self.redis.config_set("maxmemory-policy", "noeviction")
        await self.redis.config_set("maxmemory", "1")

    async def thaw(self) -> None:
        await self.redis.config_set("maxmemory", "128mb")
        await self.redis.config_set("maxmemory-policy", "allkeys-lru")

    async def heal(self) -> None:
        """No fault any more."""
        self.proxy.down = False
        self.proxy.delay_seconds = 0.0
        await self.thaw()

    async def keys(self, user: str) -> list[bytes]:
        return [key async for key in self.redis.scan_iter(f"access:*:{user}:*")]

    # --- replicas ------------------------------------------------------------------------------------

    async def start(
        self,
        *,
        url: str | None = "",
        database: Database | None = None,
        stale_seconds: float = STALE_SECONDS,
        read_seconds_max: float = READ_SECONDS_MAX,
        write_seconds_max: float = 2.0,
        accounts_target: str = "",
    ) -> Replica:
        metrics = Metrics(service="progress_service")
        clock = DatabaseClock()
        cache = VersionedCache(
            url=self.proxy.url if url == "" else url,
            secret=TOKEN,
            name="access",
            clock=clock,
            metrics=metrics,
            stale_seconds=stale_seconds,
            read_seconds_max=read_seconds_max,
            write_seconds_max=write_seconds_max,
        )
        self.stack.push_async_callback(cache.close)
        upstream = self.upstream
        if accounts_target:
            upstream = upstream_of(accounts_target)
            self.stack.push_async_callback(upstream.close)
        wakes: list[None] = []

        def wake() -> None:
            wakes.append(None)

        connected = database or self.database
        return Replica(
            handlers=[
                *handlers(
                    database=connected,
                    wakes=Wakes(relay=wake, raising=wake),
                    tokens=PageTokens(secret=TOKEN),
                    metrics=metrics,
                ),
                *learning_handlers(
                    database=connected,
                    accounts=AccountClient(upstream=upstream),
                    cache=cache,
                    clock=clock,
                    wake_relay=wake,
                    metrics=metrics,
                    tokens=PageTokens(secret=TOKEN),
                ),
            ],
            cache=cache,
            metrics=metrics,
            wakes=wakes,
        )


def lesson(given: Any) -> courses_pb2.Lesson:
    fields = {"lesson_id": given} if isinstance(given, str) else given
    return courses_pb2.Lesson(**({"title": "A lesson"} | fields))


def body(item: Item[Any], outcome: Any) -> Any:
    """The response message of a reply."""
    assert isinstance(outcome, Reply), outcome
    return find_method(item.context.method).response_type.FromString(outcome.payload())


def reasons(outcomes: Sequence[Any]) -> list[Reason | None]:
    """Why each was refused, or None."""
    return [outcome.reason if isinstance(outcome, ServiceError) else None for outcome in outcomes]


def upstream_of(target: str) -> Upstream:
    return Upstream(
        name="subscription_service",
        target=target,
        service_token=TOKEN,
        tracing=Tracing(service="test", version="0", sample_ratio=0.0),
        metrics=Metrics(service="progress_service"),
    )


@asynccontextmanager
async def new_world(databases: Databases, redis_server: Redis) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        progress = await stack.enter_async_context(databases.fresh("progress"))
        subscription = await stack.enter_async_context(databases.fresh("subscription"))

        async def connect(dsn: str) -> Database:
            connected = await Database.connect(dsn, maximum=8)
            stack.push_async_callback(connected.close)
            return connected

        accounts = await connect(subscription.service)
        tracing = Tracing(service="test", version="0", sample_ratio=0.0)
        feed = LicenseFeed(reader=LicenseReader(database=accounts), poll_seconds=60.0)
        server = Server(
            bind="127.0.0.1:0",
            handlers=subscription_handlers(accounts, feed, tokens=PageTokens(secret=TOKEN)),
            service_token=TOKEN,
            tracing=tracing,
            metrics=Metrics(service="subscription_service"),
        )
        await server.start()
        stack.push_async_callback(server.stop)
        upstream = upstream_of(f"127.0.0.1:{server.port}")
        stack.push_async_callback(upstream.close)
        truth = await asyncpg.connect(progress.superuser)
        stack.push_async_callback(truth.close)
        licenses = await asyncpg.connect(subscription.superuser)
        stack.push_async_callback(licenses.close)
        proxy = await stack.enter_async_context(redis_proxying(redis_server.url.removeprefix("unix://")))
        client = redis.asyncio.from_url(redis_server.url)
        stack.push_async_callback(client.aclose)
        await client.flushall()
        world = World(
            database=await connect(progress.service),
            truth=truth,
            licenses=licenses,
            upstream=upstream,
            proxy=proxy,
            redis=client,
            stack=stack,
            progress_dsn=progress.service,
            subscription_target=f"127.0.0.1:{server.port}",
        )
        world.replica = await world.start()
        yield world
