"""Rebuilding what is computed of a learner from the history: one plan unit for each learner.

The ledger, the results, the completions and the resets are the truth. Nothing here lowers a level, takes a
completion back, or changes what a reset has begun.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import uuid4

import asyncpg
import orjson

from chassis.diagnostics.checks import Scope
from chassis.diagnostics.findings import Finding
from chassis.diagnostics.repairs import Plan, Planned, Repair, Row, RowChange, Unit, outbox_row
from chassis.postgres import Connection
from chassis.postgres.outbox import OutboxEvent
from chassis.postgres.rows import as_rows
from progress_service.domain.license_orders import LICENSE_TOPIC, LicenseOrder
from progress_service.domain.statistics import UserId
from progress_service.store.history import days_of, enrollment_of, epoch_of, gained_by, totals_of
from progress_service.store.learners import LOCK_LEARNER, VERSIONS
from progress_service.store.ledger import LESSONS, RESULTS, Wanting, find_wanting

REBUILD = "progress.rebuild"
REMOVE_ORPHANS = "progress.remove_orphans"
LEARNERS_AT_ONCE = 100

_TOTALS = (
    "xp",
    "completed_sessions",
    "questions_answered",
    "answers",
    "correct",
    "enrolled",
    "completed_lessons",
    "epoch",
)
_READ_TOTALS = f"""
    SELECT learner.user_id, to_jsonb(known) AS before, history.*
      FROM unnest($1::text[]) AS learner (user_id)
      LEFT JOIN learner_statistics AS known ON known.user_id = learner.user_id
     {totals_of("learner.user_id")}
     ORDER BY learner.user_id
"""
_READ_DAYS = f"""
    SELECT learner.user_id, 'activity_days' AS table_name, differing.before, differing.after
      FROM unnest($1::text[]) AS learner (user_id)
     CROSS JOIN LATERAL (
           SELECT active.row AS before, coalesce(active.day, cause.day) AS day,
                  CASE WHEN cause.day IS NOT NULL
                       THEN jsonb_build_object('user_id', learner.user_id, 'day', cause.day) END AS after
             FROM (SELECT kept.day, to_jsonb(kept) AS row
                     FROM activity_days AS kept
                    WHERE kept.user_id = learner.user_id) AS active
             FULL JOIN ({days_of("learner.user_id")}) AS cause ON cause.day = active.day
            WHERE active.day IS NULL OR cause.day IS NULL
           ) AS differing
     ORDER BY learner.user_id, differing.day
"""
_READ_LEVELS = f"""
    SELECT learner.user_id, level.specialization, level.before, coalesce(level.xp, 0) AS xp,
           {epoch_of("learner.user_id", "level.specialization")} AS epoch,
           coalesce(catalog.version, 0) AS catalog_version,
           (SELECT coalesce(json_agg(json_build_array(rung.level, rung.xp_required)), '[]')::text
              FROM specialization_levels AS rung
             WHERE rung.specialization = level.specialization) AS ladder
      FROM unnest($1::text[]) AS learner (user_id)
     CROSS JOIN LATERAL (
           SELECT specialization, known.before, ledger.xp
             FROM (SELECT kept.specialization, to_jsonb(kept) AS before
                     FROM specialization_progress AS kept
                    WHERE kept.user_id = learner.user_id) AS known
             FULL JOIN ({gained_by("learner.user_id")}) AS ledger USING (specialization)
             FULL JOIN (SELECT entered.specialization
                          FROM json_to_recordset($2) AS entered (user_id text, specialization text)
                         WHERE entered.user_id = learner.user_id) AS entered USING (specialization)
           ) AS level
      LEFT JOIN specializations AS catalog ON catalog.specialization = level.specialization
     ORDER BY learner.user_id, level.specialization
"""
_READ_ENROLLMENTS = f"""
    SELECT kept.user_id, 'enrollments' AS table_name, to_jsonb(kept) AS before,
           to_jsonb(kept) || jsonb_build_object(
               'completed_lessons', done.lessons,
               'completed_at', CASE WHEN done.lessons = 0 THEN NULL
                                    WHEN done.finished THEN coalesce(kept.completed_at, done.last_at)
                                    ELSE kept.completed_at END) AS after
      FROM enrollments AS kept
      JOIN courses AS course ON course.course_id = kept.course_id
     {enrollment_of("kept")}
     WHERE kept.user_id = ANY ($1::text[])
    UNION ALL
    SELECT missing.user_id, 'enrollments', NULL,
           jsonb_build_object(
               'user_id', missing.user_id, 'course_id', missing.course_id, 'epoch', missing.epoch,
               'since_revision', missing.since_revision, 'completed_lessons', done.lessons,
               'enrolled_at', missing.enrolled_at,
               'completed_at', CASE WHEN done.finished THEN done.last_at END)
      FROM (SELECT DISTINCT ON (user_id, course_id)
                   user_id, course_id, epoch, min(revision) AS since_revision,
                   min(completed_at) AS enrolled_at
              FROM lesson_completions AS completion
             WHERE user_id = ANY ($1::text[])
               AND NOT EXISTS (SELECT
                                 FROM enrollments AS enrollment
                                WHERE enrollment.user_id = completion.user_id
                                  AND enrollment.course_id = completion.course_id)
             GROUP BY user_id, course_id, epoch
             ORDER BY user_id, course_id, epoch DESC) AS missing
      JOIN courses AS course ON course.course_id = missing.course_id
     {enrollment_of("missing")}
     WHERE done.lessons > 0
