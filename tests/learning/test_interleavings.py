"""Whatever happens between the two statements of a completion, it is as if it had happened before or after.

Each event is tried with three learners who have done the same before. For the first one it happens between
the reading and the writing statement, for the others before and after a completion under the lock.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.errors import ServiceError
from progress_service.domain.license_changes import LicenseChange
from progress_service.domain.statistics import UserId
from progress_service.store.catalog_changes import CatalogChangeStore
from progress_service.store.license_feed import LicenseFeedStore
from progress_service.store.unlocked_completions import UnlockedCompletionStore
from protos.progress.v1 import progress_pb2, resets_pb2, specializations_pb2
from tests.learning.model import Name
from tests.learning.test_imported_completions import path_of
from tests.learning.test_unlocked_completions import rows_of
from tests.learning.world import STATISTICS, School, World, body
from tests.progress.test_imports import imported, written

HISTORY_STEPS = 5
LESSON_XP = (10, 0, 7, 3, 10, 5)
LADDER = (0, 20, 45, 200)

_numbers = itertools.count(1)
_sequences = itertools.count(1)


@dataclass
class Learner:
    """A learner with a course and a specialization of their own; all names have the same length."""

    world: World
    tag: str
    school: School
    user: str

    @property
    def specialization(self) -> str:
        return f"{self.tag}-s"

    @property
    def other_specialization(self) -> str:
        return f"{self.tag}-t"

    async def complete(self, place: int, key: str, occurred_at: Timestamp | None = None) -> object:
        fields = {} if occurred_at is None else {"occurred_at": occurred_at}
        item = self.world.completion(self.user, self.school.names[place], f"{self.tag} {key}", **fields)
        (outcome,) = await self.world.replica.send([item])
        if isinstance(outcome, ServiceError):
            return outcome.reason
        answer = body(item, outcome)
        answer.ClearField("cache_updated")
        return outcome.replayed, str(answer).replace(self.tag, "tag")

    async def result(self, session: str, xp: int) -> None:
        request = progress_pb2.RecordSessionResultRequest(
            user_id=self.user,
            session_id=session,
            test_id="t",
            specialization=self.specialization,
            completed=True,
            answered=1,
            total=1,
            answers=1,
            correct=1,
            score=1,
            passed=True,
            xp=xp,
            closed_at=Timestamp(seconds=1_774_785_600),
        )
        await self.world.one(self.world.item(f"{STATISTICS}/RecordSessionResult", request))

    async def put_course(
        self, *places: int, more_xp: int = 0, specialization: str = "", min_watched_ratio: float = 0.0
    ) -> None:
        """Offer these lessons of the first edition, in this order."""
        watching = {"video_seconds": 60.0, "min_watched_ratio": min_watched_ratio}
        lessons = [
            {"lesson_id": f"l{place}", "xp": LESSON_XP[place] + more_xp}
            | (watching if min_watched_ratio else {})
            for place in places
        ]
        await self.world.put_course(
            self.school.course_id,
            [(f"{self.tag}-m", lessons)],
            specialization=specialization or self.specialization,
        )

    async def put_levels(self, *requirements: int) -> None:
        for name in (self.specialization, self.other_specialization):
            request = specializations_pb2.PutSpecializationRequest(
                specialization=name,
                name="a specialization",
                levels=[
                    specializations_pb2.Level(level=level, name=f"level {level}", xp_required=required)
                    for level, required in enumerate(requirements, 1)
                ],
            )
            path = "/homeroom.progress.v1.SpecializationService/PutSpecialization"
            await self.world.one(self.world.item(path, request))

    async def decide_levels(self) -> None:
        await CatalogChangeStore(self.world.database).decide_outdated(
            limit=1000, deadline=time.monotonic() + 10
        )

    async def reset(self, **scope: Any) -> None:
        request = resets_pb2.ResetProgressRequest(
            user_id=self.user, scope=resets_pb2.ResetScope(**scope), reason="a new season"
        )
        path = "/homeroom.progress.v1.ResetService/ResetProgress"
        await self.world.one(self.world.item(path, request, user="root", key=f"{self.tag} reset {scope}"))

    async def advance(self, level: int) -> None:
        change = LicenseChange(
            sequence=next(_sequences),
            user_id=UserId(self.user),
            specialization=self.specialization,
            level=level,
            max_level=len(LADDER),
            epoch=0,
            advanced=True,
        )
        await LicenseFeedStore(self.world.database).apply_changes([change], deadline=time.monotonic() + 10)

    async def rows(self) -> str:
        return repr(await rows_of(self.world, self.user)).replace(self.tag, "tag")


@dataclass(frozen=True)
class Plan:
    """What all learners of a trial do, and what happens meanwhile."""

    history: tuple[tuple[str, int], ...]
    place: int
    occurred_at: Timestamp | None
    event_is_quick: bool
    folder: Path

    @classmethod
    def random(cls, rng: random.Random, folder: Path) -> Plan:
        """Lessons in their order and some results; then the next lesson, or another one."""
        kinds = rng.choices(["lesson", "result"], [4, 1], k=rng.randint(0, HISTORY_STEPS))
        counts = {"lesson": itertools.count(), "result": itertools.count()}
        history = tuple((kind, next(counts[kind])) for kind in kinds)
        place = kinds.count("lesson")
        if rng.random() < 0.2:
            place = rng.randrange(len(LESSON_XP))
        moment = Timestamp()
        moment.FromDatetime(datetime.now(UTC) - timedelta(days=rng.randrange(4), hours=1))
        return cls(history, place, rng.choice([None, moment]), rng.random() < 0.5, folder)

    async def begin(self, learner: Learner) -> None:
        """The history of the learner."""
        for kind, number in self.history:
            if kind == "lesson":
                await learner.complete(number, f"lesson {number}")
            else:
                await learner.result(f"session {number}", 9)

    async def complete(self, learner: Learner) -> object:
        return await learner.complete(self.place, "the key", self.occurred_at)


Event = Callable[[Plan, Learner], Awaitable[object]]


async def import_completion(plan: Plan, learner: Learner) -> None:
    lesson = ",".join(learner.school.names[plan.place])
    path = path_of(plan.folder, f"{learner.user},{lesson},2025-01-01T10:00:00Z")
    await imported(learner.world.database, path)


async def import_level(plan: Plan, learner: Learner) -> None:
    line = f"{learner.user},{learner.specialization},2,30,2025-01-01T10:00:00Z"
    text = f"userId,specialization,level,xp,updatedAt\n{line}\n"
    await imported(learner.world.database, written(plan.folder, text))


async def lower_and_decide(_: Plan, learner: Learner) -> None:
    await learner.put_levels(0, 5, 11, 12, 13)
    await learner.decide_levels()


EVENTS: dict[str, Event] = {
    "the same lesson": lambda plan, learner: learner.complete(plan.place, "another key"),
    "the same key": lambda plan, learner: plan.complete(learner),
    "the same key for another lesson": lambda _, learner: learner.complete(0, "the key"),
    "the next lesson": lambda plan, learner: learner.complete(min(plan.place + 1, 5), "another key"),
    "an enrollment": lambda _, learner: learner.world.one(
        learner.world.enrollment(learner.user, learner.school.course_id)
    ),
    "a video": lambda plan, learner: learner.world.replica.send(
        [learner.world.watching(learner.user, learner.school.names[plan.place], (0, 1))]
    ),
    "a result": lambda _, learner: learner.result("meanwhile", 8),
    "a result with a level": lambda _, learner: learner.result("meanwhile", 60),
    "a reset of all": lambda _, learner: learner.reset(all=True),
    "a reset of the course": lambda _, learner: learner.reset(course_id=learner.school.course_id),
    "a reset of the specialization": lambda _, learner: learner.reset(specialization=learner.specialization),
    "a course without the lesson": lambda plan, learner: learner.put_course(
        *(place for place in range(6) if place != plan.place)
    ),
    "another order": lambda _, learner: learner.put_course(5, 4, 3, 2, 1, 0),
    "more XP": lambda _, learner: learner.put_course(*range(6), more_xp=100),
    "another specialization": lambda _, learner: learner.put_course(
        *range(6), specialization=learner.other_specialization
    ),
    "videos to be watched": lambda _, learner: learner.put_course(*range(6), min_watched_ratio=0.5),
    "lower levels": lambda _, learner: learner.put_levels(0, 5, 11, 12, 13),
    "lower levels that are decided": lower_and_decide,
    "higher levels": lambda _, learner: learner.put_levels(0, 500, 1000),
    "a license": lambda _, learner: learner.advance(3),
    "a license without news": lambda _, learner: learner.advance(1),
    "an imported completion": import_completion,
    "an imported level": import_level,
}


@dataclass
class Ways:
    """Which way completions take, and what happens, once, before the writing statement of the quick one."""

    quick: bool = True
    meanwhile: Callable[[], Awaitable[object]] | None = None


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Ways:
    ways = Ways()
    read, write = UnlockedCompletionStore.read_facts, UnlockedCompletionStore.write_unchanged

    async def read_facts(store: UnlockedCompletionStore, items: Any) -> Any:
        return await read(store, items) if ways.quick else [None] * len(items)

    async def write_unchanged(store: UnlockedCompletionStore, drafted: Any, **keywords: Any) -> Any:
        event, ways.meanwhile = ways.meanwhile, None
        if event is not None:
            await event()
        return await write(store, drafted, **keywords)

    monkeypatch.setattr(UnlockedCompletionStore, "read_facts", read_facts)
    monkeypatch.setattr(UnlockedCompletionStore, "write_unchanged", write_unchanged)
    return ways


async def new_learner(world: World) -> Learner:
    tag = f"u{next(_numbers):06d}"
    names: tuple[Name, ...] = tuple((f"{tag}-m", f"l{place}") for place in range(len(LESSON_XP)))
    learner = Learner(world, tag, School(f"{tag}-c", names), f"{tag}-learner")
    await world.put_account(learner.user, verified=True, active=True)
    await learner.put_levels(*LADDER)
    await learner.put_course(*range(len(LESSON_XP)))
    await world.one(world.enrollment(learner.user, learner.school.course_id))
    return learner


async def outcome_of(
    plan: Plan, event: Event, ways: Ways, world: World, order: str
) -> tuple[bool, object, str]:
    """Whether the event came between the statements; the answer, and all rows of the learner in the end."""
    learner = await new_learner(world)
    ways.quick = order == "meanwhile"
    await plan.begin(learner)
    if order == "before":
        await event(plan, learner)
    elif order == "meanwhile":

        async def meanwhile() -> None:
            ways.quick = plan.event_is_quick
            await event(plan, learner)

        ways.meanwhile = meanwhile
    answer = await plan.complete(learner)
    between = order == "meanwhile" and ways.meanwhile is None
    if order == "after" or ways.meanwhile is not None:
        ways.meanwhile = None
        await event(plan, learner)
    await learner.decide_levels()
    return between, answer, await learner.rows()


async def try_event(world: World, ways: Ways, folder: Path, event: Event, rng: random.Random) -> bool:
    """Whether the event came between the two statements."""
    plan = Plan.random(rng, folder)
    between, *quick = await outcome_of(plan, event, ways, world, "meanwhile")
    _, *before = await outcome_of(plan, event, ways, world, "before")
    _, *after = await outcome_of(plan, event, ways, world, "after")
    assert quick in ([before, after] if between else [after]), plan
    return between


@pytest.mark.parametrize("name", EVENTS)
async def test_an_event_between_the_statements_is_as_one_before_or_after_them(
    world: World, ways: Ways, tmp_path: Path, name: str
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    while not await try_event(world, ways, tmp_path, EVENTS[name], rng):
        pass


@pytest.mark.nightly
@pytest.mark.timeout(3600)
async def test_many_events_between_the_statements(world: World, ways: Ways, tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(500):
        await try_event(world, ways, tmp_path, EVENTS[rng.choice(list(EVENTS))], rng)
