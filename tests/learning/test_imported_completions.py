"""Completions that a team brings along: they open lessons and count once, and earn no XP."""

from __future__ import annotations

from pathlib import Path

from chassis.postgres import Database
from tests.learning.world import School, World
from tests.progress.test_imports import imported, written

HEADER = "userId,moduleId,lessonId,completedAt"


def lines_of(user: str, school: School, *places: int, day: int = 1) -> list[str]:
    return [
        f"{user},{module_id},{lesson_id},2025-01-{day:02d}T10:00:00Z"
        for module_id, lesson_id in (school.names[place] for place in places)
    ]


def path_of(folder: Path, *lines: str) -> Path:
    return written(folder, "\n".join((HEADER, *lines)) + "\n")


async def completed(world: World, user: str) -> list[tuple[str, str, str, int]]:
    rows = await world.truth.fetch(
        """
        SELECT module_id, lesson_id, to_char(occurred_at AT TIME ZONE 'utc', 'YYYY-MM-DD'), xp
          FROM lesson_completions WHERE user_id = $1 ORDER BY module_id, lesson_id
        """,
        user,
    )
    return [tuple(row) for row in rows]


async def test_completions_are_put_together_and_open_what_follows(world: World, tmp_path: Path) -> None:
    database: Database = world.database
    school = await world.course(modules=2, lessons=3, xp=10)
    ann, bob = await world.learner("ann"), await world.learner("bob")
    await world.complete(ann, school.names[0])  # in the new system already
    path = path_of(
        tmp_path,
        *lines_of(ann, school, 0, 1, 3, day=5),
        *lines_of(ann, school, 3, day=4),
        *lines_of(bob, school, *range(6), day=9),
    )
    dry, dry_notes = await imported(database, path, dry_run=True)
    assert await completed(world, bob) == []
    summary, notes = await imported(database, path)
    assert notes == dry_notes == [(4, "DUPLICATE", "line 5 has the same lesson, and is not later")]
    assert summary.completions_added == dry.completions_added == 2 + 6
    assert (await completed(world, ann))[1:] == [
        (*school.names[1], "2025-01-05", 0),
        (*school.names[3], "2025-01-04", 0),
    ]
    assert (await world.access(ann, school.names[2])).accessible
    assert (await world.access(ann, school.names[4])).accessible
    assert not (await world.access(ann, school.names[5])).accessible
    stats = await world.stats(ann)
    assert (stats.completed_lessons, stats.xp, stats.enrolled) == (3, 10, 1)
    (enrollment,) = await world.enrollments(bob)
    assert (enrollment.completed_lessons, enrollment.total_lessons) == (6, 6)
    assert enrollment.HasField("completed_at")

    again, _ = await imported(database, path)
    assert again.completions_added == 0
    assert (await world.stats(ann)) == stats
    # A lesson that was imported earns nothing when it is completed again.
    assert (await world.complete(ann, school.names[1])).xp_awarded == 0


async def test_unknown_lessons_and_what_was_reset_since_are_rejected(world: World, tmp_path: Path) -> None:
    school = await world.course()
    ann = await world.learner("ann")
    await world.truth.execute("INSERT INTO learner_statistics (user_id, epoch) VALUES ($1, 1)", ann)
    await world.truth.execute(
        """
        INSERT INTO progress_resets (user_id, epoch, scope, name, ordered_by, reason, reset_at)
        VALUES ($1, 1, 'course', $2, 'root', 'cheated', '2025-01-03T00:00:00Z')
        """,
        ann,
        school.course_id,
    )
    module_id, _ = school.names[0]
    path = path_of(
        tmp_path,
        f"{ann},nowhere,l1,2025-01-05T00:00:00Z",
        f"{ann},{module_id},nothing,2025-01-05T00:00:00Z",
        *lines_of(ann, school, 0, day=2),
        *lines_of(ann, school, 1, day=4),
    )
    summary, notes = await imported(world.database, path)
    assert notes == [
        (2, "REJECTED", "the lesson 'l1' of the module 'nowhere' is not in the catalog"),
        (3, "REJECTED", f"the lesson 'nothing' of the module '{module_id}' is not in the catalog"),
        (4, "REJECTED", "the progress was reset after completedAt"),
    ]
    assert (summary.completions_added, summary.rejected, summary.counted) == (1, 3, 1)


async def test_a_lesson_that_was_completed_again_after_a_reset_counts_from_then_on(
    world: World, tmp_path: Path
) -> None:
    school = await world.course()
    ann = await world.learner("ann")
    await world.truth.execute("INSERT INTO learner_statistics (user_id, epoch) VALUES ($1, 1)", ann)
    await world.truth.execute(
        """
        INSERT INTO progress_resets (user_id, epoch, scope, name, ordered_by, reason, reset_at)
        VALUES ($1, 1, 'course', $2, 'root', 'cheated', '2025-01-03T00:00:00Z')
        """,
        ann,
        school.course_id,
    )
    path = path_of(
        tmp_path,
        *lines_of(ann, school, 0, day=6),
        *lines_of(ann, school, 0, day=2),
        *lines_of(ann, school, 0, day=5),
    )
    summary, notes = await imported(world.database, path)
    assert notes == [
        (2, "DUPLICATE", "line 4 has the same lesson, and is not later"),
        (3, "REJECTED", "the progress was reset after completedAt"),
    ]
    assert await completed(world, ann) == [(*school.names[0], "2025-01-05", 0)]
    assert (summary.completions_added, summary.counted) == (1, 1)
