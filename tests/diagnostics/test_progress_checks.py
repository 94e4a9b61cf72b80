"""Each check of progress_service finds the fault that is planted for it, and its repair mends it."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from chassis.diagnostics.plans import RowOutcome
from chassis.errors import Reason, ServiceError
from homeroom.embedded.redis import Redis
from progress_service.domain.access import Access
from progress_service.domain.courses import CourseId
from progress_service.domain.license_orders import LicenseOrder
from progress_service.domain.statistics import UserId
from progress_service.store.editions import EditionCache
from progress_service.store.rebuilding import REBUILD
from progress_service.store.standings import Attendance, StandingReader, StandingStore
from tests.diagnostics.progress_school import LESSON_XP, VIDEO_SECONDS, Pupil, School, new_school
from tests.support.databases import Databases

PAGE = Path(__file__).parents[2] / "docs" / "diagnosis" / "progress.md"
VIDEO = {"video_seconds": VIDEO_SECONDS, "min_watched_ratio": 0.9}


@pytest.fixture(scope="module")
async def shared_school(databases: Databases, redis_server: Redis) -> AsyncIterator[School]:
    async with new_school(databases, redis_server) as school:
        await school.pupil(video=VIDEO)  # somebody with whom all is well
        yield school


@pytest.fixture
async def school(shared_school: School) -> School:
    assert await shared_school.findings() == []
    return shared_school


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


def without_versions(rows: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The rows without what an undone repair raises once more."""
    return {
        table: [re.sub(r'"(version|revision|updated_at)": [^,}]+', "", row) for row in found]
        for table, found in rows.items()
    }


@pytest.mark.parametrize("planting", PLANTINGS, ids=lambda planting: planting.check.partition(".")[2])
async def test_a_planted_fault_is_found_and_mended(school: School, planting: Planting) -> None:
    pupil = await school.pupil(video=planting.pupil)
    await planting.plant(school, pupil)

    found = await school.findings()
    assert {finding.check for finding in found} == {planting.check} | planting.also, found
    (finding,) = [finding for finding in found if finding.check == planting.check]
    assert finding.user_id == ("" if planting.row == ("course_id",) else pupil.user_id)
    assert tuple(finding.row) == planting.row or set(finding.row) == set(planting.row)
    assert finding.observed.startswith(planting.observed)
    assert finding.expected == planting.expected
    assert all(finding.user_id in {"", pupil.user_id} for finding in found)
    if finding.user_id:
        assert [each.row for each in await school.findings(planting.check, user_id=pupil.user_id)] == [
            finding.row
        ]

    if planting.by_hand is not None:
        with pytest.raises(ServiceError) as refused:
            await school.operator.plan(planting.check)
        assert refused.value.reason is Reason.INVALID_ARGUMENT
        await planting.by_hand(school, pupil)
        return
    planted = await school.rows(pupil)
    plan = await school.operator.mend(planting.check)
    assert planting.delivered or await school.findings(planting.check) == []
    undone = await school.operator.undo(plan)
    if planting.undone:
        assert {row.outcome for row in undone} == {RowOutcome.UNDONE}, undone
        assert without_versions(await school.rows(pupil)) == without_versions(planted)
        assert {finding.check for finding in await school.findings()} == {planting.check} | planting.also
        await school.operator.mend(planting.check)
    else:
        assert {row.outcome for row in undone} == {RowOutcome.KEPT}
    await school.deliver()
    assert await school.findings() == []


async def test_each_check_has_a_planting_and_a_line_in_the_page(shared_school: School) -> None:
    ids = {check.check_id for check in shared_school.checks}
    assert ids == {planting.check for planting in PLANTINGS}
    told = set(re.findall(r"^\| `(progress\.\w+)`", PAGE.read_text(), flags=re.MULTILINE))
    assert told == ids | set(shared_school.operator.diagnostics.repairs)


async def test_a_learner_who_goes_on_meanwhile_is_skipped_and_the_others_are_rebuilt(school: School) -> None:
    first, second = await school.pupil(), await school.pupil()
    for pupil in (first, second):
        await sql("UPDATE learner_statistics SET xp = xp + 5 WHERE user_id = :user")(school, pupil)
    plan, _ = await school.operator.plan("progress.totals")
    await school.world.complete(first.user_id, first.names[2])
    rows = await school.operator.apply(plan)
    assert {(row.change.user_id, row.outcome) for row in rows} == {
        (first.user_id, RowOutcome.SKIPPED),
        (second.user_id, RowOutcome.APPLIED),
    }
    await school.operator.mend("progress.totals")
    await school.deliver()
    assert (await school.world.stats(first.user_id)).xp == 37


