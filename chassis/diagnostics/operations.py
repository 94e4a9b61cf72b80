"""What an administrator may ask of a service: run checks, plan repairs, apply them, take them back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from uuid import UUID, uuid5

import orjson

from chassis.batch import Item, Outcome, Reply
from chassis.diagnostics.applying import Applying, Order, Worked
from chassis.diagnostics.checks import Check, Place, Scope, reading
from chassis.diagnostics.findings import Finding, Severity
from chassis.diagnostics.plans import Draft, Plan, PlannedRow, PlanStore, store
from chassis.diagnostics.repairs import UNIT_ROWS_MAX, Planned, Repair, Row, Unit
from chassis.diagnostics.tables import Rows
from chassis.diagnostics.walking import CheckWalk, Progress
from chassis.errors import Reason, ServiceError, invalid_field
from chassis.postgres import Connection, Database, idempotency
from chassis.postgres.isolation import Locked, run_isolated
from chassis.postgres.keyed import Render, write_keyed
from chassis.postgres.rows import as_rows
from chassis.rpc.paging import Page

RUNS_AT_ONCE_MAX = 2
"""Runs of checks that callers may have under way in one process."""
PLANS_AT_ONCE_MAX = 2
# A run that a caller waits for rests for a part of the time that it works.
PAUSE_RATIO = 0.25
PLAN_FINDINGS_MAX = 1000
PLAN_ROWS_MAX = 5000
LEFT_OUT_MAX = 100
# What a plan needs of its deadline after the checks have been run.
PLANNING_SECONDS = 4.0
ANSWER_SECONDS = 0.5

R = TypeVar("R")

_PLAN_IDS = UUID("5f1e2c1e-6d0b-4c39-9a55-0c9f8f1f3a77")


@dataclass(frozen=True, slots=True)
class Run:
    """A run of checks that is asked for; `after` is where an earlier one was cut off."""

    check_ids: Sequence[str]
    scope: Scope
    severity_min: Severity
    after: Position | None


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run of several checks is: in this check, behind this place."""

    check_id: str
    place: Place | None
    done: bool = False


Event = tuple[Position, Finding | Progress]


@dataclass(frozen=True, slots=True)
class Wish:
    """A plan that is asked for."""

    check_id: str
    repair_id: str
    user_id: str
    reason: str


