"""What an operator does with the checks and repairs of a service, with the values behind the answers."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from chassis.batch import Item, Outcome
from chassis.context import Context
from chassis.diagnostics.applying import Order, Worked
from chassis.diagnostics.checks import Check, Scope
from chassis.diagnostics.findings import Finding, Severity
from chassis.diagnostics.operations import Diagnostics, Run, Wish
from chassis.diagnostics.plans import Plan, PlannedRow, RowOutcome
from chassis.diagnostics.repairs import Repair
from chassis.diagnostics.tables import Rows
from chassis.diagnostics.walking import Progress
from chassis.errors import ServiceError
from chassis.postgres import Database

R = TypeVar("R")

SECONDS = 30.0


def item(request: R) -> Item[R]:
    """The request of an operator, under a new key."""
    context = Context(
        "/test", "operator", frozenset({"admin"}), uuid.uuid4().hex, "", time.monotonic() + SECONDS, ""
    )
    return Item(context, request, b"fingerprint")


class Operator:
    """Runs checks, plans repairs, applies them and takes them back."""

    def __init__(
        self,
        database: Database,
        *,
        checks: Sequence[Check],
        repairs: Sequence[Repair],
        others: Mapping[str, Rows] | None = None,
    ) -> None:
        self.diagnostics = Diagnostics(database, checks=checks, repairs=repairs, others=others)

    async def findings(self, *check_ids: str, user_id: str = "") -> list[Finding]:
        """What these checks find, or all; raises AssertionError when one of them could not be run."""
        run = Run(check_ids, Scope(user_id), Severity.INFO, None)
        found: list[Finding] = []
        async for _, told in self.diagnostics.run(item(run)):
            if isinstance(told, Progress):
                assert not told.problem, f"{told.check}: {told.problem}"
            else:
                found.append(told)
        return found

    async def plan(
        self, check: str = "", *, repair: str = "", user_id: str = ""
    ) -> tuple[Plan, list[PlannedRow]]:
        """The plan of this repair, or of the check's usual one, and its rows."""
        made: list[tuple[Plan, list[PlannedRow]]] = []

        def render(value: tuple[Plan, list[PlannedRow]]) -> bytes:
            made.append(value)
            return value[0].plan_id.bytes

        wish = Wish(check_id=check, repair_id=repair, user_id=user_id, reason="a test")
        (answer,) = await self.diagnostics.plan([item(wish)], render)
        if isinstance(answer, ServiceError):
            raise answer
        return made[0]

    async def apply(self, plan: Plan) -> list[PlannedRow]:
        """Apply the plan; returns the rows that were worked on."""
        return await self._work(self.diagnostics.apply, plan)

    async def undo(self, plan: Plan) -> list[PlannedRow]:
        """Take the plan back; returns the rows that were worked on."""
        return await self._work(self.diagnostics.undo, plan)

    async def mend(self, check: str = "", *, repair: str = "", user_id: str = "") -> Plan:
        """Plan and apply; all rows must change."""
        plan, _ = await self.plan(check, repair=repair, user_id=user_id)
        rows = await self.apply(plan)
        assert rows
        assert {row.outcome for row in rows} == {RowOutcome.APPLIED}, [
            (row.outcome, row.detail) for row in rows
        ]
        return plan

    async def _work(self, act: Callable[..., Awaitable[list[Outcome]]], plan: Plan) -> list[PlannedRow]:
        done: list[Worked] = []

        def render(value: Worked) -> bytes:
            done.append(value)
            return value.plan.hash.encode()

        (answer,) = await act([item(Order(plan.plan_id, plan.hash, "operator"))], render)
        if isinstance(answer, ServiceError):
            raise answer
        return list(done[0].rows)
