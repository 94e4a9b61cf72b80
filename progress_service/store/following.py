"""The repair that brings a learner's progress and license together, by the rows that a sync would write."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg
import orjson

from chassis.diagnostics.checks import Scope
from chassis.diagnostics.findings import Finding
from chassis.diagnostics.repairs import Planned, Repair, Row, RowChange, Unit
from chassis.postgres import Connection
from chassis.postgres.rows import as_rows
from progress_service.domain.desyncs import Action, Desync, Direction, Key, LicenseLevel, ProgressLevel
from progress_service.domain.statistics import UserId
from progress_service.domain.sync_runs import change_for
from progress_service.store.history import epoch_of
from progress_service.store.learners import LOCK_LEARNER, VERSIONS
from progress_service.store.rebuilding import order_row

FOLLOW = "progress.follow_license"

_READ = f"""
    SELECT wanted.place, to_jsonb(known) AS progress, to_jsonb(totals) AS totals,
           {epoch_of("wanted.user_id", "wanted.specialization")} AS epoch,
           coalesce(catalog.version, 0) AS catalog_version,
           (SELECT coalesce(max(level), 0)
              FROM specialization_levels AS rung
             WHERE rung.specialization = wanted.specialization) AS max_level
      FROM json_to_recordset($1) AS wanted (place integer, user_id text, specialization text)
      LEFT JOIN specialization_progress AS known
             ON known.user_id = wanted.user_id AND known.specialization = wanted.specialization
      LEFT JOIN learner_statistics AS totals ON totals.user_id = wanted.user_id
      LEFT JOIN specializations AS catalog ON catalog.specialization = wanted.specialization
     ORDER BY wanted.place
"""


async def _plan(connection: Connection, findings: Sequence[Finding], _: Scope) -> Planned:
    """The lower side follows the higher one, as `BOTH_WAYS` of a sync; what would fall is left out."""
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    rows = await connection.fetch(
        _READ,
        as_rows([{"place": place, **dict(finding.row)} for place, finding in enumerate(findings)]),
    )
    following: list[Unit] = []
    granted: dict[str, list[tuple[Row | None, Row]]] = {}
    totals: dict[str, Row | None] = {}
    left_out: list[str] = []
    for finding, row in zip(findings, rows, strict=True):
        change = change_for(_desync(finding, row), Direction.BOTH_WAYS)
        progress = _json(row["progress"])
        if change.action is Action.NONE:
            left_out.append(f"{finding.user_id}: {finding.row['specialization']}: {change.reason}")
        elif change.action is Action.LICENSE_FOLLOWS:
            following.append(Unit([RowChange("outbox", finding.user_id, None, order_row(progress, now))]))
        elif change.license_epoch < row["epoch"]:
            left_out.append(
                f"{finding.user_id}: {finding.row['specialization']}: the license is from before a reset"
            )
        else:
            after = _granted(finding, row, change.progress_after, now)
            granted.setdefault(finding.user_id, []).append((progress, after))
            totals[finding.user_id] = _json(row["totals"])
    return Planned(
        [*following, *(_unit(user_id, totals[user_id], rows, now) for user_id, rows in granted.items())],
        left_out,
    )


def _unit(user_id: str, totals: Row | None, levels: Sequence[tuple[Row | None, Row]], now: datetime) -> Unit:
    """The learner's new version, their levels, and the orders that tell the highest level and the epoch."""
    known = totals or {"user_id": user_id, "version": 0}
    version = {"version": known["version"] + 1, "updated_at": now.isoformat()}
    return Unit(
        [
            RowChange("learner_statistics", user_id, totals, {**known, **version}),
            *(RowChange("specialization_progress", user_id, before, after) for before, after in levels),
            *(RowChange("outbox", user_id, None, order_row(after, now)) for _, after in levels),
        ]
    )


def _granted(finding: Finding, row: asyncpg.Record, level: int, now: datetime) -> Row:
    known = _json(row["progress"]) or {
        "user_id": finding.user_id,
        "specialization": finding.row["specialization"],
        "xp": 0,
        "level": 0,
        "epoch": row["epoch"],
        "version": 0,
    }
    return {
        **known,
        "level": level,
        "max_level": max(level, row["max_level"]),
        "granted_level": level,
        "catalog_version": row["catalog_version"],
        "version": known["version"] + 1,
        "updated_at": now.isoformat(),
    }


def _desync(finding: Finding, row: asyncpg.Record) -> Desync:
    """The disagreement that was found, with the progress as it is now."""
    key = Key(finding.row["specialization"], UserId(finding.user_id))
    progress = _json(row["progress"])
    evidence = finding.evidence
    return Desync(
        key,
        None
        if progress is None
        else ProgressLevel(
            user_id=key.user_id,
            specialization=key.specialization,
            level=progress["level"],
            max_level=progress["max_level"],
            epoch=progress["epoch"],
            age_seconds=0.0,
            under_way=False,
        ),
        None
        if "licenseEpoch" not in evidence
        else LicenseLevel(
            user_id=key.user_id,
            specialization=key.specialization,
            level=int(evidence["licenseLevel"]),
            epoch=int(evidence["licenseEpoch"]),
            age_seconds=0.0,
        ),
    )


FOLLOWING_REPAIRS = (
    Repair(
        repair_id=FOLLOW,
        meaning="The lower one of progress and license follows the higher one; nothing is lowered.",
        tables=("outbox", "learner_statistics", "specialization_progress"),
        plan=_plan,
        lock=LOCK_LEARNER,
        versions=VERSIONS,
    ),
)


def _json(value: str | None) -> Any:
    return None if value is None else orjson.loads(value)
