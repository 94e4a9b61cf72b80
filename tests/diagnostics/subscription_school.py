"""A school of subscription_service: learners made by its own operations, and what an administrator does."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

from chassis.batch import Item, Outcome
from chassis.context import Context
from chassis.diagnostics.applying import Order, Worked
from chassis.diagnostics.checks import Scope
from chassis.diagnostics.findings import Finding, Severity
from chassis.diagnostics.operations import Diagnostics, Run, Wish
from chassis.diagnostics.plans import Plan, PlannedRow
from chassis.errors import ServiceError
from chassis.postgres import Connection, Database
from subscription_service.operations.diagnosis import REPAIRS, checks, special_rows
from tests.subscription.service import Subscriptions

R = TypeVar("R")
SECONDS = 30.0


class School:
    """The checks have no age, so that a planted fault is found at once."""

    def __init__(self, database: Database, truth: Connection) -> None:
        self.subscriptions = Subscriptions(database, truth)
        self.truth = truth
        self.diagnostics = Diagnostics(
            database,
            checks=[replace(check, age=timedelta(0)) for check in checks(database)],
            repairs=REPAIRS,
            others=special_rows(),
        )

    async def learner(self) -> str:
        """A learner with two tests of today, credits from two grants, a changed plan and a license."""
        user_id = await self.subscriptions.account(f"learner-{uuid.uuid4()}")
        await self.subscriptions.plan("monthly", limit=5, monthly=4)
        await self.subscriptions.subscribe(user_id, "monthly")
        await self.subscriptions.adjust(user_id, 10)
        await self.subscriptions.commit(await self.subscriptions.place(user_id, credits=2))
        await self.subscriptions.release(await self.subscriptions.place(user_id, credits=1))
        await self.subscriptions.place(user_id, credits=3)
        await self.subscriptions.adjust(user_id, -1)
        await self.subscriptions.apply_level(user_id, "physics", 2)
        await self.subscriptions.apply_level(user_id, "physics", 3)
        return user_id

    async def findings(self, *, user_id: str = "") -> list[Finding]:
        run = Run([], Scope(user_id), Severity.INFO, None)
        found: list[Finding] = []
        async for _, told in self.diagnostics.run(self._item(run)):
            if isinstance(told, Finding):
                found.append(told)
            else:
                assert not told.problem, told
        return found

    async def plan(
        self, *, check: str = "", repair: str = "", user_id: str = ""
    ) -> tuple[Plan, list[PlannedRow]]:
        made: list[tuple[Plan, list[PlannedRow]]] = []

        def render(value: tuple[Plan, list[PlannedRow]]) -> bytes:
            made.append(value)
            return value[0].plan_id.bytes

        wish = Wish(check_id=check, repair_id=repair, user_id=user_id, reason="the learner asked")
        _raise(await self.diagnostics.plan([self._item(wish)], render))
        return made[0]

    async def apply(self, plan: Plan) -> Worked:
        return await self._work(self.diagnostics.apply, plan)

    async def undo(self, plan: Plan) -> Worked:
        return await self._work(self.diagnostics.undo, plan)

    async def rows(self, user_id: str) -> dict[str, list[str]]:
        """Everything that the store keeps of a learner, but the moments of repairs."""
        tables = await self.truth.fetch(
            """
            SELECT table_name FROM information_schema.columns
             WHERE table_schema = 'public' AND column_name = 'user_id' AND table_name NOT LIKE 'repair%'
               AND table_name <> 'idempotency_keys'
             ORDER BY table_name
            """
        )
        return {
            table: [
                row["row"]
                for row in await self.truth.fetch(
                    f"SELECT to_jsonb(kept)::text AS row FROM {table} AS kept WHERE user_id = $1 ORDER BY 1",  # noqa: S608 - a name of the catalogue
                    user_id,
                )
            ]
            for (table,) in tables
        }

    async def _work(self, act: Callable[..., Awaitable[list[Outcome]]], plan: Plan) -> Worked:
        done: list[Worked] = []

        def render(value: Worked) -> bytes:
            done.append(value)
            return value.plan.hash.encode()

        _raise(await act([self._item(Order(plan.plan_id, plan.hash, "root"))], render))
        return done[0]

    @staticmethod
    def _item(request: R) -> Item[R]:
        context = Context(
            "/test", "root", frozenset({"admin"}), uuid.uuid4().hex, "", time.monotonic() + SECONDS, ""
        )
        return Item(context, request, b"f")


def _raise(answers: list[Outcome]) -> None:
    (answer,) = answers
    if isinstance(answer, ServiceError):
        raise answer
