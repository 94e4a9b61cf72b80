"""Checks that run themselves: every few hours, at one replica of any number, without a leader."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson

from chassis.diagnostics.checks import Check, Place, Scope
from chassis.diagnostics.findings import Finding, Severity
from chassis.diagnostics.walking import CheckWalk, Progress
from chassis.postgres import Connection, Database
from chassis.telemetry.logs import get_logger
from chassis.telemetry.metrics import Metrics

log = get_logger(__name__)

LEASE_SECONDS = 60.0
"""Longer than a turn takes. A replica that is slower loses the check to another one, and harms nothing."""
TURN_SECONDS = 3.0
"""A job works on one check for so long, then looks what is due next."""
AT_ONCE = 0.0  # as jobs return it, see `Background`
STEP_SECONDS_MAX = 5.0
# A run that nobody waits for rests as long as it works.
PAUSE_RATIO = 1.0
CRITICAL_LOGGED_MAX = 20
AFTER_A_PROBLEM = timedelta(minutes=10)
PLANS_KEPT = timedelta(days=365)
PLANS_PER_PURGE = 20

_MAKE_KNOWN = "INSERT INTO check_runs (check_id) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING"
# A check is due if it never ran, if its run was cut off, an interval after its last begin, or soon after a
# run with a problem.
_LEASE = """
    UPDATE check_runs AS run
       SET lease = lease + 1, leased_until = clock_timestamp() + $2::interval,
           began_at = coalesce(began_at, clock_timestamp())
     WHERE check_id = (SELECT check_id
                         FROM check_runs
                        WHERE check_id = ANY ($1::text[])
                          AND (leased_until IS NULL OR leased_until < clock_timestamp())
                          AND (began_at IS NOT NULL OR last_began_at IS NULL
                               OR last_began_at < clock_timestamp() - $3::interval
                               OR last_problem <> '' AND last_ended_at < clock_timestamp() - $4::interval)
                        ORDER BY began_at NULLS LAST, last_began_at NULLS FIRST, check_id
                        LIMIT 1
                          FOR UPDATE SKIP LOCKED)
    RETURNING check_id, lease, reached, walked, findings, seconds
"""
_ADVANCE = """
    UPDATE check_runs
       SET reached = $3, walked = walked + $4, findings = findings + $5, seconds = seconds + $6,
           leased_until = NULL
     WHERE check_id = $1 AND lease = $2
"""
_END = """
    UPDATE check_runs
       SET last_began_at = began_at, last_ended_at = clock_timestamp(), last_walked = walked + $3,
           last_findings = findings + $4, last_seconds = seconds + $5, last_problem = $6,
           began_at = NULL, reached = NULL, walked = 0, findings = 0, seconds = 0, leased_until = NULL
     WHERE check_id = $1 AND lease = $2
"""
_LAST = """
    SELECT check_id, last_began_at, last_ended_at, last_walked, last_findings, last_seconds, last_problem
      FROM check_runs
     WHERE check_id = ANY ($1::text[]) AND last_ended_at IS NOT NULL
"""
_PURGE_PLANS = """
    WITH old AS (
        SELECT plan_id
          FROM repair_plans
         WHERE (state = 'planned' AND expires_at < clock_timestamp() - interval '1 day')
            OR created_at < clock_timestamp() - $1::interval
         ORDER BY created_at
         LIMIT $2
           FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM repair_rows WHERE plan_id IN (SELECT plan_id FROM old)
    )
    SELECT plan_id FROM old
"""
_PURGE_JOURNAL = """
    DELETE FROM repair_journal
     WHERE ctid = ANY (ARRAY(SELECT ctid
                               FROM repair_journal
                              WHERE changed_at < clock_timestamp() - $1::interval
                              ORDER BY changed_at
                              LIMIT 1000))