"""
_READ_ORPHANS = """
    SELECT kept.user_id, 'lesson_completions' AS table_name, to_jsonb(kept) AS before, NULL::jsonb AS after
      FROM lesson_completions AS kept
     WHERE kept.user_id = ANY ($1::text[])
       AND NOT EXISTS (SELECT
                         FROM lessons AS lesson
                        WHERE lesson.module_id = kept.module_id AND lesson.lesson_id = kept.lesson_id
                          AND lesson.course_id = kept.course_id)
    UNION ALL
    SELECT kept.user_id, 'watched_videos', to_jsonb(kept), NULL
      FROM watched_videos AS kept
     WHERE kept.user_id = ANY ($1::text[])
       AND NOT EXISTS (SELECT
                         FROM lessons AS lesson
                        WHERE lesson.module_id = kept.module_id AND lesson.lesson_id = kept.lesson_id
                          AND lesson.course_id = kept.course_id)
    UNION ALL
    SELECT kept.user_id, 'enrollments', to_jsonb(kept), NULL
      FROM enrollments AS kept
     WHERE kept.user_id = ANY ($1::text[])
       AND NOT EXISTS (SELECT FROM courses AS course WHERE course.course_id = kept.course_id)
"""
_READ_ACHIEVEMENTS = """
    SELECT learner.user_id, rule.achievement, rule.measure, rule.threshold
      FROM unnest($1::text[]) AS learner (user_id)
     CROSS JOIN achievement_rules AS rule
     WHERE NOT EXISTS (SELECT
                         FROM learner_achievements AS known
                        WHERE known.user_id = learner.user_id AND known.achievement = rule.achievement)
     ORDER BY learner.user_id, rule.achievement
"""


@dataclass
class Rebuilt:
    """What a learner's rows must become."""

    user_id: UserId
    totals: RowChange | None = None
    rows: list[RowChange] = field(default_factory=list)
    levels: list[Row] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    xp_entered: int = 0
    gained: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, table: str, before: Row | None, after: Row | None) -> None:
        """Add a row, unless it stays as it is."""
        if before != after:
            self.rows.append(RowChange(table, self.user_id, before, after))


def _planning(*, orphans: bool) -> Plan:
    async def plan(connection: Connection, findings: Sequence[Finding], _: Scope) -> Planned:
        learners = sorted({finding.user_id for finding in findings if finding.user_id})
        units: list[Unit] = []
        left_out: list[str] = []
        for first in range(0, len(learners), LEARNERS_AT_ONCE):
            some = learners[first : first + LEARNERS_AT_ONCE]
            for rebuilt in await _rebuild(connection, some, orphans=orphans):
                left_out += rebuilt.left_out
                # The row of totals comes first: it is the lock on everything of the learner.
                if rebuilt.totals is not None:
                    units.append(Unit([rebuilt.totals, *rebuilt.rows]))
        return Planned(units, left_out)

    return plan


REBUILDING_REPAIRS = (
    Repair(
        repair_id=REBUILD,
        meaning="Computes statistics, XP, levels, active days and enrollments again, from the history.",
        tables=(
            "learner_statistics",
            "xp_entries",
            "activity_days",
            "specialization_progress",
            "enrollments",
            "learner_achievements",
            "outbox",
        ),
        plan=_planning(orphans=False),
        lock=LOCK_LEARNER,
        versions=VERSIONS,
    ),
    Repair(
        repair_id=REMOVE_ORPHANS,
        meaning="Removes what belongs to no lesson or course, and rebuilds the rest. The journal keeps it.",
        tables=(
            "learner_statistics",
            "xp_entries",
            "activity_days",
            "specialization_progress",
            "enrollments",
            "learner_achievements",
            "outbox",
            "lesson_completions",
            "watched_videos",
        ),
        plan=_planning(orphans=True),
        lock=LOCK_LEARNER,
        versions=VERSIONS,
    ),
)


async def _rebuild(connection: Connection, user_ids: Sequence[str], *, orphans: bool) -> list[Rebuilt]:
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    learners = {user_id: Rebuilt(UserId(user_id)) for user_id in user_ids}
    await _enter(connection, learners, now)
    for statement in (_READ_DAYS, _READ_ENROLLMENTS, *([_READ_ORPHANS] if orphans else [])):
        for row in await connection.fetch(statement, user_ids):
            learners[row["user_id"]].add(row["table_name"], _json(row["before"]), _json(row["after"]))
    entered = [
        {"user_id": learner.user_id, "specialization": name}
        for learner in learners.values()
        for name in learner.gained
    ]
    for row in await connection.fetch(_READ_LEVELS, user_ids, as_rows(entered)):
        _decide(learners[row["user_id"]], row, now)
    totals = await connection.fetch(_READ_TOTALS, user_ids)
    rules = await connection.fetch(_READ_ACHIEVEMENTS, user_ids)
    for row in totals:
        learner = learners[row["user_id"]]
        counted = {name: row[name] for name in _TOTALS} | {"xp": row["xp"] + learner.xp_entered}
        before = _json(row["before"])
        if before is None or learner.rows or any(before[name] != counted[name] for name in _TOTALS):
            _award(learner, [rule for rule in rules if rule["user_id"] == learner.user_id], counted, now)
            _count(learner, before, counted, row["operations"], now)
    return list(learners.values())


