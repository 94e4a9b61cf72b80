"""Random requests of a few learners, repeated and reordered, while courses change and the cache fails."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.batch import Item, Reply
from chassis.errors import Reason, ServiceError
from protos.progress.v1 import progress_pb2
from tests.learning.diagnostics import discrepancies
from tests.learning.faults import CacheFaults
from tests.learning.model import VIDEO_SECONDS, XP, ModelCourse, ModelLearner, Name
from tests.learning.world import CACHE, STATISTICS, Replica, World, body, unique

LEARNERS, COURSES, LESSONS = 4, 2, 6


class Play:
    """Requests one after the other, each compared with the model; some of them sent several times at once."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.faults = CacheFaults(world, seed)
        self.replicas: list[Replica] = []
        self.courses: list[ModelCourse] = []
        self.learners: list[ModelLearner] = []

    async def begin(self) -> None:
        self.replicas = [
            await self.world.start(read_seconds_max=0.05, write_seconds_max=seconds) for seconds in (0.1, 2.0)
        ]
        self.learners = [ModelLearner(await self.world.learner()) for _ in range(LEARNERS)]
        for _ in range(COURSES):
            course = ModelCourse(unique("course"), [[]])
            self.courses.append(course)
            await self.change_course(course)

    async def step(self) -> None:
        learner, course = self.random.choice(self.learners), self.random.choice(self.courses)
        acts = {
            self.complete: 30,
            self.look: 30,
            self.watch: 10,
            self.enroll: 5,
            self.progress: 8,
            self.result: 5,
        }
        if self.random.random() < 0.12:
            await self.faults.strike()
        if self.random.random() < 0.04:
            await self.change_course(course)
        (act,) = self.random.choices(list(acts), list(acts.values()))
        await act(learner, course)

    async def sent(self, item: Item[Any]) -> list[Any]:
        """The outcomes of the request, sent once or several times at once, through either replica."""
        times = self.random.choice([1, 1, 1, 2, 3])
        outcomes = await asyncio.gather(
            *(self.random.choice(self.replicas).send([self.world.again(item)]) for _ in range(times))
        )
        told = [outcome for (outcome,) in outcomes]
        known = [
            each
            for each in told
            if not (isinstance(each, ServiceError) and each.reason is Reason.UNAVAILABLE)
        ]
        return known or await self.sent(item)

    def name(self, course: ModelCourse) -> Name:
        return self.random.choice([name for order in course.orders for name in order])

    async def complete(self, learner: ModelLearner, course: ModelCourse) -> None:
        name = self.name(course)
        opened = learner.open(course)
        done = name in learner.completed.get(course.course_id, {})
        item = self.world.completion(learner.user, name)
        for outcome in await self.sent(item):
            if name in opened:
                answer = body(item, outcome)
                assert answer.xp_awarded == (0 if done else XP)
                assert answer.version >= learner.version
                learner.version = answer.version
            else:
                expected = Reason.LESSON_LOCKED if name in course.order else Reason.NOT_FOUND
                assert outcome.reason is expected, (name, outcome)
        if name in opened:
            learner.complete(course, name)
            if self.random.random() < 0.3:
                (outcome,) = await self.replicas[0].send([self.world.again(item)])
                if isinstance(outcome, Reply):
                    assert outcome.replayed

    async def look(self, learner: ModelLearner, course: ModelCourse) -> None:
        name = self.name(course)
        item = self.world.question(learner.user, name, self.random.choice([0, learner.version]))
        for outcome in await self.sent(item):
            self.compare(
                learner, course, name, None if isinstance(outcome, ServiceError) else body(item, outcome)
            )

    def compare(self, learner: ModelLearner, course: ModelCourse, name: Name, answer: Any) -> None:
        opened = learner.open(course)
        if answer is None:
            assert name not in opened
            assert name not in course.order
        else:
            assert answer.accessible == (name in opened), (learner.user, name, answer)
        if course.course_id in learner.enrolled:
            assert learner.told_open & {each for order in course.orders for each in order} <= opened
            if name in opened:
                learner.told_open.add(name)

    async def progress(self, learner: ModelLearner, course: ModelCourse) -> None:
        for replica in self.replicas:
            progress = await self.world.progress(learner.user, course.course_id, learner.version, replica)
            names = [(each.module_id, each.lesson_id) for each in progress.lessons]
            opened, done = learner.open(course), learner.completed.get(course.course_id, {})
            if progress.source == CACHE:  # perhaps from before a change of the course, and all open
                assert set(names) <= opened
            else:
                assert set(names) == set(course.order) | opened
            for name, each in zip(names, progress.lessons, strict=True):
                assert each.status == (3 if name in done else 2 if name in opened else 1)
            assert progress.completed_lessons == len(done)

    async def watch(self, learner: ModelLearner, course: ModelCourse) -> None:
        name = self.name(course)
        start = self.random.randrange(VIDEO_SECONDS)
        seconds = range(start, min(VIDEO_SECONDS, start + self.random.randint(1, 20)))
        item = self.world.watching(learner.user, name, (seconds[0], seconds[-1] + 1))
        opened = name in learner.open(course)
        if opened:
            learner.watch(name, seconds)
        for outcome in await self.sent(item):
            if opened:
                answer = body(item, outcome)
                covered = {
                    second
                    for each in answer.ranges
                    for second in range(int(each.from_seconds), int(each.to_seconds))
                }
                assert covered == learner.watched[name]
                learner.version = max(learner.version, answer.version)
            else:
                assert outcome.reason in {Reason.LESSON_LOCKED, Reason.NOT_FOUND}

    async def enroll(self, learner: ModelLearner, course: ModelCourse) -> None:
        item = self.world.enrollment(learner.user, course.course_id)
        learner.enroll(course)
        learner.see_end(course)
        for outcome in await self.sent(item):
            answer = body(item, outcome).enrollment
            assert answer.completed_lessons == len(learner.completed.get(course.course_id, {}))

    async def result(self, learner: ModelLearner, course: ModelCourse) -> None:
        session = self.random.choice([*sorted(learner.sessions), unique("session")])
        path = f"{STATISTICS}/RecordSessionResult"
        request = progress_pb2.RecordSessionResultRequest(
            user_id=learner.user,
            session_id=session,
            test_id="t",
            completed=True,
            answered=1,
            total=1,
            answers=1,
            correct=1,
            score=1,
            passed=True,
            xp=7,
            closed_at=Timestamp(seconds=1_774_785_600),
        )
        item = self.world.item(path, request)
        recorded = [body(item, outcome).recorded for outcome in await self.sent(item)]
        assert session not in learner.sessions or not any(recorded)
        learner.session_xp += 0 if session in learner.sessions else 7
        learner.sessions.add(session)

    async def change_course(self, course: ModelCourse) -> None:
        """Put lessons in, leave some out, move some; at least one stays."""
        modules = [f"{course.course_id}-m{n}" for n in range(3)]
        names = [(module, f"l{n}") for module in modules for n in range(LESSONS)]
        order = [*self.random.sample(names, self.random.randint(2, LESSONS))]
        kept = [name for name in course.order if self.random.random() < 0.8]
        order = kept + [name for name in order if name not in kept][: max(2, LESSONS - len(kept))]
        order.sort(key=lambda name: modules.index(name[0]))
        await self.world.put_course(
            course.course_id,
            [
                (
                    module,
                    [
                        {"lesson_id": each[1], "xp": XP, "video_seconds": VIDEO_SECONDS}
                        for each in order
                        if each[0] == module
                    ],
                )
                for module in modules
            ],
        )
        course.put(order)
        if not course.orders[0]:
            course.orders.pop(0)

    async def end(self) -> None:
        await self.world.heal()
        for learner in self.learners:
            for course in self.courses:
                for name in {name for order in course.orders for name in order}:
                    item = self.world.question(learner.user, name)
                    (outcome,) = await self.replicas[0].send([item])
                    answer = None if isinstance(outcome, ServiceError) else body(item, outcome)
                    self.compare(learner, course, name, answer)
                await self.progress(learner, course)
            stats = await self.world.stats(learner.user)
            assert (stats.completed_lessons, stats.enrolled, stats.xp) == (
                learner.lessons,
                len(learner.enrolled),
                learner.xp,
            )
            finished = {
                each.course_id
                for each in await self.world.enrollments(learner.user)
                if each.HasField("completed_at")
            }
            assert finished == learner.finished
        assert await discrepancies(self.world.truth) == []


async def play(world: World, *, steps: int, seed: int) -> None:
    print(f"\nseed {seed}")
    playing = Play(world, seed)
    await playing.begin()
    for _ in range(steps):
        await playing.step()
    await playing.end()


@pytest.mark.parametrize("seed", [1, 2, None], ids=["1", "2", "another"])
async def test_any_requests_in_any_order_lead_to_what_the_rules_say(world: World, seed: int | None) -> None:
    seed = random.randrange(2**32) if seed is None else seed
    print(f"seed {seed}")
    await play(world, steps=200, seed=seed)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
async def test_many_requests_in_any_order_lead_to_what_the_rules_say(world: World) -> None:
    for _ in range(50):
        await play(world, steps=500, seed=random.randrange(2**32))
