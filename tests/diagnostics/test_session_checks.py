"""Each check of session_service finds its fault and nothing else; its repair mends it, and can be undone."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

import pytest

from chassis.diagnostics.findings import Finding
from chassis.diagnostics.plans import RowOutcome
from chassis.diagnostics.repairs import RowChange
from tests.diagnostics.operators import Operator
from tests.diagnostics.session_faults import FAULTS, Fault, all_checks, all_repairs, healthy, operator_of
from tests.session.world import World, new_world
from tests.support.databases import Databases
from tests.support.rules import without_rules

REPAIRABLE = [check for check, fault in FAULTS.items() if fault.repair]
DOCS = Path(__file__).parents[2] / "docs" / "diagnosis" / "session.md"


@pytest.fixture(scope="module")
async def world(databases: Databases) -> AsyncIterator[World]:
    async with new_world(databases) as world:
        await healthy(world)
        yield world


@pytest.fixture
def operator(world: World) -> Operator:
    return operator_of(world)


@asynccontextmanager
async def without_refusals(world: World, fault: Fault) -> AsyncIterator[None]:
    """The rules that refuse the fault are gone for as long as it may be there."""
    async with without_rules(world.truth, "sessions") if fault.is_refused else nullcontext():
        yield


def rows_of(check: str, findings: list[Finding]) -> list[dict[str, str]]:
    found = [dict(finding.row) for finding in findings if finding.check == check]
    return sorted(found, key=lambda row: sorted(row.items()))


def test_each_check_has_a_planting(world: World) -> None:
    assert {check.check_id for check in all_checks(world)} == FAULTS.keys()


def test_the_page_names_each_check_and_each_repair(world: World) -> None:
    named = set(re.findall(r"^\| `(session\.\w+)`", DOCS.read_text(), flags=re.MULTILINE))
    assert named == {check.check_id for check in all_checks(world)} | {
        repair.repair_id for repair in all_repairs()
    }


async def test_nothing_is_found_where_nothing_is_wrong(operator: Operator) -> None:
    assert not await operator.findings()


@pytest.mark.parametrize("check", FAULTS)
async def test_a_fault_is_found_mended_and_can_be_planted_again_by_undoing(
    check: str, world: World, operator: Operator
) -> None:
    fault = FAULTS[check]
    user = await world.learner(prefix=check.removeprefix("session."))
    async with without_refusals(world, fault):
        expected = await fault.plant(world, user)
        found = await operator.findings()
        assert rows_of(check, found) == sorted(expected, key=lambda row: sorted(row.items()))
        assert {finding.check for finding in found} == {check} | fault.also
        assert {finding.user_id for finding in found} == ({user} if fault.is_of_learner else {""})
        assert all(finding.observed != finding.expected for finding in found)
        assert not [finding for finding in found if "right " in str(finding.evidence)]
        if fault.is_of_learner:
            mine = await operator.findings(user_id=user)
            assert rows_of(check, mine) == rows_of(check, found)
        if fault.repair:
            plan = await operator.mend(check, repair=fault.repair)
            assert not await operator.findings()
            undone = await operator.undo(plan)
            if fault.comes_back:
                assert {row.outcome for row in undone} == {RowOutcome.UNDONE}
                assert await operator.findings() == found
                await operator.mend(check, repair=fault.repair)
            else:
                assert {row.outcome for row in undone} == {RowOutcome.KEPT}
            await world.deliver()
        else:
            assert fault.clean is not None
            await fault.clean(world, user)
        assert not await operator.findings()


@pytest.mark.parametrize("check", REPAIRABLE)
async def test_a_unit_that_was_touched_since_is_skipped_and_the_others_are_mended(
    check: str, world: World, operator: Operator
) -> None:
    fault = FAULTS[check]
    users = [await world.learner(prefix=check.removeprefix("session.")) for _ in range(2)]
    async with without_refusals(world, fault):
        for user in users:
            await fault.plant(world, user)
        plan, planned = await operator.plan(check, repair=fault.repair)
        touched = next(row for row in planned if row.change.user_id == users[0])
        await touch(world, touched.change)
        rows = await operator.apply(plan)
        assert {row.outcome for row in rows if row.unit == touched.unit} == {RowOutcome.SKIPPED}
        assert {row.outcome for row in rows if row.unit != touched.unit} == {RowOutcome.APPLIED}
        assert users[1] not in {finding.user_id for finding in await operator.findings(check)}
        await untouch(world, touched.change)
        await operator.mend(check, repair=fault.repair)
        await world.deliver()
        assert not await operator.findings()


_HARMLESS = {
    "sessions": "engaged_seconds = engaged_seconds + 1",
    "answers": "request_id = 'touched'",
    "session_events": "note = 'touched'",
    "identity_events": "request_id = 'touched'",
    "outbox": "attempts = attempts + 1",
    "idempotency_keys": "traceparent = 'touched'",
}


async def touch(world: World, change: RowChange) -> None:
    """Somebody else changes the row, or creates the one that the plan would."""
    if change.before is None:
        assert change.after is not None
        await world.truth.execute(
            f"INSERT INTO {change.table} SELECT * FROM jsonb_populate_record(NULL::{change.table}, $1)",  # noqa: S608 - of the plan
            json.dumps({**change.after, "content": "", "traceparent": ""}),
        )
        return
    keys = [name for name in ("session_id", "event_id", "key", "question_id") if name in change.before]
    same = " AND ".join(f"{name}::text = ${place}" for place, name in enumerate(keys, start=1))
    statement = f"UPDATE {change.table} SET {_HARMLESS[change.table]} WHERE {same}"  # noqa: S608 - our names
    await world.truth.execute(statement, *(str(change.before[name]) for name in keys))


async def untouch(world: World, change: RowChange) -> None:
    """Take away what `touch` has created."""
    if change.before is None and change.after is not None:
        name = "event_id" if change.table == "outbox" else "key"
        statement = f"DELETE FROM {change.table} WHERE {name}::text = $1"  # noqa: S608 - our names
        await world.truth.execute(statement, str(change.after[name]))
