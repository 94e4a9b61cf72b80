"""Each check of progress_service finds the fault that is planted for it, and its repair mends it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest

from chassis.diagnostics.plans import RowOutcome
from chassis.errors import Reason, ServiceError
from homeroom.embedded.redis import Redis
from progress_service.store.rebuilding import REBUILD
from tests.diagnostics.progress_faults import PLANTINGS, VIDEO, Planting, plant_cached, sql
from tests.diagnostics.progress_school import LESSON_XP, School, new_school
from tests.support.databases import Databases

PAGE = Path(__file__).parents[2] / "docs" / "diagnosis" / "progress.md"


@pytest.fixture(scope="module")
async def shared_school(databases: Databases, redis_server: Redis) -> AsyncIterator[School]:
    async with new_school(databases, redis_server) as school:
        await school.pupil(video=VIDEO)  # somebody with whom all is well
        yield school


@pytest.fixture
async def school(shared_school: School) -> School:
    assert await shared_school.findings() == []
    return shared_school


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
