"""homeroom.chassis.v1.DiagnosticsService: its messages, converted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from google.protobuf import struct_pb2

from chassis.batch import Item
from chassis.diagnostics.applying import Order, Worked
from chassis.diagnostics.checks import Check, Scope
from chassis.diagnostics.findings import Finding, Severity
from chassis.diagnostics.operations import Diagnostics, Event, Position, Run, Wish
from chassis.diagnostics.plans import Plan, PlannedRow, PlanState, RowOutcome
from chassis.diagnostics.repairs import Repair, Row
from chassis.diagnostics.schedule import LastRun
from chassis.diagnostics.walking import Progress
from chassis.errors import ServiceError
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler, keyed, paged, plain, streamed
from chassis.rpc.timestamps import timestamp
from protos.chassis.v1 import diagnostics_pb2 as pb

SERVICE = "/homeroom.chassis.v1.DiagnosticsService"
# A plan is answered with its first rows; `GetPlan` has all.
ROWS_OF_NEW_PLAN_MAX = 50
INT32_MAX = 2**31 - 1

_SEVERITIES = {
    Severity.INFO: pb.INFO,
    Severity.LOW: pb.LOW,
    Severity.MEDIUM: pb.MEDIUM,
    Severity.HIGH: pb.HIGH,
    Severity.CRITICAL: pb.CRITICAL,
}
_STATES = {
    PlanState.PLANNED: pb.Plan.PLANNED,
    PlanState.APPLYING: pb.Plan.APPLYING,
    PlanState.APPLIED: pb.Plan.APPLIED,
    PlanState.UNDOING: pb.Plan.UNDOING,
    PlanState.UNDONE: pb.Plan.UNDONE,
}
_OUTCOMES = {
    RowOutcome.WAITING: pb.PlannedRow.WAITING,
    RowOutcome.APPLIED: pb.PlannedRow.APPLIED,
    RowOutcome.SKIPPED: pb.PlannedRow.SKIPPED,
    RowOutcome.FAILED: pb.PlannedRow.FAILED,
    RowOutcome.UNDONE: pb.PlannedRow.UNDONE,
    RowOutcome.KEPT: pb.PlannedRow.KEPT,
}


def handlers(
    diagnostics: Diagnostics,
    *,
    last_runs: Callable[..., Awaitable[Sequence[LastRun]]],
    tokens: PageTokens,
) -> list[Handler]:
    """Every method of the service, for one store."""

    async def list_checks(items: Sequence[Item[None]]) -> list[pb.ListChecksResponse | ServiceError]:
        last = {run.check_id: run for run in await last_runs(deadline=items[0].deadline)}
        checks = [
            _check(check, diagnostics.repairs, last.get(check.check_id))
            for check in sorted(diagnostics.checks.values(), key=lambda each: each.check_id)
        ]
        alone = [_repair(each) for each in diagnostics.repairs.values() if not each.needs_check]
        return [pb.ListChecksResponse(checks=checks, repairs=alone) for _ in items]

    def run_of(item: Item[pb.RunChecksRequest]) -> Run:
        request = item.request
        position = tokens.read(f"{SERVICE}/RunChecks", request.resume_after)
        after = None
        if position is not None:
            check_id, done, *place = position
            after = Position(str(check_id), tuple(map(str, place)) or None, bool(done))
        return Run(
            check_ids=list(request.check),
            scope=Scope(request.user_id),
            severity_min=Severity(request.min_severity or pb.INFO),
            after=after,
        )

    def event(value: Event) -> pb.RunChecksResponse:
        position, told = value
        place: tuple[str | int, ...] = (position.check_id, int(position.done), *(position.place or ()))
        answer = pb.RunChecksResponse(position=tokens.write(f"{SERVICE}/RunChecks", place))
        if isinstance(told, Finding):
            answer.finding.CopyFrom(_finding(told))
        else:
            answer.progress.CopyFrom(_progress(told))
        return answer

    async def run_checks(item: Item[Run]) -> AsyncIterator[Event]:
        async for each in diagnostics.run(item):
            yield each

    return [
        plain(f"{SERVICE}/ListChecks", lambda _item: None, list_checks, lambda answer: answer),
        streamed(f"{SERVICE}/RunChecks", run_of, run_checks, event),
        keyed(f"{SERVICE}/PlanRepair", _wish, diagnostics.plan, _plan_response),
        paged(
            f"{SERVICE}/ListPlans",
            lambda _item: None,
            diagnostics.list_plans,
            _plan,
            position=lambda plan: (plan.created_at.isoformat(), str(plan.plan_id)),
            tokens=tokens,
        ),
        paged(
            f"{SERVICE}/GetPlan",
            _plan_id,
            diagnostics.list_rows,
            _row,
            position=lambda row: (row.ordinal,),
            tokens=tokens,
            head=(diagnostics.get_plan, lambda plan: pb.GetPlanResponse(plan=_plan(plan))),
        ),
        keyed(f"{SERVICE}/ApplyRepair", _order, diagnostics.apply, _applied_response),
        keyed(f"{SERVICE}/UndoRepair", _order, diagnostics.undo, _undone_response),
    ]


def _wish(item: Item[pb.PlanRepairRequest]) -> Wish:
    request = item.request
    return Wish(
        check_id=request.check,
        repair_id=request.repair,
        user_id=request.user_id,
        reason=request.reason,
    )


def _plan_id(item: Item[pb.GetPlanRequest]) -> UUID:
    return UUID(item.request.plan_id)


def _order(item: Item[pb.ApplyRepairRequest | pb.UndoRepairRequest]) -> Order:
    return Order(plan_id=UUID(item.request.plan_id), hash=item.request.hash, by=item.user_id)


def _check(check: Check, repairs: Mapping[str, Repair], last: LastRun | None) -> pb.Check:
    return pb.Check(
        check_id=check.check_id,
        severity=_SEVERITIES[check.severity],
        meaning=check.meaning,
        age_seconds_min=int(check.age.total_seconds()),
        repairs=[_repair(repairs[name]) for name in check.repairs],
        advice=check.advice,
        last_run=None if last is None else _last_run(last),
    )


def _repair(repair: Repair) -> pb.Repair:
    return pb.Repair(repair_id=repair.repair_id, meaning=repair.meaning)


def _last_run(run: LastRun) -> pb.CheckRun:
    return pb.CheckRun(
        started_at=timestamp(run.began_at),
        finished_at=timestamp(run.ended_at),
        walked=run.walked,
        findings=min(run.findings, INT32_MAX),
        seconds=run.seconds,
        problem=run.problem,
    )


def _finding(finding: Finding) -> pb.Finding:
    return pb.Finding(
        check_id=finding.check,
        severity=_SEVERITIES[finding.severity],
        user_id=finding.user_id,
        row=dict(finding.row),
        observed=finding.observed,
        expected=finding.expected,
        since=timestamp(finding.since),
        evidence=dict(finding.evidence),
    )


def _progress(progress: Progress) -> pb.CheckProgress:
    return pb.CheckProgress(
        check_id=progress.check,
        walked=progress.walked,
        findings=min(progress.findings, INT32_MAX),
        seconds=progress.seconds,
        done=progress.done,
        problem=progress.problem,
    )


def _plan_response(made: tuple[Plan, list[PlannedRow]]) -> pb.PlanRepairResponse:
    plan, rows = made
    return pb.PlanRepairResponse(plan=_plan(plan), rows=[_row(row) for row in rows[:ROWS_OF_NEW_PLAN_MAX]])


def _applied_response(worked: Worked) -> pb.ApplyRepairResponse:
    return pb.ApplyRepairResponse(plan=_plan(worked.plan), rows=[_ended(row) for row in worked.rows])


def _undone_response(worked: Worked) -> pb.UndoRepairResponse:
    return pb.UndoRepairResponse(plan=_plan(worked.plan), rows=[_ended(row) for row in worked.rows])


def _plan(plan: Plan) -> pb.Plan:
    counts = plan.counts
    return pb.Plan(
        plan_id=str(plan.plan_id),
        hash=plan.hash,
        state=_STATES[plan.state],
        check=plan.check_id,
        repair=plan.repair_id,
        user_id=plan.user_id,
        reason=plan.reason,
        created_by=plan.created_by,
        created_at=timestamp(plan.created_at),
        expires_at=timestamp(plan.expires_at),
        counts=pb.PlanCounts(
            rows=counts.rows,
            applied=counts.applied,
            skipped=counts.skipped,
            failed=counts.failed,
            undone=counts.undone,
            kept=counts.kept,
        ),
        is_partial=plan.is_partial,
        left_out=list(plan.left_out),
    )


def _row(row: PlannedRow) -> pb.PlannedRow:
    """A row with what it was and what it becomes."""
    told = _ended(row)
    if row.change.before is not None:
        told.before.CopyFrom(_struct(row.change.before))
    if row.change.after is not None:
        told.after.CopyFrom(_struct(row.change.after))
    return told


def _ended(row: PlannedRow) -> pb.PlannedRow:
    return pb.PlannedRow(
        unit=row.unit,
        ordinal=row.ordinal,
        repair=row.repair_id,
        user_id=row.change.user_id,
        table=row.change.table,
        outcome=_OUTCOMES[row.outcome],
        detail=row.detail,
    )


def _struct(row: Row) -> struct_pb2.Struct:
    """The row as JSON shows it. An integer that a double cannot hold becomes text."""
    shown = struct_pb2.Struct()
    shown.update({name: _shown(value) for name, value in row.items()})
    return shown


def _shown(value: Any) -> Any:
    if isinstance(value, int) and abs(value) > 2**53:
        return str(value)
    if isinstance(value, Mapping):
        return {name: _shown(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_shown(each) for each in value]
    return value
