"""Repairs of session_service do what the usual way would have done, and nothing is counted twice by them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from chassis.context import service_context
from chassis.diagnostics.checks import Check, Scope
from chassis.diagnostics.findings import Finding
from chassis.diagnostics.plans import RowOutcome
from chassis.errors import Reason
from protos.progress.v1 import result_checks_pb2
from session_service.domain.ids import hold_id_of, parse_session_id
from session_service.progress_client import result_event_id
from session_service.subscription_client import COMMIT_TOPIC
from tests.diagnostics.operators import SECONDS, Operator
from tests.diagnostics.session_faults import (
    FAULTS,
    alarms,
    all_checks,
    begun,
    ended,
    operator_of,
    pass_time,
)
from tests.session.world import CREATE, Session, World, new_world, reasons, unique
from tests.support.databases import Databases
from tests.support.rules import drop_rules, without_rules

COMPLETE = "session.complete_answered"


@pytest.fixture(scope="module")
async def world(databases: Databases) -> AsyncIterator[World]:
    async with new_world(databases) as world:
        yield world


@pytest.fixture
def operator(world: World) -> Operator:
    return operator_of(world)


async def _overdue(world: World, user: str, answers: int) -> str:
    session = await begun(world, user, answers=answers, time_limit_seconds=600, pass_score=0.3, xp=5)
    await pass_time(world, session)
    return session


async def _idle(world: World, user: str, answers: int) -> str:
    session = await begun(world, user, answers=answers)
    await pass_time(world, session, timedelta(hours=30))
    return session


async def _left(world: World, user: str, answers: int) -> str:
    session = await begun(world, user, answers=answers)
    await world.one(world.beat(user, session, 1))
    await pass_time(world, session)
    return session


@pytest.mark.parametrize(
    ("ghost", "answers"), [(_overdue, 0), (_overdue, 2), (_idle, 0), (_idle, 2), (_left, 0)]
)
async def test_a_ghost_ends_as_a_sweep_would_have_ended_it(
    ghost: Callable[[World, str, int], Awaitable[str]], answers: int, world: World, operator: Operator
) -> None:
    repaired, swept = [await world.learner() for _ in range(2)]
    for user in (repaired, swept):
        await ghost(world, user, answers)
    await operator.mend("session.ghost", user_id=repaired)
    for sweep in (
        world.parts.sweep.close_overdue,
        world.parts.sweep.close_unused,
        world.parts.sweep.close_idle,
    ):
        await sweep()
    assert await told(world, repaired) == await told(world, swept)
    await world.deliver()
    assert await world.units(repaired) == await world.units(swept) == (0, int(answers > 0))
    mine, other = await world.stats(repaired), await world.stats(swept)
    assert (mine.completed_sessions, mine.xp, mine.answers) == (
        other.completed_sessions,
        other.xp,
        other.answers,
    )
    assert not await alarms(world)


async def told(world: World, user: str) -> tuple[Any, ...]:
    """What the stores say of the one session of a learner, without names and times."""
    (row,) = await world.sessions(user)
    apart = {"user_id", "session_id", "hold_id", "test_id", "seed"}
    same = {
        name: value
        for name, value in row.items()
        if name not in apart and not name.endswith("_at") and not name.startswith("start_")
    }
    same["engaged_seconds"] = round(same["engaged_seconds"])
    events = await world.truth.fetch(
        "SELECT version, number, kind, actor_id, reason FROM session_events WHERE user_id = $1", user
    )
    return same, row["closed_at"] - row["started_at"] > timedelta(0), events, await world.events(user)


async def test_a_session_that_was_left_with_answers_is_handed_in_and_counts_once(
    world: World, operator: Operator
) -> None:
    user = await world.learner()
    session = await begun(world, user, answers=2, pass_score=0.5, xp=7)
    await pass_time(world, session)
    await operator.mend(repair=COMPLETE, user_id=user)
    ids = await world.truth.fetch("SELECT event_id FROM outbox WHERE user_id = $1", user)
    session_id = parse_session_id(session)
    assert session_id is not None
    assert result_event_id(session_id) in {row["event_id"] for row in ids}
    late = await world.one(world.complete(user, session, unique("late")))
    assert (late.session.state, late.session.passed) == (Session.COMPLETED, True)
    await world.deliver()
    stats = await world.stats(user)
    assert (stats.completed_sessions, stats.xp, stats.answers) == (1, 7, 2)
    assert await world.units(user) == (0, 1)
    plan, rows = await operator.plan(repair=COMPLETE, user_id=user)
    assert (plan.counts.rows, rows) == (0, [])
    assert not await alarms(world)


async def test_what_is_in_use_or_has_ended_or_is_not_enough_is_not_handed_in(
    world: World, operator: Operator
) -> None:
    user = await world.learner()
    used = await begun(world, user, answers=1)
    short = await begun(world, user, answers=1, min_engaged_seconds=60)
    await pass_time(world, short)
    over = await _idle(world, user, 1)
    await world.parts.sweep.close_idle()
    plan, rows = await operator.plan(repair=COMPLETE, user_id=user)
    assert rows == []
    said = {line.split()[1]: line for line in plan.left_out}
    assert said.keys() == {used, short, over}
    assert "in use" in said[used]
    assert "engaged" in said[short]
    assert "lease_lost" in said[over]


async def test_a_hold_of_a_session_that_counted_is_committed(world: World, operator: Operator) -> None:
    user = await world.learner()
    session = await begun(world, user, answers=1)
    await world.one(world.complete(user, session, unique("end")))
    await world.truth.execute("DELETE FROM outbox WHERE user_id = $1 AND topic = $2", user, COMMIT_TOPIC)
    await world.deliver()
    (finding,) = await alarms(world)
    assert (finding.check, finding.expected) == (
        "session.open_hold",
        "committed: its session is completed",
    )
    await operator.mend("session.open_hold")
    await world.deliver()
    assert await world.units(user) == (0, 1)
    assert not await alarms(world)


async def test_a_lost_start_gets_no_session_any_more_after_its_hold_was_resolved(
    world: World, operator: Operator
) -> None:
    user, test = await world.learner(), await world.test()
    await FAULTS["session.open_hold"].plant(world, user)
    (finding,) = await alarms(world, user_id=user)
    await operator.mend("session.open_hold")
    await world.deliver()
    again = await world.send([world.start(user, test, finding.evidence["key"])])
    assert reasons(again) == [Reason.REQUEST_ABORTED]
    assert await world.units(user) == (0, 0)


async def test_a_start_that_was_only_slow_keeps_its_hold(world: World, operator: Operator) -> None:
    user, test = await world.learner(), await world.test()
    key = unique("slow")
    session = (await world.started(user, test, key)).session_id
    rows = await world.truth.fetch("SELECT to_jsonb(s) AS kept FROM sessions AS s WHERE user_id = $1", user)
    keys = await world.truth.fetch("SELECT * FROM idempotency_keys WHERE user_id = $1", user)
    for table in ("idempotency_keys", "sessions"):
        await world.truth.execute(f"DELETE FROM {table} WHERE user_id = $1", user)  # noqa: S608 - the two
    plan, planned = await operator.plan("session.open_hold", user_id=user)
    assert [row.change.table for row in planned] == ["idempotency_keys", "outbox"]
    await world.truth.execute(
        "INSERT INTO sessions SELECT * FROM jsonb_populate_record(NULL::sessions, $1)", rows[0]["kept"]
    )
    await world.truth.execute(
        "INSERT INTO idempotency_keys VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)", *keys[0].values()
    )
    assert {row.outcome for row in await operator.apply(plan)} == {RowOutcome.SKIPPED}
    assert await world.holds(user) == {str(hold_id_of(user, CREATE, key)): "open"}
    assert (await world.get(user, session)).state == Session.ACTIVE
    assert not await alarms(world)


async def test_a_result_that_is_sent_again_and_again_counts_once(world: World, operator: Operator) -> None:
    user = await world.learner()
    await FAULTS["session.result_missing"].plant(world, user)
    plan, _ = await operator.plan("session.result_missing")
    lost = await world.truth.fetch("SELECT after FROM repair_rows WHERE plan_id = $1", plan.plan_id)
    await operator.apply(plan)
    await world.deliver()
    await world.truth.execute(
        "INSERT INTO outbox SELECT * FROM jsonb_populate_record(NULL::outbox, $1)", lost[0]["after"]
    )
    await world.deliver()
    assert {row.outcome for row in await operator.undo(plan)} == {RowOutcome.KEPT}
    assert (await world.stats(user)).completed_sessions == 1
    assert not await alarms(world)


async def test_an_answered_session_without_a_hold_is_left_to_its_learner(
    world: World, operator: Operator
) -> None:
    user = await world.learner()
    await FAULTS["session.without_hold"].plant(world, user)
    (row,) = await world.sessions(user)
    await world.one(world.answer(user, str(row["session_id"]), unique("answer"), "q1", "right 1"))
    plan, rows = await operator.plan("session.without_hold", user_id=user)
    assert rows == []
    assert "has answers" in plan.left_out[0]
    await world.subscription_truth.execute(
        "UPDATE holds SET state = 'open', resolved_at = NULL WHERE user_id = $1", user
    )


async def test_a_session_whose_revision_is_gone_is_found_and_left_to_a_person(
    world: World, operator: Operator
) -> None:
    user, test = await world.learner(), await world.test()
    session = await begun(world, user, test=test)
    gone = await world.truth.fetchval(
        "SELECT to_jsonb(kept) FROM test_revisions AS kept WHERE test_id = $1 ORDER BY revision DESC", test
    )
    await world.truth.execute("DELETE FROM test_revisions WHERE test_id = $1", test)
    (finding,) = await alarms(world)
    assert (finding.check, finding.observed) == ("session.without_questions", "no such revision")
    plan, rows = await operator.plan("session.without_questions")
    assert rows == []
    assert session in plan.left_out[0]
    await world.truth.execute(
        "INSERT INTO test_revisions SELECT * FROM jsonb_populate_record(NULL::test_revisions, $1)", gone
    )
    assert not await alarms(world)


async def test_a_live_session_with_an_end_gets_the_end_of_its_timeline_or_none(
    world: World, operator: Operator
) -> None:
    user = await world.learner()
    live, over = await begun(world, user, answers=1), await ended(world, user, answers=1)
    async with without_rules(world.truth, "sessions"):
        await world.truth.execute(
            "UPDATE sessions SET closed_at = now(), close_reason = 'submitted' WHERE session_id = $1::uuid",
            live,
        )
        before = await world.truth.fetchrow("SELECT * FROM sessions WHERE session_id = $1::uuid", over)
        await world.truth.execute(
            "UPDATE sessions SET state = 'active', submitted_at = NULL WHERE session_id = $1::uuid", over
        )
        await operator.mend("session.without_end", user_id=user)
        assert (await world.get(user, live)).state == Session.ACTIVE
        after = await world.truth.fetchrow("SELECT * FROM sessions WHERE session_id = $1::uuid", over)
        assert after == before
    assert not await alarms(world)


async def test_sessions_whose_answers_were_purged_are_no_findings(world: World) -> None:
    user = await world.learner()
    session = await ended(world, user)
    await world.truth.execute(
        """
        UPDATE sessions
           SET started_at = started_at - interval '3000 days', closed_at = closed_at - interval '3000 days',
               submitted_at = submitted_at - interval '3000 days'
         WHERE session_id = $1::uuid
        """,
        session,
    )
    await world.truth.execute("DELETE FROM answers WHERE session_id = $1::uuid", session)
    assert not await alarms(world)


async def test_recorded_results_are_listed_in_pages_and_from_a_place_on(world: World) -> None:
    user = await world.learner()
    sessions = sorted([await ended(world, user) for _ in range(3)])
    path = "/homeroom.progress.v1.ResultCheckService/ListResults"

    async def page(**fields: Any) -> Any:
        request = result_checks_pb2.ListResultsRequest(user_id=user, page_size=2, **fields)
        context = service_context(path, timeout_seconds=SECONDS)
        return (await world.upstream.call(path, request, context)).message

    first = await page()
    second = await page(page_token=first.next_page_token)
    assert [each.session_id for each in [*first.results, *second.results]] == sessions
    assert not second.next_page_token
    behind = await page(after=result_checks_pb2.ResultName(user_id=user, session_id=sessions[1]))
    assert [each.session_id for each in behind.results] == sessions[2:]


async def test_small_steps_find_the_same_as_large_ones(databases: Databases) -> None:
    async with new_world(databases) as world:
        await drop_rules(world.truth, "sessions")
        for check_id, fault in FAULTS.items():
            for _ in range(2):
                await fault.plant(world, await world.learner(prefix=check_id.removeprefix("session.")))
        for check in all_checks(world):
            large = await _walked(check, limit=2000)
            assert large
            assert await _walked(check, limit=3) == large


async def _walked(check: Check, *, limit: int) -> list[tuple[str, str, str]]:

    found: list[Finding] = []
    after = None
    while True:
        deadline = time.monotonic() + SECONDS
        step = await check.walk.step(check, Scope(), after, limit=limit, deadline=deadline)
        found += step.findings
        after = step.reached
        if after is None:
            return sorted((finding.user_id, str(finding.row), finding.expected) for finding in found)