async def _enter(connection: Connection, learners: Mapping[str, Rebuilt], now: datetime) -> None:
    """Enter into the ledger what results and lessons have given, and what it does not have."""
    for causes in (RESULTS, LESSONS):
        dues = causes.dues(await connection.fetch(causes.of_learners(), list(learners)))
        for wanting in await find_wanting(connection, dues):
            learner = learners[wanting.due.user_id]
            learner.add("xp_entries", wanting.before, _entry(wanting, now))
            learner.xp_entered += wanting.gained
            if wanting.counts:
                learner.gained[wanting.specialization] += wanting.gained


def _entry(wanting: Wanting, now: datetime) -> Row:
    if wanting.before is not None:
        return {**wanting.before, "amount": wanting.due.amount}
    return {
        "user_id": wanting.due.user_id,
        "operation_id": str(wanting.due.operation_id),
        "amount": wanting.due.amount,
        "specialization": wanting.due.specialization,
        "earned_at": wanting.due.earned_at.isoformat(),
        "recorded_at": now.isoformat(),
        "epoch": wanting.epoch,
    }


def _decide(learner: Rebuilt, row: asyncpg.Record, now: datetime) -> None:
    """The level by the XP of the ledger and the catalog as it is; it never falls."""
    name, before = row["specialization"], _json(row["before"])
    if before is not None and before["epoch"] != row["epoch"]:
        learner.levels.append(before)
        learner.left_out.append(
            f"{learner.user_id}: {name} has not begun again with the last reset; order the reset again"
        )
        return
    xp = row["xp"] + learner.gained.get(name, 0)
    ladder = orjson.loads(row["ladder"])
    known = before or {
        "user_id": learner.user_id,
        "specialization": name,
        "xp": 0,
        "level": 0,
        "max_level": 0,
        "granted_level": 0,
        "epoch": row["epoch"],
        "version": 0,
    }
    level = max(known["level"], *(rung for rung, required in ladder if required <= xp), 0)
    top = max((rung for rung, _ in ladder), default=known["max_level"])
    decided = {
        "xp": xp,
        "level": level,
        "max_level": max(level, top),
        "catalog_version": row["catalog_version"],
    }
    if before is not None and all(before[column] == value for column, value in decided.items()):
        learner.levels.append(before)
        return
    after = {**known, **decided, "version": known["version"] + 1, "updated_at": now.isoformat()}
    learner.levels.append(after)
    learner.add("specialization_progress", before, after)
    if level > known["level"] or (level and after["max_level"] > known["max_level"]):
        learner.add("outbox", None, order_row(after, now))


def order_row(progress: Row, now: datetime) -> Row:
    """The row of the outbox that tells the license a level of the progress.

    Its id is new: the same level may have been told before, to a license that has lost it.
    """
    order = LicenseOrder(
        user_id=UserId(progress["user_id"]),
        specialization=progress["specialization"],
        epoch=progress["epoch"],
        level=progress["level"],
        max_level=progress["max_level"],
        reason="repaired",
    )
    return outbox_row(OutboxEvent(order.user_id, uuid4(), LICENSE_TOPIC, order.payload()), now=now)


def _award(
    learner: Rebuilt, rules: Sequence[asyncpg.Record], counted: Mapping[str, Any], now: datetime
) -> None:
    """Award what the rebuilt totals and levels bring. A streak is awarded with the next active day."""
    measures = {
        "completed_lessons": counted["completed_lessons"],
        "completed_sessions": counted["completed_sessions"],
        "level": max((row["level"] for row in learner.levels), default=0),
        "top_levels": sum(row["level"] == row["max_level"] and row["level"] > 1 for row in learner.levels),
    }
    for rule in rules:
        if measures.get(rule["measure"], 0) >= rule["threshold"]:
            learner.add(
                "learner_achievements",
                None,
                {
                    "user_id": learner.user_id,
                    "achievement": rule["achievement"],
                    "earned_at": now.isoformat(),
                },
            )


def _count(
    learner: Rebuilt, before: Row | None, counted: Mapping[str, Any], operations: int, now: datetime
) -> None:
    """The row of totals, with a new version."""
    version = max(0 if before is None else before["version"], operations) + 1
    after = {
        **(before or {"user_id": learner.user_id}),
        **counted,
        "version": version,
        "updated_at": now.isoformat(),
    }
    learner.totals = RowChange("learner_statistics", learner.user_id, before, after)


def _json(value: str | None) -> Any:
    return None if value is None else orjson.loads(value)
