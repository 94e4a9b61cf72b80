"""Faults in the store of progress_service, planted for one learner: each is what one check looks for."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from progress_service.domain.access import Access
from progress_service.domain.courses import CourseId
from progress_service.domain.license_orders import LicenseOrder
from progress_service.domain.statistics import UserId
from progress_service.store.editions import EditionCache
from progress_service.store.standings import Attendance, StandingReader, StandingStore
from tests.diagnostics.progress_school import VIDEO_SECONDS, Pupil, School

VIDEO = {"video_seconds": VIDEO_SECONDS, "min_watched_ratio": 0.9}


@dataclass(frozen=True)
class Planting:
    """A fault, and what must be found.

    `also` are other checks that the same rows violate. `mend` says how it ends: by the usual repair, which
    can be taken back (`undone`) or not, and may end with a delivery only; else by the SQL of a person.
    """

    check: str
    plant: Callable[[School, Pupil], Awaitable[object]]
    observed: str
    expected: str
    row: tuple[str, ...] = ("user_id",)
    also: frozenset[str] = frozenset()
    undone: bool = True
    delivered: bool = False
    by_hand: Callable[[School, Pupil], Awaitable[object]] | None = None
    pupil: dict[str, Any] | None = None


def sql(*statements: str) -> Callable[[School, Pupil], Awaitable[object]]:
    """Statements with the names of the learner (`:user`), the course and the specialization."""

    async def run(school: School, pupil: Pupil) -> None:
        names = {"user": pupil.user_id, "course": pupil.course_id, "spec": pupil.specialization}
        for statement in statements:
            text = re.sub(r":(user|course|spec)\b", lambda found: f"'{names[found[1]]}'", statement)
            connection = school.world.licenses if " licenses" in statement else school.truth
            await connection.execute(text)

    return run


def unchecked(*statements: str) -> Callable[[School, Pupil], Awaitable[object]]:
    """The same where foreign keys refuse it."""

    async def run(school: School, pupil: Pupil) -> None:
        await school.unchecked(lambda: sql(*statements)(school, pupil))

    return run


async def delete_entry_of_result(school: School, pupil: Pupil) -> None:
    await school.truth.execute("DELETE FROM xp_entries WHERE user_id = $1 AND amount = 7", pupil.user_id)


async def plant_license(school: School, pupil: Pupil) -> None:
    other = await school.pupil()
    await school.world.licenses.execute(
        """
        INSERT INTO licenses (user_id, specialization, level, max_level, epoch, updated_at)
        SELECT $1, $2, 3, 4, 0, now()
        """,
        pupil.user_id,
        other.specialization,
    )


async def plant_event(school: School, pupil: Pupil, **columns: str) -> None:
    """An order that the license has had already."""
    order = LicenseOrder(
        user_id=UserId(pupil.user_id),
        specialization=pupil.specialization,
        epoch=0,
        level=2,
        max_level=4,
        reason="a test",
    )
    await school.truth.execute(
        "INSERT INTO outbox (user_id, event_id, topic, payload, created_at) "
        "VALUES ($1, $2, 'subscription.LicenseOrder', $3, now() - interval '1 day')",
        pupil.user_id,
        uuid.uuid4(),
        order.payload(),
    )
    for name, value in columns.items():
        await school.truth.execute(
            f"UPDATE outbox SET {name} = {value} WHERE user_id = $1",  # noqa: S608 - a constant of this file
            pupil.user_id,
        )


async def plant_cached(school: School, pupil: Pupil) -> None:
    """An entry that shows the last lesson as completed, at the version that the store has."""
    await sql("UPDATE courses SET updated_at = now() - interval '1 hour' WHERE course_id = :course")(
        school, pupil
    )
    reader = StandingReader(editions=EditionCache(), clock=school.clock)
    each = Attendance(UserId(pupil.user_id), CourseId(pupil.course_id))
    store = StandingStore(database=school.world.database, standings=reader)
    access = (await store.read_access([each], deadline=_soon()))[each]
    wrong = replace(access, lessons=dict.fromkeys(access.lessons, Access.COMPLETED))
    await school.world.redis.delete(f"access:1:{pupil.user_id}:{pupil.course_id}")
    assert await school.cache.write([wrong], until=_soon()) == [True]


def _soon() -> float:
    return time.monotonic() + 10.0


PLANTINGS = [
    Planting(
        "progress.totals",
        sql("UPDATE learner_statistics SET xp = xp + 5, answers = answers - 1 WHERE user_id = :user"),
        "answers 4, xp 32",
        "answers 5, xp 27",
    ),
    Planting(
        "progress.active_days",
        sql(
            "DELETE FROM activity_days WHERE user_id = :user AND day = '2026-03-29'",
            "INSERT INTO activity_days VALUES (:user, '2026-02-01')",
        ),
        "1 days are missing, 1 have no cause",
        "the days of completed sessions and lessons",
    ),
    Planting(
        "progress.without_totals",
        sql("DELETE FROM learner_statistics WHERE user_id = :user"),
        "no totals",
        "totals of all that the learner has",
        also=frozenset({"progress.cached_answer"}),  # the store's version is lower than that of the entry
    ),
    Planting(
        "progress.unpaid_result",
        delete_entry_of_result,
        "no entry in the ledger",
        "an entry of 7 XP",
        row=("user_id", "session_id"),
        also=frozenset({"progress.totals", "progress.level_xp"}),
    ),
    Planting(
        "progress.unpaid_lesson",
        sql(
            "UPDATE xp_entries SET amount = 1 WHERE user_id = :user AND operation_id = "
            "(SELECT operation_id FROM xp_entries WHERE user_id = :user AND amount = 10 LIMIT 1)"
        ),
        "an entry of 1 XP",
        "an entry of 10 XP",
        row=("user_id", "course_id", "epoch", "module_id", "lesson_id"),
        also=frozenset({"progress.totals", "progress.level_xp"}),
    ),
    Planting(
        "progress.level_xp",
        sql("UPDATE specialization_progress SET xp = 28 WHERE user_id = :user"),
        "28 XP",
        "27 XP in the ledger",
        row=("user_id", "specialization"),
    ),
    Planting(
        "progress.level_too_low",
        sql("UPDATE specialization_progress SET level = 1 WHERE user_id = :user"),
        "level 1",
        "level 2, by 27 XP",
        row=("user_id", "specialization"),
        also=frozenset({"progress.level_mismatch", "progress.achievement_without_cause"}),
    ),
    Planting(
        "progress.level_unexplained",
        sql(
            "UPDATE specialization_progress SET level = 3 WHERE user_id = :user",
            "UPDATE licenses SET level = 3 WHERE user_id = :user",
        ),
        "level 3",
        "level 2 at most: 2 by XP, 0 granted",
        row=("user_id", "specialization"),
    ),
    Planting(
        "progress.max_level",
        sql("UPDATE specialization_progress SET max_level = 9 WHERE user_id = :user"),
        "highest level 9, by the catalog 2",
        "highest level 4, by the catalog 2",
        row=("user_id", "specialization"),
    ),
    Planting(
        "progress.level_epoch",
        sql("UPDATE specialization_progress SET epoch = 1 WHERE user_id = :user"),
        "epoch 1",
        "epoch 0",
        row=("user_id", "specialization"),
        by_hand=sql("UPDATE specialization_progress SET epoch = 0 WHERE user_id = :user"),
    ),
    Planting(
        "progress.enrollment_totals",
        sql("UPDATE enrollments SET completed_lessons = 4 WHERE user_id = :user"),
        "4 completed lessons, not finished",
        "2 completed lessons, not finished",
        row=("user_id", "course_id"),
    ),
    Planting(
        "progress.enrollment_totals",
        unchecked("DELETE FROM enrollments WHERE user_id = :user"),
        "completed lessons without an enrollment",
        "an enrollment",
        row=("user_id", "course_id"),
        also=frozenset({"progress.constraint"}),
        undone=False,  # the foreign key of the completions refuses it
    ),
    Planting(
        "progress.orphan",
        unchecked(
            "INSERT INTO lesson_completions "
            "(user_id, course_id, epoch, module_id, lesson_id, revision, xp, occurred_at) "
            "VALUES (:user, :course, 0, 'no-module', 'no-lesson', 1, 0, now())"
        ),
        "the course has no such lesson",
        "a lesson of the course",
        row=("table", "user_id", "course_id", "epoch", "module_id", "lesson_id"),
        also=frozenset({"progress.constraint"}),
        undone=False,  # the foreign key of the lesson refuses it
    ),
    Planting(
        "progress.course_order",
        sql(
            "UPDATE lesson_successions SET until_revision = 2 WHERE course_id = :course AND lesson_id = 'l3'",
            "INSERT INTO lesson_successions VALUES (:course, :course || '-m1', 'l4', '', '')",
            "UPDATE courses SET total_lessons = 5 WHERE course_id = :course",
        ),
        "5 lessons; of the order 1 steps are missing, 1 are too many",
        "4 lessons, each after the one before it",
        row=("course_id",),
    ),
    Planting(
        "progress.false_lock",
        sql("DELETE FROM lesson_successions WHERE course_id = :course AND lesson_id = 'l3'"),
        "1 lessons are locked",
        "open, because the lesson before it is completed",
        row=("user_id", "course_id"),
        also=frozenset({"progress.course_order"}),
    ),
    Planting(
        "progress.watched_beyond_video",
        sql(
            "UPDATE watched_videos SET ranges = '{[0,20000)}' WHERE user_id = :user AND lesson_id = 'l1'",
        ),
        "watched to 20000 ms",
        "a video of 10000 ms",
        row=("user_id", "course_id", "epoch", "module_id", "lesson_id"),
        by_hand=sql("UPDATE watched_videos SET ranges = '{[0,10000)}' WHERE user_id = :user"),
        pupil=VIDEO,
    ),
    Planting(
        "progress.watched_too_little",
        sql("UPDATE watched_videos SET ranges = '{[0,1000)}' WHERE user_id = :user AND lesson_id = 'l2'"),
        "0.100 of the video watched",
        "at least 0.9",
        row=("user_id", "course_id", "epoch", "module_id", "lesson_id"),
        by_hand=sql("UPDATE watched_videos SET ranges = '{[0,10000)}' WHERE user_id = :user"),
        pupil=VIDEO,
    ),
    Planting(
        "progress.achievement_without_cause",
        sql("INSERT INTO learner_achievements VALUES (:user, 'streak-7', now())"),
        "streak_days: 1",
        "streak_days: at least 7",
        row=("user_id", "achievement"),
    ),
    Planting(
        "progress.level_mismatch",
        sql("UPDATE licenses SET level = 1 WHERE user_id = :user"),
        "license 1, progress 2",
        "the same level on both sides",
        row=("user_id", "specialization"),
    ),
    Planting(
        "progress.level_mismatch",
        sql("UPDATE licenses SET level = 3 WHERE user_id = :user"),
        "license 3, progress 2",
        "the same level on both sides",
        row=("user_id", "specialization"),
    ),
    Planting(
        "progress.progress_without_license",
        sql("DELETE FROM licenses WHERE user_id = :user"),
        "license none, progress 2",
        "the same level on both sides",
        row=("user_id", "specialization"),
    ),
    Planting(
        "progress.license_without_progress",
        plant_license,
        "license 3, progress none",
        "the same level on both sides",
        row=("user_id", "specialization"),
    ),
    Planting(
        "progress.outbox_parked",
        lambda school, pupil: plant_event(school, pupil, parked_at="now() - interval '1 hour'"),
        "parked",
        "delivered",
        row=("user_id", "event_id"),
    ),
    Planting(
        "progress.outbox_old",
        plant_event,
        "waits after 0 attempts",
        "delivered",
        row=("user_id", "event_id"),
        delivered=True,
    ),
    Planting(
        "progress.outbox_lease",
        lambda school, pupil: plant_event(school, pupil, leased_until="'2099-01-01'"),
        "leased until 2099-01-01 00:00:00+00, next try at ",
        "tried again within minutes",
        row=("user_id", "event_id"),
        also=frozenset({"progress.outbox_old"}),
    ),
    Planting(
        "progress.constraint",
        sql(
            "ALTER TABLE xp_entries DROP CONSTRAINT xp_entries_amount_positive",
            "INSERT INTO xp_entries (user_id, operation_id, amount, specialization, earned_at) "
            "VALUES (:user, gen_random_uuid(), 0, '', now())",
            "ALTER TABLE xp_entries ADD CONSTRAINT xp_entries_amount_positive CHECK (amount > 0) NOT VALID",
        ),
        "the condition is false",
        "each row fulfils xp_entries_amount_positive",
        row=("table", "user_id", "operation_id"),
        by_hand=sql("DELETE FROM xp_entries WHERE user_id = :user AND amount = 0"),
    ),
    Planting(
        "progress.cached_answer",
        plant_cached,
        "it differs from the store at the same version",
        "what the store says, and not older than the staleness bound",
        row=("user_id", "course_id", "digest"),
        undone=False,  # the cache fills itself
    ),
]
