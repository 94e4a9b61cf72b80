"""homeroom.progress.v1.SyncService: its messages, converted."""

from __future__ import annotations

from datetime import UTC
from uuid import UUID

from chassis.batch import Item
from chassis.rpc.paging import PageTokens, Position
from chassis.rpc.servicing import Handler, PagedOperation, keyed, paged, plain
from chassis.rpc.timestamps import timestamp
from progress_service.domain.desyncs import Desync, Direction, Kind, Levels
from progress_service.domain.sync_runs import (
    Change,
    Order,
    Outcome,
    Report,
    Run,
    RunId,
    RunState,
    run_id_of,
)
from progress_service.operations.comparison import Scope, StoreComparison
from progress_service.operations.sync_orders import SyncOrders
from progress_service.servicer.counts import shown
from protos.progress.v1 import sync_pb2 as pb

SERVICE = "/homeroom.progress.v1.SyncService"

_DIRECTIONS = {
    pb.PROGRESS_TO_LICENSE: Direction.PROGRESS_TO_LICENSE,
    pb.LICENSE_TO_PROGRESS: Direction.LICENSE_TO_PROGRESS,
    pb.BOTH_WAYS: Direction.BOTH_WAYS,
}
_SHOWN_DIRECTIONS = {direction: shown for shown, direction in _DIRECTIONS.items()}
_KINDS = {
    Kind.LEVEL_MISMATCH: pb.LEVEL_MISMATCH,
    Kind.PROGRESS_WITHOUT_LICENSE: pb.PROGRESS_WITHOUT_LICENSE,
    Kind.LICENSE_WITHOUT_PROGRESS: pb.LICENSE_WITHOUT_PROGRESS,
}
_OUTCOMES = {
    Outcome.PLANNED: pb.SyncChange.PLANNED,
    Outcome.APPLIED: pb.SyncChange.APPLIED,
    Outcome.UNCHANGED: pb.SyncChange.UNCHANGED,
    Outcome.NEEDS_DECISION: pb.SyncChange.NEEDS_DECISION,
    Outcome.FAILED: pb.SyncChange.FAILED,
}
_STATES = {RunState.RUNNING: pb.SyncRun.RUNNING, RunState.FINISHED: pb.SyncRun.FINISHED}


def handlers(
    *,
    comparison: StoreComparison,
    orders: SyncOrders,
    list_runs: PagedOperation[None, Run],
    age_seconds_min: float,
    tokens: PageTokens,
) -> list[Handler]:
    """Every method of the service. A dry run passes over disagreements younger than `age_seconds_min`."""

    def order_of_all(item: Item[pb.SyncAllRequest]) -> Order:
        request = item.request
        dry_run = request.dry_run if request.HasField("dry_run") else True
        return Order(
            run_id=run_id_of(*item.claim),
            direction=_DIRECTIONS[request.direction],
            dry_run=dry_run,
            specialization=request.specialization,
            ordered_by=item.user_id,
            # A run that writes looks again before each change, so that it may look at the youngest ones too.
            age_seconds_min=age_seconds_min if dry_run else 0.0,
        )

    return [
        paged(
            f"{SERVICE}/ListDesyncs",
            _scope,
            comparison.list_desyncs,
            _desync,
            position=lambda desync: tuple(desync.key),
            tokens=tokens,
        ),
        keyed(f"{SERVICE}/SyncUser", _order_of_a_learner, orders.sync, _learner_response),
        keyed(f"{SERVICE}/SyncAll", order_of_all, orders.sync, _all_response),
        paged(
            f"{SERVICE}/ListSyncRuns",
            lambda _item: None,
            list_runs,
            _run,
            position=_run_position,
            tokens=tokens,
        ),
        plain(
            f"{SERVICE}/GetSyncRun",
            _run_id,
            orders.get_runs,
            lambda run: pb.GetSyncRunResponse(run=_run(run)),
        ),
        paged(
            f"{SERVICE}/ListSyncChanges",
            _run_id,
            orders.list_changes,
            _change,
            position=lambda change: tuple(change.key),
            tokens=tokens,
        ),
    ]


def _order_of_a_learner(item: Item[pb.SyncUserRequest]) -> Order:
    request = item.request
    return Order(
        run_id=run_id_of(*item.claim),
        direction=_DIRECTIONS[request.direction],
        dry_run=False,
        specialization=request.specialization,
        user_id=request.user_id,
        ordered_by=item.user_id,
    )


def _scope(item: Item[pb.ListDesyncsRequest]) -> Scope:
    return Scope(specialization=item.request.specialization)


def _run_id(item: Item[pb.GetSyncRunRequest | pb.ListSyncChangesRequest]) -> RunId:
    return RunId(UUID(item.request.run_id))


def _run_position(run: Run) -> Position:
    return run.started_at.astimezone(UTC).isoformat(), str(run.order.run_id)


def _learner_response(report: Report) -> pb.SyncUserResponse:
    return pb.SyncUserResponse(
        changes=[_change(change) for change in report.changes], run_id=str(report.run.order.run_id)
    )


def _all_response(report: Report) -> pb.SyncAllResponse:
    return pb.SyncAllResponse(run=_run(report.run), changes=[_change(change) for change in report.changes])


def _desync(desync: Desync) -> pb.Desync:
    progress, license_ = desync.levels
    return pb.Desync(
        user_id=desync.key.user_id,
        specialization=desync.key.specialization,
        kind=_KINDS[desync.kind],
        progress_level=progress or None,
        license_level=license_ or None,
    )


def _change(change: Change) -> pb.SyncChange:
    return pb.SyncChange(
        user_id=change.user_id,
        specialization=change.specialization,
        kind=_KINDS[change.kind],
        outcome=_OUTCOMES[change.outcome],
        before=_levels(change.before),
        after=_levels(change.after),
        reason=change.reason,
    )


def _levels(levels: Levels) -> pb.SyncLevels:
    return pb.SyncLevels(progress_level=levels.progress or None, license_level=levels.license or None)


def _run(run: Run) -> pb.SyncRun:
    counts = run.counts
    return pb.SyncRun(
        run_id=str(run.order.run_id),
        direction=_SHOWN_DIRECTIONS[run.order.direction],
        dry_run=run.order.dry_run,
        specialization=run.order.specialization,
        user_id=run.order.user_id,
        state=_STATES[run.state],
        ordered_by=run.order.ordered_by,
        started_at=timestamp(run.started_at),
        finished_at=timestamp(run.finished_at),
        statistics=pb.SyncStatistics(
            compared=shown(counts.compared),
            level_mismatches=shown(counts.level_mismatches),
            progress_without_license=shown(counts.progress_without_license),
            license_without_progress=shown(counts.license_without_progress),
            planned=shown(counts.planned),
            applied=shown(counts.applied),
            unchanged=shown(counts.unchanged),
            needs_decision=shown(counts.needs_decision),
            failed=shown(counts.failed),
        ),
    )
