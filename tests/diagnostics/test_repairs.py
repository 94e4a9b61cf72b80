"""A repair changes exactly the rows of its plan, if they are as the plan shows them; it can be undone."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

import pytest

from chassis.batch import Item, Outcome, Reply
from chassis.context import Context
from chassis.diagnostics.applying import Order, Worked
from chassis.diagnostics.checks import Scope
from chassis.diagnostics.findings import Finding, Severity
from chassis.diagnostics.operations import Diagnostics, Run, Wish
from chassis.diagnostics.plans import Plan, PlannedRow, PlanState, RowOutcome
from chassis.errors import Reason, ServiceError
from chassis.postgres import Connection, Database
from tests.diagnostics.purses import EMPTY_OUT, RECOUNT, REPAIRS, WRONG_TOTAL, checks

R = TypeVar("R")

SECONDS = 30.0


def item(request: R, *, key: str = "", fingerprint: bytes = b"f") -> Item[R]:
    context = Context(
        "/test", "admin", frozenset({"admin"}), key or uuid.uuid4().hex, "", time.monotonic() + SECONDS, ""
    )
    return Item(context, request, fingerprint)


class School:
    """What an administrator does, with the values behind the answers."""

    def __init__(self, database: Database, *, age: timedelta = timedelta(0)) -> None:
        self.diagnostics = Diagnostics(database, checks=checks(database, age=age), repairs=REPAIRS)

    async def findings(self, *, user_id: str = "") -> list[Finding]:
        run = Run([], Scope(user_id), Severity.INFO, None)
        return [told async for _, told in self.diagnostics.run(item(run)) if isinstance(told, Finding)]

    async def plan(
        self, *, check: str = WRONG_TOTAL, repair: str = "", user_id: str = "", key: str = ""
    ) -> tuple[Plan, list[PlannedRow]]:
        made: list[tuple[Plan, list[PlannedRow]]] = []

        def render(value: tuple[Plan, list[PlannedRow]]) -> bytes:
            made.append(value)
            return value[0].plan_id.bytes

        wish = Wish(check_id=check, repair_id=repair, user_id=user_id, reason="a test")
        (answer,) = await self.diagnostics.plan([item(wish, key=key)], render)
        if isinstance(answer, ServiceError):
            raise answer
        return made[0]

    async def apply(self, plan: Plan, *, by: str = "admin", key: str = "") -> Worked:
        return await self._work(self.diagnostics.apply, Order(plan.plan_id, plan.hash, by), key)

    async def undo(self, plan: Plan) -> Worked:
        return await self._work(self.diagnostics.undo, Order(plan.plan_id, plan.hash, "admin"), "")

    async def _work(self, act: Callable[..., Awaitable[list[Outcome]]], order: Order, key: str) -> Worked:
        done: list[Worked] = []

        def render(value: Worked) -> bytes:
            done.append(value)
            return value.plan.hash.encode()

        (answer,) = await act([item(order, key=key)], render)
        if isinstance(answer, ServiceError):
            raise answer
        return done[0]


@pytest.fixture
def school(database: Database) -> School:
    return School(database)


async def fill(admin: Connection, *names: str, total: int = 99) -> None:
    """Purses whose total is wrong: each has two coins that make 3."""
    for name in names:
        await admin.execute("INSERT INTO purses (user_id, total) VALUES ($1, $2)", name, total)
        await admin.execute("INSERT INTO coins VALUES ($1, 1, 1), ($1, 2, 2)", name)


async def totals(admin: Connection) -> dict[str, int]:
    return {row["user_id"]: row["total"] for row in await admin.fetch("SELECT user_id, total FROM purses")}


def outcomes(worked: Worked) -> list[tuple[str, RowOutcome]]:
    return [(row.change.user_id, row.outcome) for row in worked.rows]


async def test_a_check_shows_the_wrong_row_and_why(school: School, admin: Connection) -> None:
    await fill(admin, "ann", total=3)
    await fill(admin, "bob")
    (finding,) = await school.findings()
    assert (finding.check, finding.user_id, finding.row) == (WRONG_TOTAL, "bob", {"user_id": "bob"})
    assert (finding.observed, finding.expected, finding.evidence) == ("99", "3", {"coins": "2"})
    assert finding.since is not None


async def test_a_run_for_one_learner_looks_at_this_learner_alone(school: School, admin: Connection) -> None:
    await fill(admin, "ann", "bob")
    assert [finding.user_id for finding in await school.findings(user_id="ann")] == ["ann"]


async def test_what_is_younger_than_the_age_is_no_finding(database: Database, admin: Connection) -> None:
    await fill(admin, "ann")
    assert not await School(database, age=timedelta(hours=1)).findings()
    await admin.execute("UPDATE purses SET filled_at = now() - interval '2 hours'")
    assert len(await School(database, age=timedelta(hours=1)).findings()) == 1


async def test_a_run_is_resumed_where_it_was_cut_off(school: School, admin: Connection) -> None:
    await fill(admin, *(f"u{number:04}" for number in range(1200)))
    told = [event async for event in school.diagnostics.run(item(Run([], Scope(), Severity.INFO, None)))]
    half = next(at for at, (_, value) in enumerate(told) if not isinstance(value, Finding))
    rest = [
        value
        async for _, value in school.diagnostics.run(item(Run([], Scope(), Severity.INFO, told[half][0])))
    ]
    first = [value.user_id for _, value in told[:half] if isinstance(value, Finding)]
    second = [value.user_id for value in rest if isinstance(value, Finding)]
    assert 0 < len(first) < 1200
    assert first + second == [f"u{number:04}" for number in range(1200)]


async def test_planning_writes_nothing_but_the_plan(school: School, admin: Connection) -> None:
    await fill(admin, "ann", "bob")
    plan, rows = await school.plan()
    assert await totals(admin) == {"ann": 99, "bob": 99}
    for row in rows:
        assert row.change.before
        assert row.change.after
        assert (row.change.before["total"], row.change.after["total"]) == (99, 3)
    assert (plan.state, plan.counts.rows, len(plan.hash)) == (PlanState.PLANNED, 2, 64)


async def test_applying_mends_the_rows_and_the_journal_says_who_and_why(
    school: School, admin: Connection
) -> None:
    await fill(admin, "ann", "bob")
    plan, _ = await school.plan()
    worked = await school.apply(plan, by="carla")
    assert outcomes(worked) == [("ann", RowOutcome.APPLIED), ("bob", RowOutcome.APPLIED)]
    assert worked.plan.state is PlanState.APPLIED
    assert await totals(admin) == {"ann": 3, "bob": 3}
    assert not await school.findings()
    journal = await admin.fetch("SELECT user_id, changed_by, reason FROM repair_journal ORDER BY ordinal")
    assert [tuple(row) for row in journal] == [("ann", "carla", "a test"), ("bob", "carla", "a test")]


async def test_a_row_that_has_changed_since_is_skipped_and_the_others_are_done(
    school: School, admin: Connection
) -> None:
    await fill(admin, "ann", "bob")
    plan, _ = await school.plan()
    await admin.execute("UPDATE purses SET note = 'touched' WHERE user_id = 'ann'")
    worked = await school.apply(plan)
    assert outcomes(worked) == [("ann", RowOutcome.SKIPPED), ("bob", RowOutcome.APPLIED)]
    assert "changed since" in worked.rows[0].detail
    assert await totals(admin) == {"ann": 99, "bob": 3}


async def test_applying_twice_equals_once(school: School, admin: Connection) -> None:
    await fill(admin, "ann")
    plan, _ = await school.plan()
    await school.apply(plan)
    await admin.execute("UPDATE purses SET total = 99")
    again = await school.apply(plan)
    assert (outcomes(again), await totals(admin)) == ([], {"ann": 99})
    assert again.plan.counts.applied == 1


async def test_two_operators_at_once_apply_once(school: School, admin: Connection) -> None:
    names = [f"u{number:03}" for number in range(120)]
    await fill(admin, *names)
    plan, _ = await school.plan()
    both = await asyncio.gather(school.apply(plan, by="ann"), school.apply(plan, by="bob"))
    told = [user for worked in both for user, outcome in outcomes(worked) if outcome is RowOutcome.APPLIED]
    assert sorted(told) == names
    assert await admin.fetchval("SELECT count(*) FROM repair_journal") == len(names)


async def test_the_rows_of_a_unit_change_together_or_not_at_all(school: School, admin: Connection) -> None:
    await fill(admin, "ann")
    plan, rows = await school.plan(check="", repair=EMPTY_OUT, user_id="ann")
    assert [row.change.table for row in rows] == ["coins", "coins", "purses"]
    await admin.execute("UPDATE purses SET note = 'touched'")
    worked = await school.apply(plan)
    assert {row.outcome for row in worked.rows} == {RowOutcome.SKIPPED}
    assert await admin.fetchval("SELECT count(*) FROM coins") == 2


async def test_undo_restores_removed_and_changed_rows(school: School, admin: Connection) -> None:
    await fill(admin, "ann")
    before = await admin.fetch("SELECT * FROM purses"), await admin.fetch("SELECT * FROM coins ORDER BY coin")
    plan, _ = await school.plan(check="", repair=EMPTY_OUT, user_id="ann")
    await school.apply(plan)
    assert (await totals(admin), await admin.fetchval("SELECT count(*) FROM coins")) == ({"ann": 0}, 0)
    worked = await school.undo(plan)
    assert worked.plan.state is PlanState.UNDONE
    after = await admin.fetch("SELECT * FROM purses"), await admin.fetch("SELECT * FROM coins ORDER BY coin")
    assert after == before


async def test_undo_leaves_what_has_changed_since_and_says_so(school: School, admin: Connection) -> None:
    await fill(admin, "ann", "bob")
    plan, _ = await school.plan()
    await school.apply(plan)
    await admin.execute("UPDATE purses SET total = 7 WHERE user_id = 'ann'")
    worked = await school.undo(plan)
    assert sorted(outcomes(worked)) == [("ann", RowOutcome.KEPT), ("bob", RowOutcome.UNDONE)]
    assert await totals(admin) == {"ann": 7, "bob": 99}


async def test_a_change_that_the_database_refuses_fails_alone(school: School, admin: Connection) -> None:
    await fill(admin, "ann", "bob")
    await admin.execute("INSERT INTO coins VALUES ('ann', 3, 5000)")
    plan, _ = await school.plan()
    worked = await school.apply(plan)
    assert outcomes(worked) == [("ann", RowOutcome.FAILED), ("bob", RowOutcome.APPLIED)]
    assert "purses_total_check" in worked.rows[0].detail


async def test_a_row_that_somebody_holds_is_skipped_and_the_others_are_done(
    school: School, admin: Connection
) -> None:
    await fill(admin, "ann", "bob")
    plan, _ = await school.plan()
    async with admin.transaction():
        await admin.execute("SELECT FROM purses WHERE user_id = 'ann' FOR UPDATE")
        worked = await school.apply(plan)
    assert outcomes(worked) == [("ann", RowOutcome.SKIPPED), ("bob", RowOutcome.APPLIED)]


async def test_a_unit_of_a_learner_whom_an_operation_has_locked_is_skipped(
    school: School, admin: Connection
) -> None:
    await fill(admin, "ann", "bob")
    await admin.execute("INSERT INTO owners VALUES ('ann'), ('bob')")
    plan, _ = await school.plan()
    async with admin.transaction():
        await admin.execute("SELECT FROM owners WHERE user_id = 'ann' FOR UPDATE")
        worked = await school.apply(plan)
    assert outcomes(worked) == [("ann", RowOutcome.SKIPPED), ("bob", RowOutcome.APPLIED)]


async def test_a_wrong_hash_changes_nothing(school: School, admin: Connection) -> None:
    await fill(admin, "ann")
    plan, _ = await school.plan()
    wrong = Order(plan.plan_id, "0" * 64, "admin")
    (answer,) = await school.diagnostics.apply([item(wrong)], lambda _: b"")
    assert isinstance(answer, ServiceError)
    assert answer.reason is Reason.VERSION_MISMATCH
    assert await totals(admin) == {"ann": 99}


async def test_a_plan_whose_rows_were_tampered_with_changes_nothing(
    school: School, admin: Connection
) -> None:
    await fill(admin, "ann")
    plan, _ = await school.plan()
    await admin.execute("""UPDATE repair_rows SET after = after || '{"total": 1000}'""")
    with pytest.raises(ServiceError) as caught:
        await school.apply(plan)
    assert caught.value.reason is Reason.VERSION_MISMATCH
    assert await totals(admin) == {"ann": 99}


async def test_an_expired_plan_changes_nothing(school: School, admin: Connection) -> None:
    await fill(admin, "ann")
    plan, _ = await school.plan()
    await admin.execute(
        "UPDATE repair_plans SET created_at = now() - interval '2 days', "
        "expires_at = now() - interval '1 day'"
    )
    with pytest.raises(ServiceError) as caught:
        await school.apply(plan)
    assert caught.value.reason is Reason.ILLEGAL_TRANSITION
    assert await totals(admin) == {"ann": 99}


async def test_a_plan_that_was_taken_back_is_not_applied_again(school: School, admin: Connection) -> None:
    await fill(admin, "ann")
    plan, _ = await school.plan()
    await school.apply(plan)
    await school.undo(plan)
    with pytest.raises(ServiceError) as caught:
        await school.apply(plan)
    assert caught.value.reason is Reason.ILLEGAL_TRANSITION


async def test_the_same_key_plans_once(school: School, admin: Connection) -> None:
    await fill(admin, "ann")
    wish = Wish(check_id=WRONG_TOTAL, repair_id="", user_id="", reason="a test")

    async def ask(fingerprint: bytes = b"f") -> object:
        (answer,) = await school.diagnostics.plan(
            [item(wish, key="k", fingerprint=fingerprint)], lambda made: made[0].plan_id.bytes
        )
        return answer

    answers = await asyncio.gather(*(ask() for _ in range(6)))
    payloads = {answer.payload() for answer in answers if isinstance(answer, Reply)}
    refused = [answer.reason for answer in answers if isinstance(answer, ServiceError)]
    assert len(payloads) == 1
    assert set(refused) <= {Reason.UNAVAILABLE}
    assert await admin.fetchval("SELECT count(*) FROM repair_plans") == 1
    other = await ask(b"other")
    assert isinstance(other, ServiceError)
    assert other.reason is Reason.IDEMPOTENCY_KEY_REUSED


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        (Wish("no.such_check", "", "", "why"), Reason.NOT_FOUND),
        (Wish("", "no.such_repair", "ann", "why"), Reason.NOT_FOUND),
        (Wish(WRONG_TOTAL, EMPTY_OUT, "", "why"), Reason.INVALID_ARGUMENT),
        (Wish("", "", "", "why"), Reason.INVALID_ARGUMENT),
        (Wish("", RECOUNT, "", "why"), Reason.INVALID_ARGUMENT),
    ],
    ids=["unknown check", "unknown repair", "no learner", "nothing named", "no scope"],
)
async def test_a_plan_that_makes_no_sense_is_refused(school: School, wish: Wish, reason: Reason) -> None:
    (answer,) = await school.diagnostics.plan([item(wish)], lambda _: b"")
    assert isinstance(answer, ServiceError)
    assert answer.reason is reason