class Diagnostics:
    """The checks and repairs of one service, over its own store.

    Args:
        checks: their ids must be unique, and each repair that they name must be in `repairs`.
        others: rows outside the database that repairs may change, by name.
    """

    def __init__(
        self,
        database: Database,
        *,
        checks: Sequence[Check],
        repairs: Sequence[Repair],
        others: Mapping[str, Rows] | None = None,
        at_change: Callable[[], object] = lambda: None,
    ) -> None:
        self.checks = {check.check_id: check for check in checks}
        self.repairs = {repair.repair_id: repair for repair in repairs}
        unknown = {name for check in checks for name in check.repairs} - self.repairs.keys()
        if unknown or len(self.checks) < len(checks) or len(self.repairs) < len(repairs):
            raise ValueError(f"checks or repairs are there twice, or do not exist: {sorted(unknown)}")
        self.plans = PlanStore(database)
        self._database = database
        self._applying = Applying(database, self.repairs, others)
        self._at_change = at_change
        self._runs = 0
        self._planning = asyncio.Semaphore(PLANS_AT_ONCE_MAX)

    async def run(self, item: Item[Run]) -> AsyncIterator[Event]:
        """The findings and the progress of these checks, one after the other.

        The run ends shortly before the deadline, wherever it is; a caller goes on from the last position.

        Raises:
            ServiceError: NOT_FOUND, for a check that does not exist; OVERLOADED, if too many runs are under
                way.
        """
        checks = self._wanted(item.request)
        if self._runs >= RUNS_AT_ONCE_MAX:
            raise ServiceError(
                Reason.OVERLOADED, "Other runs of checks are under way", retry_after_seconds=5.0
            )
        self._runs += 1
        try:
            async for event in self._walk(checks, item.request, item.deadline):
                yield event
        finally:
            self._runs -= 1

    async def plan(
        self, items: Sequence[Item[Wish]], render: Render[tuple[Plan, list[PlannedRow]]]
    ) -> list[Outcome]:
        """Plan each repair that is asked for."""
        return await _each(items, lambda item: self._plan(item, render))

    async def apply(self, items: Sequence[Item[Order]], render: Render[Worked]) -> list[Outcome]:
        """Apply each plan, as far as the time allows."""
        return await _each(items, lambda item: self._change(item, self._applying.apply, render))

    async def undo(self, items: Sequence[Item[Order]], render: Render[Worked]) -> list[Outcome]:
        """Take each plan back, as far as the time allows."""
        return await _each(items, lambda item: self._change(item, self._applying.undo, render))

    async def list_plans(self, item: Item[None], page: Page) -> list[Plan]:
        """Plans, the newest first."""
        return await self.plans.list_plans(page, deadline=item.deadline)

    async def list_rows(self, item: Item[UUID], page: Page) -> list[PlannedRow]:
        """The rows of a plan."""
        return await self.plans.list_rows(item.request, page, deadline=item.deadline)

    async def get_plan(self, item: Item[UUID]) -> Plan:
        """Raises ServiceError: NOT_FOUND."""
        return await self.plans.get(item.request, deadline=item.deadline)

    def _wanted(self, run: Run) -> list[Check]:
        """The checks of a run, in the order of their ids, from the position on."""
        for name in run.check_ids:
            self._check(name)
        chosen = sorted(run.check_ids or self.checks)
        if run.after is not None:
            chosen = [name for name in chosen if name >= run.after.check_id]
            if run.after.done:
                chosen = [name for name in chosen if name != run.after.check_id]
        checks = [self.checks[name] for name in chosen]
        return [check for check in checks if check.severity >= run.severity_min]

    async def _walk(self, checks: Sequence[Check], run: Run, deadline: float) -> AsyncIterator[Event]:
        for check in checks:
            after = run.after
            place = after.place if after is not None and after.check_id == check.check_id else None
            walk = CheckWalk(check, run.scope, after=place, pause_ratio=PAUSE_RATIO)
            async for findings, progress in walk.steps():
                # Until all of the step is told, the position is before it: a finding may come twice.
                before = Position(check.check_id, place)
                for finding in findings:
                    yield before, finding
                place = progress.reached
                yield Position(check.check_id, place, progress.done), progress
                if deadline - time.monotonic() < ANSWER_SECONDS:
                    return

    async def _plan(self, item: Item[Wish], render: Render[tuple[Plan, list[PlannedRow]]]) -> Outcome:
        wish = item.request
        chosen = self._chosen(wish)
        stored = await self._stored(item)
        if stored is not None:
            return stored
        async with self._planning:
            draft = await self._draft(item, chosen)

        async def lock(_connection: Connection, _items: Sequence[Item[Wish]]) -> None:
            """The same key makes the same plan id, which is unique: the second of two waits for the first."""

        async def change(
            connection: Connection, _: None, items: Sequence[Item[Wish]]
        ) -> list[tuple[Plan, list[PlannedRow]]]:
            return [(await store(connection, draft), list(draft.rows)) for _ in items]

        async def attempt(items: Sequence[Item[Wish]], _wait: bool) -> list[Outcome | Locked]:
            return await write_keyed(
                self._database, items, lock=lock, change=change, render=render, name="plan_repair"
            )

        (outcome,) = await run_isolated([item], attempt, owner_of=lambda each: each.claim)
        return outcome

    async def _stored(self, item: Item[Any]) -> Outcome | None:
        """The answer of an earlier request with this key, before anything is read for it."""

        async def find(connection: Connection) -> Outcome | None:
            found = await idempotency.find(connection, [item.claim])
            return idempotency.check(found[item.claim], item.fingerprint) if found else None

        return await self._database.read(find, deadline=item.deadline, name="find_plan")

    def _chosen(self, wish: Wish) -> list[tuple[Repair, list[Check]]]:
        """The repairs that are asked for, each with the checks whose findings it mends."""
        if wish.repair_id:
            repair = self.repairs.get(wish.repair_id)
            if repair is None:
                raise ServiceError(Reason.NOT_FOUND, f"There is no repair {wish.repair_id}")
            if not repair.needs_check:
                if not wish.user_id:
                    raise invalid_field("user_id", "Name the learner for whom this is repaired")
                return [(repair, [])]
        if wish.check_id:
            check = self._check(wish.check_id)
            name = wish.repair_id or next(iter(check.repairs), "")
            if name not in check.repairs:
                raise invalid_field(
                    "repair", f"{check.check_id} is not repaired by this. {check.advice}".strip()
                )
            return [(self.repairs[name], [check])]
        if not wish.user_id:
            raise invalid_field("check", "Name a check, or a learner, or both")
        return [
            (repair, checks)
            for repair in self.repairs.values()
            if repair.repair_id == (wish.repair_id or repair.repair_id)
            and (checks := [check for check in self.checks.values() if repair.repair_id in check.repairs[:1]])
        ]

    async def _draft(self, item: Item[Wish], chosen: Sequence[tuple[Repair, list[Check]]]) -> Draft:
        """Run the checks, and let the repairs plan. Nothing is written."""
        wish, scope = item.request, Scope(item.request.user_id)
        rows: list[PlannedRow] = []
        left_out: list[str] = []
        is_partial = False
        units = 0
        for repair, checks in chosen:
            findings, ended = await self._findings(checks, scope, item.deadline - PLANNING_SECONDS)
            is_partial = is_partial or not ended
            if checks and not findings:
                continue
            planned = await self._planned(repair, findings, scope, item.deadline)
            left_out += planned.left_out
            for unit in planned.units:
                if len(rows) + len(unit.changes) > PLAN_ROWS_MAX or len(unit.changes) > UNIT_ROWS_MAX:
                    is_partial = True
                    continue
                rows += _rows(unit, repair, number=units, first=len(rows))
                units += 1
        repair_id = chosen[0][0].repair_id if len(chosen) == 1 else ""
        return Draft(
            plan_id=uuid5(_PLAN_IDS, "\0".join(item.claim)),
            check_id=wish.check_id,
            repair_id=repair_id,
            user_id=wish.user_id,
            reason=wish.reason,
            created_by=item.user_id,
            rows=rows,
            left_out=left_out[:LEFT_OUT_MAX],
            is_partial=is_partial or len(left_out) > LEFT_OUT_MAX,
        )

    async def _findings(
        self, checks: Sequence[Check], scope: Scope, give_up_at: float
    ) -> tuple[list[Finding], bool]:
        """What these checks find, and whether they came to their end.

        Raises:
            ServiceError: UNAVAILABLE, if a check cannot be run.
        """
        found: list[Finding] = []
        for check in checks:
            async for findings, progress in CheckWalk(check, scope).steps():
                found += findings
                if progress.problem:
                    raise ServiceError(
                        Reason.UNAVAILABLE, f"{check.check_id} could not be run: {progress.problem}"
                    )
                if not progress.done and (len(found) >= PLAN_FINDINGS_MAX or time.monotonic() > give_up_at):
                    return found[:PLAN_FINDINGS_MAX], False
        return found[:PLAN_FINDINGS_MAX], len(found) <= PLAN_FINDINGS_MAX

    async def _planned(
        self, repair: Repair, findings: Sequence[Finding], scope: Scope, deadline: float
    ) -> Planned:
        async def work(connection: Connection) -> Planned:
            async with reading(connection, one_snapshot=True):
                return await repair.plan(connection, findings, scope)

        return await self._database.read(work, deadline=deadline, name="plan_rows")

    async def _change(
        self,
        item: Item[Order],
        carry_out: Callable[..., Awaitable[Worked]],
        render: Render[Worked],
    ) -> Outcome:
        """Work on a plan, then store the answer with the key. A repeated request finds no unit left."""
        stored = await self._stored(item)
        if stored is not None:
            return stored
        worked = await carry_out(item.request, deadline=item.deadline)
        self._at_change()

        async def lock(connection: Connection, _: Sequence[Item[Order]]) -> None:
            await connection.execute(
                "SELECT FROM repair_plans WHERE plan_id = $1 FOR UPDATE", item.request.plan_id
            )

        async def change(_: Connection, __: None, items: Sequence[Item[Order]]) -> list[Worked]:
            return [worked for _ in items]

        async def attempt(items: Sequence[Item[Order]], _wait: bool) -> list[Outcome | Locked]:
            return await write_keyed(
                self._database, items, lock=lock, change=change, render=render, name="answer_repair"
            )

        (outcome,) = await run_isolated([item], attempt, owner_of=lambda each: each.request.plan_id)
        return outcome

    def _check(self, check_id: str) -> Check:
        check = self.checks.get(check_id)
        if check is None:
            raise ServiceError(Reason.NOT_FOUND, f"There is no check {check_id}")
        return check


async def _each(items: Sequence[Item[R]], answer: Callable[[Item[R]], Awaitable[Outcome]]) -> list[Outcome]:
    """Answer each item by itself: what one of them raises is raised for it alone, by bisection."""

    async def one(item: Item[R]) -> Outcome:
        try:
            return await answer(item)
        except ServiceError as refusal:
            return refusal

    outcomes = await asyncio.gather(*map(one, items), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, ServiceError):
            raise outcome  # after all have ended; the batch is bisected then
    return [outcome for outcome in outcomes if isinstance(outcome, Reply | ServiceError)]


def _rows(unit: Unit, repair: Repair, *, number: int, first: int) -> list[PlannedRow]:
    return [
        PlannedRow(
            ordinal=first + at,
            unit=number,
            repair_id=repair.repair_id,
            change=replace(change, before=_as_stored(change.before), after=_as_stored(change.after)),
        )
        for at, change in enumerate(unit.changes)
    ]


def _as_stored(row: Row | None) -> Row | None:
    """The row as JSON has it: a plan that is shown at once looks as it does when it is read again."""
    return None if row is None else orjson.loads(as_rows(row))
