"""The checks of progress_service, and the repairs that mend what they find."""

from __future__ import annotations

from datetime import timedelta

from chassis.diagnostics.checks import Check
from chassis.diagnostics.constraints import constraint_check
from chassis.diagnostics.findings import Severity
from chassis.diagnostics.outbox import outbox_checks, outbox_repairs
from chassis.diagnostics.repairs import Repair
from chassis.postgres import Database
from progress_service.domain.desyncs import Kind
from progress_service.operations.comparison import StoreComparison
from progress_service.operations.license_steps import LicenseWalk
from progress_service.store.cache_entries import CACHE_REPAIRS
from progress_service.store.checks_achievements import ACHIEVEMENT_REPAIRS, achievements_checks
from progress_service.store.checks_courses import courses_checks
from progress_service.store.checks_levels import levels_checks
from progress_service.store.checks_totals import totals_checks
from progress_service.store.false_locks import lock_checks
from progress_service.store.following import FOLLOW, FOLLOWING_REPAIRS
from progress_service.store.rebuilding import REBUILDING_REPAIRS
from progress_service.store.repairs_courses import COURSE_REPAIRS
from progress_service.store.repairs_levels import LEVEL_REPAIRS

SERVICE = "progress"
LICENSE_AGE = timedelta(minutes=10)
"""A change reaches the other side within seconds. After a restart of either service it takes a minute."""

TABLES = (
    "learner_statistics",
    "session_results",
    "xp_entries",
    "activity_days",
    "enrollments",
    "lesson_completions",
    "watched_videos",
    "specialization_progress",
    "progress_resets",
    "learner_achievements",
    "sync_changes",
    "sync_runs",
    "courses",
    "modules",
    "lessons",
    "lesson_successions",
    "specializations",
    "specialization_levels",
    "achievement_rules",
)
"""The tables whose constraints are verified."""

REPAIRS: tuple[Repair, ...] = (
    *REBUILDING_REPAIRS,
    *LEVEL_REPAIRS,
    *FOLLOWING_REPAIRS,
    *COURSE_REPAIRS,
    *ACHIEVEMENT_REPAIRS,
    *CACHE_REPAIRS,
    *outbox_repairs(SERVICE),
)


def checks(database: Database, *, stores: StoreComparison) -> list[Check]:
    """The checks over this database, and over the licenses, but for that of the cache."""
    return [
        *totals_checks(database),
        *levels_checks(database),
        *courses_checks(database),
        *lock_checks(database),
        *achievements_checks(database),
        *_license_checks(stores),
        *outbox_checks(database, SERVICE),
        constraint_check(database, SERVICE, dict.fromkeys(TABLES, ())),
    ]


def _license_checks(stores: StoreComparison) -> list[Check]:
    meanings = {
        Kind.LEVEL_MISMATCH: "The learner's license has another level than the learner has reached.",
        Kind.PROGRESS_WITHOUT_LICENSE: "The learner has reached a level, and has no license for it.",
        Kind.LICENSE_WITHOUT_PROGRESS: "The learner has a license, and no level of their own.",
    }
    return [
        Check(
            check_id=f"{SERVICE}.{kind.value}",
            severity=Severity.HIGH,
            meaning=meaning,
            age=LICENSE_AGE,
            repairs=(FOLLOW,),
            advice="Where a level would have to fall, a person decides: only a reset lowers it.",
            walk=LicenseWalk(stores, kind),
        )
        for kind, meaning in meanings.items()
    ]
