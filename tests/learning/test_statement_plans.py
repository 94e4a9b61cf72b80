"""What a request about lessons costs does not grow with the number of learners: it probes indexes."""

from __future__ import annotations

import random
import time
from typing import cast

from bench.scale.plans import WatchedDatabase, literal
from chassis.postgres import Connection
from tests.learning.world import World, body, reasons

PLANTED = True
"""The rows are planted, and have no history."""
LEARNERS = 3000
BATCH = 32
# Enough for the server to keep a plan of each prepared statement that is good for any arguments.
ROUNDS = 12
TABLES = (
    "enrollments",
    "lesson_completions",
    "watched_videos",
    "learner_statistics",
    "progress_resets",
    "idempotency_keys",
    "xp_entries",
    "activity_days",
    "specialization_progress",
    "learner_achievements",
)


async def test_no_statement_reads_a_table_of_learners_from_end_to_end(world: World) -> None:
    watched = await WatchedDatabase.connect(world.progress_dsn, maximum=1)
    assert isinstance(watched, WatchedDatabase)
    world.stack.push_async_callback(watched.close)
    school = await world.course(modules=2, lessons=5)
    await populate(world.truth, school.course_id)
    first = school.names[0]
    await world.put_course(
        school.course_id,
        [
            (
                module,
                [
                    {"lesson_id": f"l{n}", "xp": 1, "video_seconds": 60, "min_watched_ratio": 0.1}
                    for n in range(1, 6)
                ],
            )
            for module in (first[0], school.names[5][0])
        ],
    )
    replica = await world.start(database=watched, url=None)
    learners = [await world.learner() for _ in range(BATCH * 2)]
    chance = random.Random(1)
    for place in range(ROUNDS):
        users = chance.sample(learners, BATCH)
        assert reasons(await replica.send([world.enrollment(user, school.course_id) for user in users])) == (
            [None] * BATCH
        )
        for user, outcome in zip(
            users,
            await replica.send([world.watching(user, first, (place, 30)) for user in users]),
            strict=True,
        ):
            assert body(world.watching(user, first), outcome).watched_ratio > 0
        assert (
            reasons(await replica.send([world.completion(user, first) for user in users])) == [None] * BATCH
        )
        assert reasons(await replica.send([world.question(user, first) for user in users])) == [None] * BATCH
        await world.one(world.enrollment_list(users[0]), replica)
    plans = await plans_of(watched)
    faults = [
        f"{sql}: {line.strip()}"
        for sql, plan in plans.items()
        for line in plan
        if any(line.strip().removeprefix("->  ").startswith(f"Seq Scan on {table}") for table in TABLES)
    ]
    assert not faults, "\n".join(faults)
    assert len(plans) > 10


async def populate(truth: Connection, course_id: str) -> None:
    """Learners who have done what a learner may do, and the planner's knowledge of them."""
    people = f"FROM generate_series(1, {LEARNERS}) AS number"
    lessons = "CROSS JOIN (SELECT module_id, lesson_id FROM lessons WHERE course_id = $1) AS lesson"
    await truth.execute(
        "INSERT INTO learner_statistics (user_id, version, updated_at)"
        f" SELECT 'p' || number, 1, now() {people}"
    )
    await truth.execute(
        "INSERT INTO enrollments (user_id, course_id, epoch, since_revision)"
        f" SELECT 'p' || number, $1, 0, 1 {people}",
        course_id,
    )
    await truth.execute(
        "INSERT INTO lesson_completions"
        " (user_id, course_id, epoch, module_id, lesson_id, revision, xp, occurred_at)"
        f" SELECT 'p' || number, $1, 0, module_id, lesson_id, 1, 0, now() {people} {lessons}",
        course_id,
    )
    await truth.execute(
        "INSERT INTO watched_videos (user_id, course_id, epoch, module_id, lesson_id, ranges)"
        f" SELECT 'p' || number, $1, 0, module_id, lesson_id, '{{[0,1)}}' {people} {lessons}",
        course_id,
    )
    await truth.execute(
        "INSERT INTO specialization_progress (user_id, specialization, xp, level, max_level, granted_level,"
        " epoch, catalog_version, version, updated_at)"
        f" SELECT 'p' || number, 'PLAYER', 0, 1, 8, 0, 0, 0, 1, now() {people}"
    )
    await truth.execute(
        "INSERT INTO learner_achievements (user_id, achievement, earned_at)"
        f" SELECT 'p' || number, 'first-lesson', now() {people}"
    )
    await truth.execute(
        "INSERT INTO xp_entries (user_id, operation_id, amount, specialization, earned_at)"
        f" SELECT 'p' || number, gen_random_uuid(), 1, 'PLAYER', now() {people}"
    )
    await truth.execute(
        "INSERT INTO activity_days (user_id, day)"
        f" SELECT 'p' || number, (now() AT TIME ZONE 'utc')::date {people}"
    )
    await truth.execute(
        "INSERT INTO progress_resets (user_id, epoch, scope, name, ordered_by, reason, reset_at)"
        f" SELECT 'r' || number, 1, 'all', '', 'root', 'a test', now() {people}"
    )
    await truth.execute("VACUUM (ANALYZE)")


async def plans_of(database: WatchedDatabase) -> dict[str, list[str]]:
    """The plan that the database's only connection has for each statement that was run."""
    statements = dict(database.statements)

    async def work(connection: Connection) -> dict[str, list[str]]:
        rows = await connection.fetch("SELECT name, statement FROM pg_prepared_statements")
        names = {row["statement"]: row["name"] for row in rows}
        found: dict[str, list[str]] = {}
        for sql, arguments in statements.items():
            if sql in names:
                literals = ", ".join([await literal(connection, argument) for argument in arguments])
                rows = await connection.fetch(f"EXPLAIN (COSTS OFF) EXECUTE {names[sql]}({literals})")
                found[" ".join(sql.split())[:80]] = [row[0] for row in rows]
        return found

    return cast("dict[str, list[str]]", await database.read(work, deadline=time.monotonic() + 60.0))