"""


@dataclass(frozen=True, slots=True)
class LastRun:
    """How the last run of a check ended; times are those of the database."""

    check_id: str
    began_at: datetime
    ended_at: datetime
    walked: int
    findings: int
    seconds: float
    problem: str


@dataclass(frozen=True, slots=True)
class _Lease:
    check_id: str
    number: int
    reached: Place | None
    findings: int


class CheckSchedule:
    """Runs checks in the background, each every `interval`, and shows what they found.

    The state is in the database: any replica may take the next turn, and a turn that is lost is taken again
    from the last place that was recorded.
    """

    def __init__(
        self, database: Database, checks: Mapping[str, Check], *, interval: timedelta, metrics: Metrics
    ) -> None:
        self._database = database
        self._checks = checks
        self._interval = interval
        self._known = False
        self._last: dict[str, LastRun] = {}
        metrics.gauge(
            "findings",
            "Findings of the last run of each check.",
            lambda: self._gauge(lambda run: float(run.findings)),
            ("check", "severity"),
        )
        metrics.gauge(
            "check_last_run_timestamp_seconds",
            "The Unix time at which the last run of each check ended.",
            lambda: self._gauge(lambda run: run.ended_at.timestamp()),
            ("check", "severity"),
        )
        metrics.gauge(
            "check_last_run_seconds",
            "How long the steps of the last run of each check took.",
            lambda: self._gauge(lambda run: run.seconds),
            ("check", "severity"),
        )
        metrics.gauge(
            "check_last_run_failed",
            "1 if the last run of a check could not be finished.",
            lambda: self._gauge(lambda run: float(bool(run.problem))),
            ("check", "severity"),
        )

    async def work(self) -> float | None:
        """A job: one turn of the check that has waited longest."""
        lease = await self._lease()
        if lease is not None:
            await self._turn(lease)
        self._last = {run.check_id: run for run in await self.last_runs(deadline=step_deadline())}
        return None if lease is None else AT_ONCE

    async def last_runs(self, *, deadline: float) -> list[LastRun]:
        """The last run of each check that has come to its end. Raises what `Database` raises."""

        async def read(connection: Connection) -> list[LastRun]:
            return [LastRun(*row) for row in await connection.fetch(_LAST, list(self._checks))]

        return await self._database.read(read, deadline=deadline, name="last_check_runs")

    async def purge(self) -> float | None:
        """A job: delete plans that were never applied, and plans and journals that are a year old."""

        async def work(connection: Connection) -> int:
            plans = [
                row["plan_id"] for row in await connection.fetch(_PURGE_PLANS, PLANS_KEPT, PLANS_PER_PURGE)
            ]
            await connection.execute("DELETE FROM repair_plans WHERE plan_id = ANY ($1::uuid[])", plans)
            await connection.execute(_PURGE_JOURNAL, PLANS_KEPT)
            return len(plans)

        purged = await self._database.write(work, deadline=step_deadline(), name="purge_plans")
        return AT_ONCE if purged == PLANS_PER_PURGE else None

    async def _lease(self) -> _Lease | None:
        if not self._known:
            await self._database.execute_write(
                _MAKE_KNOWN, sorted(self._checks), deadline=step_deadline(), name="make_checks_known"
            )
            self._known = True
        rows = await self._database.execute_write(
            _LEASE,
            sorted(self._checks),
            timedelta(seconds=LEASE_SECONDS),
            self._interval,
            min(self._interval, AFTER_A_PROBLEM),
            deadline=step_deadline(),
            name="lease_check",
        )
        if not rows:
            return None
        (row,) = rows
        reached = None if row["reached"] is None else tuple(orjson.loads(row["reached"]))
        return _Lease(row["check_id"], row["lease"], reached, row["findings"])

    async def _turn(self, lease: _Lease) -> None:
        """Walk for TURN_SECONDS, then record how far the check is."""
        check = self._checks[lease.check_id]
        stop_at = time.monotonic() + TURN_SECONDS
        walk = CheckWalk(check, Scope(), after=lease.reached, pause_ratio=PAUSE_RATIO)
        told = lease.findings
        progress: Progress | None = None
        async for findings, reached in walk.steps():
            progress = reached
            if check.severity is Severity.CRITICAL:
                for finding in findings[: max(CRITICAL_LOGGED_MAX - told, 0)]:
                    _log_critical(finding)
            told += len(findings)
            if time.monotonic() > stop_at:
                break
        if progress is not None:
            await self._record(lease, progress)

    async def _record(self, lease: _Lease, progress: Progress) -> None:
        counts = (progress.walked, progress.findings, progress.seconds)
        if progress.done:
            await self._database.execute_write(
                _END,
                lease.check_id,
                lease.number,
                *counts,
                progress.problem,
                deadline=step_deadline(),
                name="end_check",
            )
            log.info(
                "check_finished",
                check=lease.check_id,
                findings=lease.findings + progress.findings,
                problem=progress.problem,
            )
            return
        await self._database.execute_write(
            _ADVANCE,
            lease.check_id,
            lease.number,
            orjson.dumps(progress.reached).decode(),
            *counts,
            deadline=step_deadline(),
            name="advance_check",
        )

    def _gauge(self, read: Callable[[LastRun], float]) -> dict[tuple[str, ...], float]:
        return {
            (run.check_id, self._checks[run.check_id].severity.name.lower()): read(run)
            for run in self._last.values()
        }


def step_deadline() -> float:
    return time.monotonic() + STEP_SECONDS_MAX


def _log_critical(finding: Finding) -> None:
    log.error(
        "critical_finding",
        check=finding.check,
        user_id=finding.user_id,
        row=dict(finding.row),
        observed=finding.observed,
        expected=finding.expected,
        since=None if finding.since is None else finding.since.isoformat(),
        evidence=dict(finding.evidence),
    )