async def test_a_rebuilt_learner_has_what_the_history_says(school: School) -> None:
    """Everything that is computed is wrong at once; the ledger lacks an entry, too."""
    pupil = await school.pupil()
    compared = ("xp_entries", "activity_days", "enrollments", "specialization_progress")
    before = await school.rows(pupil)
    version = (await school.world.stats(pupil.user_id)).version
    await sql(
        "UPDATE learner_statistics SET xp = 0, completed_sessions = 9, answers = 0, correct = 0, "
        "questions_answered = 0, enrolled = 0, completed_lessons = 0 WHERE user_id = :user",
        "DELETE FROM xp_entries WHERE user_id = :user AND amount = 7",
        "DELETE FROM activity_days WHERE user_id = :user",
        "DELETE FROM specialization_progress WHERE user_id = :user",
        "UPDATE enrollments SET completed_lessons = 0 WHERE user_id = :user",
    )(school, pupil)
    await school.operator.mend(repair=REBUILD, user_id=pupil.user_id)
    await school.deliver()
    after = await school.rows(pupil)
    for table in compared:
        assert list(map(_lasting, after[table])) == list(map(_lasting, before[table])), table
    stats = await school.world.stats(pupil.user_id)
    assert (stats.xp, stats.completed_sessions, stats.answers, stats.correct) == (27, 1, 5, 2)
    assert (stats.enrolled, stats.completed_lessons, stats.questions_answered) == (1, 2, 3)
    assert stats.version > version


def _lasting(row: str) -> str:
    """A row without the times and versions of its last change."""
    return re.sub(r'"(updated_at|recorded_at|version)": ("[^"]*"|\d+)', "", row)


async def test_a_cached_entry_that_has_changed_since_stays(school: School) -> None:
    pupil = await school.pupil()
    await plant_cached(school, pupil)
    plan, _ = await school.operator.plan("progress.cached_answer")
    await school.world.redis.delete(f"access:1:{pupil.user_id}:{pupil.course_id}")
    await school.world.complete(pupil.user_id, pupil.names[2])
    rows = await school.operator.apply(plan)
    assert {row.outcome for row in rows} == {RowOutcome.SKIPPED}
    assert await school.world.keys(pupil.user_id)
    await school.deliver()


async def test_an_older_entry_is_no_finding(school: School) -> None:
    pupil = await school.pupil()
    (key,) = await school.world.keys(pupil.user_id)
    older = await school.world.redis.get(key)
    await school.world.complete(pupil.user_id, pupil.names[2])
    await school.world.redis.set(key, older)
    await school.deliver()
    assert await school.findings("progress.cached_answer", user_id=pupil.user_id) == []


async def test_a_repair_that_changes_what_is_shown_makes_the_cached_answer_old(school: School) -> None:
    pupil = await school.pupil()
    version = (await school.world.stats(pupil.user_id)).version
    await sql("UPDATE learner_statistics SET xp = xp + 1 WHERE user_id = :user")(school, pupil)
    await school.operator.mend("progress.totals")
    answer = await school.world.access(pupil.user_id, pupil.names[0], version + 1)
    assert answer.version == version + 1


async def test_rebuilt_totals_bring_the_achievements_that_they_earn(school: School) -> None:
    """Also if nothing else of the learner is wrong: a later completion may be too late for them."""
    pupil = await school.pupil()
    earned = "SELECT achievement FROM learner_achievements WHERE user_id = $1 ORDER BY 1"
    before = await school.truth.fetch(earned, pupil.user_id)
    await sql(
        "UPDATE learner_statistics SET completed_lessons = 0 WHERE user_id = :user",
        "DELETE FROM learner_achievements WHERE user_id = :user AND achievement = 'first-lesson'",
    )(school, pupil)
    await school.operator.mend("progress.totals")
    assert await school.truth.fetch(earned, pupil.user_id) == before


async def test_a_learner_whose_repair_was_taken_back_has_a_version_of_their_own(school: School) -> None:
    """Also one whose totals had never changed before the repair."""
    seen, new = await school.pupil(), await school.world.learner("new")
    await school.truth.execute("INSERT INTO learner_statistics (user_id, xp) VALUES ($1, 5)", new)
    await sql("UPDATE learner_statistics SET xp = xp + 5 WHERE user_id = :user")(school, seen)
    plan = await school.operator.mend("progress.totals")
    versions = "SELECT user_id, version FROM learner_statistics WHERE user_id = ANY ($1)"
    mended = dict(await school.truth.fetch(versions, [seen.user_id, new]))
    assert {row.outcome for row in await school.operator.undo(plan)} == {RowOutcome.UNDONE}
    undone = dict(await school.truth.fetch(versions, [seen.user_id, new]))
    assert undone == {user_id: version + 1 for user_id, version in mended.items()}
    await school.operator.mend("progress.totals")


async def test_a_course_that_changes_after_its_repair_was_taken_back_is_served_as_it_is(
    school: School,
) -> None:
    """A process keeps an edition as long as the revision stays, so no revision may come twice."""
    pupil = await school.pupil()
    await sql("DELETE FROM lesson_successions WHERE course_id = :course AND lesson_id = 'l3'")(school, pupil)
    plan = await school.operator.mend("progress.course_order")
    await school.world.complete(pupil.user_id, pupil.names[2])
    await school.operator.undo(plan)
    lessons = [{"lesson_id": f"l{n}", "xp": LESSON_XP} for n in range(1, 6)]
    await school.world.put_course(
        pupil.course_id, [(pupil.module, lessons)], specialization=pupil.specialization
    )
    await school.world.complete(pupil.user_id, pupil.names[3])
    assert (await school.world.complete(pupil.user_id, (pupil.module, "l5"))).xp_awarded == LESSON_XP
    await school.deliver()
    assert await school.findings() == []
