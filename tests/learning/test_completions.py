"""Enrolling and completing: once, for those who may, with everything that a completion brings."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.errors import Reason, ServiceError
from protos.progress.v1 import resets_pb2
from tests.learning.world import World, body, reasons, unique
from tests.progress.specializations import put_levels, specialization_name


async def test_a_learner_goes_through_a_course(world: World) -> None:
    ada, course = await world.learner(), await world.course(modules=2, lessons=2, xp=10)
    enrollment = (await world.one(world.enrollment(ada, course.course_id))).enrollment
    assert (enrollment.completed_lessons, enrollment.total_lessons) == (0, 4)
    assert not enrollment.HasField("completed_at")

    version = enrollment.version
    for place, name in enumerate(course.names):
        assert (await world.access(ada, name)).accessible
        done = await world.complete(ada, name)
        assert (done.success, done.db_updated, done.cache_updated, done.xp_awarded) == (True, True, True, 10)
        assert done.version > version
        version = done.version
        if name == course.names[-1]:
            assert not done.HasField("next")
        else:
            following = course.names[place + 1]
            assert ((done.next.module_id, done.next.lesson_id), done.next.accessible) == (following, True)

    (enrollment,) = await world.enrollments(ada)
    assert (enrollment.completed_lessons, enrollment.total_lessons, enrollment.version) == (4, 4, version)
    assert abs(enrollment.completed_at.ToSeconds() - time.time()) < 60
    stats = await world.stats(ada)
    assert (stats.enrolled, stats.completed_lessons, stats.xp, stats.version) == (1, 4, 40, version)


async def test_a_completion_enrolls_who_is_not_enrolled(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    await world.complete(ada, course.names[0])
    (enrollment,) = await world.enrollments(ada)
    assert (enrollment.completed_lessons, enrollment.total_lessons) == (1, 6)
    assert (await world.stats(ada)).enrolled == 1
    again = (await world.one(world.enrollment(ada, course.course_id))).enrollment
    assert again == enrollment
    assert (await world.stats(ada)).enrolled == 1


async def test_the_same_key_repeats_its_answer(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    first = await world.complete(ada, course.names[0], "k1")
    (outcome,) = await world.replica.send([world.completion(ada, course.names[0], "k1")])
    assert outcome.replayed
    assert body(world.completion(ada, course.names[0], "k1"), outcome) == first
    (other,) = await world.replica.send([world.completion(ada, course.names[1], "k1")])
    assert other.reason is Reason.IDEMPOTENCY_KEY_REUSED


async def test_completing_again_under_another_key_succeeds_and_earns_nothing(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    first = await world.complete(ada, course.names[0])
    again = await world.complete(ada, course.names[0])
    assert (first.xp_awarded, again.xp_awarded) == (10, 0)
    assert (again.success, again.db_updated, again.version, again.next) == (
        True,
        True,
        first.version,
        first.next,
    )
    stats = await world.stats(ada)
    assert (stats.completed_lessons, stats.xp) == (1, 10)


async def test_a_locked_lesson_cannot_be_completed(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    with pytest.raises(ServiceError) as refusal:
        await world.complete(ada, course.names[1])
    assert refusal.value.reason is Reason.LESSON_LOCKED
    assert (await world.stats(ada)).version == 0


async def test_lessons_of_one_learner_in_one_batch_are_completed_one_after_the_other(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    items = [world.completion(ada, name) for name in course.names]
    assert reasons(await world.replica.send(items)) == [None] * 6
    bob = await world.learner()
    items = [world.completion(bob, name) for name in reversed(course.names)]
    assert reasons(await world.replica.send(items)) == [Reason.LESSON_LOCKED] * 5 + [None]


async def test_who_may_not_complete_is_refused_beside_polite_neighbours(world: World) -> None:
    course = await world.course()
    ada, bob = await world.learner(), await world.learner()
    unverified, inactive = await world.learner(verified=False), await world.learner(active=False)
    rude = {
        "an unverified address": (world.completion(unverified, course.names[0]), Reason.EMAIL_NOT_VERIFIED),
        "an inactive account": (world.completion(inactive, course.names[0]), Reason.INVALID_USER_REFERENCE),
        "no account": (world.completion(unique("nobody"), course.names[0]), Reason.INVALID_USER_REFERENCE),
        "no such module": (world.completion(ada, ("nowhere", "l1")), Reason.NOT_FOUND),
        "no such lesson": (world.completion(ada, (course.names[0][0], "l9")), Reason.NOT_FOUND),
        "a locked lesson": (world.completion(bob, course.names[3]), Reason.LESSON_LOCKED),
    }
    items = [world.completion(ada, course.names[0]), *(each[0] for each in rude.values())]
    items.append(world.completion(bob, course.names[0]))
    first, *refused, last = reasons(await world.replica.send(items))
    assert dict(zip(rude, refused, strict=True)) == {name: each[1] for name, each in rude.items()}
    assert (first, last) == (None, None)
    assert not await world.truth.fetch(
        "SELECT FROM learner_statistics WHERE user_id = ANY($1::text[])", [unverified, inactive]
    )


async def test_an_unverified_learner_may_enroll_and_an_unknown_one_may_not(world: World) -> None:
    course = await world.course()
    unverified, inactive = await world.learner(verified=False), await world.learner(active=False)
    users = [unverified, inactive, unique("nobody")]
    items = [world.enrollment(user, course.course_id) for user in users]
    items.append(world.enrollment(unverified, "nowhere"))
    assert reasons(await world.replica.send(items)) == [
        None,
        Reason.INVALID_USER_REFERENCE,
        Reason.INVALID_USER_REFERENCE,
        Reason.NOT_FOUND,
    ]


async def test_a_used_key_is_replayed_although_the_account_is_inactive_now(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    first = await world.complete(ada, course.names[0], "k1")
    await world.deactivate(ada)
    assert await world.complete(ada, course.names[0], "k1") == first
    with pytest.raises(ServiceError) as refusal:
        await world.complete(ada, course.names[1])
    assert refusal.value.reason is Reason.INVALID_USER_REFERENCE


async def test_one_lesson_from_sixty_tabs_is_completed_once(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    replicas = [world.replica, await world.start()]
    items = [world.completion(ada, course.names[0]) for _ in range(60)]
    outcomes = await asyncio.gather(*(replicas[place % 2].send([item]) for place, item in enumerate(items)))
    answers = [body(items[0], outcome) for (outcome,) in outcomes if not isinstance(outcome, ServiceError)]
    refused = {outcome.reason for (outcome,) in outcomes if isinstance(outcome, ServiceError)}
    assert refused <= {Reason.UNAVAILABLE}  # waited too long for its turn
    assert sorted(answer.xp_awarded for answer in answers)[-2:] in ([0, 10], [10])
    stats = await world.stats(ada)
    assert (stats.enrolled, stats.completed_lessons, stats.xp) == (1, 1, 10)


async def test_one_key_from_many_tabs_has_one_answer(world: World) -> None:
    ada, course = await world.learner(), await world.course()
    replicas = [world.replica, await world.start()]
    items = [world.completion(ada, course.names[0], "k1") for _ in range(20)]
    outcomes = await asyncio.gather(*(replicas[place % 2].send([item]) for place, item in enumerate(items)))
    answers = {
        body(items[0], outcome).SerializeToString(deterministic=True)
        for (outcome,) in outcomes
        if not isinstance(outcome, ServiceError)
    }
    assert len(answers) == 1
    assert (await world.stats(ada)).xp == 10


async def test_xp_counts_for_the_specialization_of_the_course(world: World) -> None:
    specialization = specialization_name()
    await put_levels(world.truth, specialization, [0, 50])
    ada, course = await world.learner(), await world.course(specialization=specialization, xp=50)
    await world.complete(ada, course.names[0])
    (row,) = await world.truth.fetch("SELECT * FROM xp_entries WHERE user_id = $1", ada)
    assert (row["amount"], row["specialization"]) == (50, specialization)
    events = await world.truth.fetchval("SELECT count(*) FROM outbox WHERE user_id = $1", ada)
    assert events >= 1
    assert world.replica.wakes


async def test_the_time_of_a_completion_is_bounded_by_the_databases_clock(world: World) -> None:
    course = await world.course()
    now = datetime.now(UTC)
    for told, at in {
        now + timedelta(days=400): now,
        now - timedelta(days=3): now - timedelta(days=3),
        now - timedelta(days=4000): now - timedelta(days=30),
    }.items():
        ada = await world.learner()
        moment = Timestamp()
        moment.FromDatetime(told)
        await world.complete(ada, course.names[0], occurred_at=moment)
        stored = await world.truth.fetchval(
            "SELECT occurred_at FROM lesson_completions WHERE user_id = $1", ada
        )
        assert abs(stored - at) < timedelta(minutes=5)
        days = await world.truth.fetchval("SELECT day FROM activity_days WHERE user_id = $1", ada)
        assert days == stored.astimezone(UTC).date()


async def test_a_lesson_may_demand_that_its_video_was_watched(world: World) -> None:
    ada, course = await world.learner(), unique("course")
    video = {"lesson_id": "l1", "xp": 5, "video_seconds": 100, "min_watched_ratio": 0.8}
    await world.put_course(course, [(f"{course}-m", [video])])
    name = (f"{course}-m", "l1")
    await world.one(world.watching(ada, name, (0, 50)))
    with pytest.raises(ServiceError) as refusal:
        await world.complete(ada, name)
    assert refusal.value.reason is Reason.ENGAGEMENT_TOO_LOW
    assert refusal.value.metadata == {"needed": 0.8, "current": 0.5}
    await world.one(world.watching(ada, name, (40, 80)))
    assert (await world.complete(ada, name)).xp_awarded == 5


async def test_after_a_reset_a_course_begins_again(world: World) -> None:
    ada, course = await world.learner(), await world.course(xp=10)
    before = await world.complete(ada, course.names[0])
    await world.complete(ada, course.names[1])
    await world.truth.execute(
        "INSERT INTO progress_resets VALUES ($1, 1, 'course', $2, 'root', 'a test', clock_timestamp())",
        ada,
        course.course_id,
    )
    await world.truth.execute("UPDATE learner_statistics SET epoch = 1 WHERE user_id = $1", ada)
    await world.redis.flushall()
    assert not (await world.access(ada, course.names[1])).accessible
    (enrollment,) = await world.enrollments(ada)
    assert (enrollment.completed_lessons, enrollment.HasField("completed_at")) == (0, False)
    late = Timestamp()
    late.FromDatetime(datetime.now(UTC) - timedelta(days=1))
    with pytest.raises(ServiceError) as refusal:
        await world.complete(ada, course.names[0], occurred_at=late)
    assert refusal.value.reason is Reason.ILLEGAL_TRANSITION
    again = await world.complete(ada, course.names[0])
    assert again.xp_awarded == 10
    assert again.version > before.version
    (enrollment,) = await world.enrollments(ada)
    assert enrollment.completed_lessons == 1
    assert (await world.stats(ada)).enrolled == 1


@pytest.mark.parametrize("scope", ["all", "course", "specialization"])
async def test_what_is_completed_after_a_reset_counts_although_the_clock_has_stepped_back(
    world: World, scope: str
) -> None:
    specialization = specialization_name()
    await put_levels(world.truth, specialization, [0, 10, 20])
    user, school = await world.enrolled(specialization=specialization, xp=10)
    await world.complete(user, school.names[0])
    request = resets_pb2.ResetProgressRequest(
        user_id=user,
        scope=resets_pb2.ResetScope(
            all=scope == "all",
            course_id=school.course_id if scope == "course" else "",
            specialization=specialization if scope == "specialization" else "",
        ),
        reason="a new season",
    )
    path = "/homeroom.progress.v1.ResetService/ResetProgress"
    await world.one(world.item(path, request, user="root", key=f"{user} {scope}"))
    # As it is if the clock was an hour ahead then.
    await world.truth.execute(
        "UPDATE progress_resets SET reset_at = reset_at + interval '1 hour' WHERE user_id = $1", user
    )
    name = school.names[1 if scope == "specialization" else 0]
    assert (await world.complete(user, name)).xp_awarded == 10
    level = "SELECT xp, level FROM specialization_progress WHERE user_id = $1"
    (row,) = await world.truth.fetch(level, user)
    assert (row["xp"], row["level"]) == ((20, 3) if scope == "course" else (10, 2))
