"""Checks run themselves: each once per interval, whichever replica it is, and what they find is shown."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog.testing

from chassis.diagnostics.checks import Check, Place, Scope, Step
from chassis.diagnostics.findings import Finding, Severity
from chassis.diagnostics.schedule import CheckSchedule
from chassis.postgres import Connection, Database
from chassis.telemetry.metrics import Metrics
from tests.diagnostics.purses import WRONG_TOTAL, checks

SIX_HOURS = timedelta(hours=6)


def schedule(
    database: Database, each: Sequence[Check] | None = None, *, metrics: Metrics | None = None
) -> CheckSchedule:
    found = checks(database) if each is None else each
    return CheckSchedule(
        database,
        {check.check_id: check for check in found},
        interval=SIX_HOURS,
        metrics=metrics or Metrics(service="test"),
    )


@dataclass
class Counted:
    """A walk that counts its steps; a step may fail."""

    pages: int = 1
    steps: int = 0
    problem: Exception | None = None

    async def step(
        self, check: Check, _scope: Scope, after: Place | None, *, limit: int, deadline: float
    ) -> Step:
        del limit, deadline
        self.steps += 1
        if self.problem is not None:
            raise self.problem
        at = int(after[0]) + 1 if after else 1
        finding = Finding(check.check_id, check.severity, "odd", "even", row={"page": str(at)})
        return Step([finding], 10, None if at == self.pages else (str(at),))


def counted(walk: Counted, *, check_id: str = "purse.counted") -> Check:
    return Check(check_id=check_id, severity=Severity.HIGH, meaning="It is odd.", walk=walk)


async def test_a_check_runs_once_per_interval_at_one_of_many_replicas(database: Database) -> None:
    walk = Counted()
    replicas = [schedule(database, [counted(walk)]) for _ in range(5)]
    for _ in range(3):
        await asyncio.gather(*(replica.work() for replica in replicas))
    assert walk.steps == 1


async def test_a_check_runs_again_after_the_interval(database: Database, admin: Connection) -> None:
    walk = Counted()
    replica = schedule(database, [counted(walk)])
    await replica.work()
    await admin.execute("UPDATE check_runs SET last_began_at = last_began_at - interval '7 hours'")
    assert await replica.work() == 0.0
    assert walk.steps == 2


async def test_what_a_check_found_is_shown_as_metrics_at_every_replica(
    database: Database, admin: Connection
) -> None:
    await admin.execute("INSERT INTO purses (user_id, total) VALUES ('ann', 9), ('bob', 0)")
    metrics = Metrics(service="test")
    await schedule(database).work()
    await schedule(database, metrics=metrics).work()
    page = metrics.render().decode()
    assert f'homeroom_findings{{check="{WRONG_TOTAL}",severity="critical"}} 1.0' in page
    assert f'homeroom_check_last_run_failed{{check="{WRONG_TOTAL}",severity="critical"}} 0.0' in page


async def test_a_critical_finding_is_a_log_line_with_its_evidence(
    database: Database, admin: Connection
) -> None:
    await admin.execute("INSERT INTO purses (user_id, total) VALUES ('ann', 9)")
    with structlog.testing.capture_logs() as lines:
        await schedule(database).work()
    (line,) = [each for each in lines if each["event"] == "critical_finding"]
    assert (line["check"], line["user_id"], line["observed"], line["expected"]) == (
        WRONG_TOTAL,
        "ann",
        "9",
        "0",
    )
    assert line["evidence"] == {"coins": "0"}


async def test_a_run_that_a_dead_replica_has_left_goes_on_where_it_was(
    database: Database, admin: Connection
) -> None:
    walk = Counted(pages=3)
    check = counted(walk)
    await schedule(database, [check]).work()
    assert walk.steps == 3
    # As a replica that was killed in its second turn leaves it: two pages are recorded, its lease runs out.
    await admin.execute(
        "UPDATE check_runs SET began_at = now(), reached = '[\"2\"]', walked = 20, findings = 2, "
        "last_ended_at = NULL, leased_until = now() + interval '1 minute'"
    )
    replica = schedule(database, [check])
    assert await replica.work() is None
    await admin.execute("UPDATE check_runs SET leased_until = now() - interval '1 second'")
    await replica.work()
    (last,) = await replica.last_runs(deadline=float("inf"))
    assert (walk.steps, last.walked, last.findings) == (4, 30, 3)


async def test_a_check_that_fails_is_told_tried_again_and_harms_no_other(
    database: Database, admin: Connection
) -> None:
    broken, well = Counted(problem=RuntimeError("no such column")), Counted()
    both = [counted(broken, check_id="purse.broken"), counted(well, check_id="purse.well")]
    replica = schedule(database, both)
    while await replica.work() is not None:
        pass
    last = {run.check_id: run for run in await replica.last_runs(deadline=float("inf"))}
    assert last["purse.broken"].problem == "RuntimeError"
    assert (last["purse.well"].problem, last["purse.well"].findings) == ("", 1)
    await admin.execute("UPDATE check_runs SET last_ended_at = last_ended_at - interval '11 minutes'")
    while await replica.work() is not None:
        pass
    assert (broken.steps, well.steps) == (2, 1)


async def test_a_check_that_was_removed_is_not_run_and_not_shown(database: Database) -> None:
    walk = Counted()
    await schedule(database, [counted(walk)]).work()
    metrics = Metrics(service="test")
    replica = schedule(database, [replace(counted(walk), check_id="purse.other")], metrics=metrics)
    await replica.work()
    assert "purse.counted" not in metrics.render().decode()


async def test_plans_that_were_never_applied_go_after_two_days_and_others_after_a_year(
    database: Database, admin: Connection
) -> None:
    await admin.execute(
        """
        INSERT INTO repair_plans
        SELECT gen_random_uuid(), '', '', name, 'why', state, repeat('0', 64), false, '{}', 'ann',
               now() - age, now() - age + interval '1 day', now()
          FROM (VALUES ('old plan', 'planned', interval '3 days'),
                       ('new plan', 'planned', interval '1 hour'),
                       ('applied', 'applied', interval '300 days'),
                       ('long ago', 'applied', interval '400 days')) AS told (name, state, age)
        """
    )
    await admin.execute(
        "INSERT INTO repair_rows (plan_id, ordinal, unit, repair_id, user_id, table_name, after) "
        "SELECT plan_id, 0, 0, '', '', 'purses', '{}' FROM repair_plans"
    )
    await schedule(database).purge()
    left = [row["user_id"] for row in await admin.fetch("SELECT user_id FROM repair_plans ORDER BY 1")]
    assert left == ["applied", "new plan"]
    assert await admin.fetchval("SELECT count(*) FROM repair_rows") == 2
