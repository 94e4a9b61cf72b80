"""Cached answers against the store, by sample, and the repair that drops those that are wrong."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NoReturn

from chassis.cache.clock import DatabaseClock
from chassis.diagnostics.checks import Check, Place, Scope, Step, reading
from chassis.diagnostics.findings import Finding, Severity
from chassis.diagnostics.repairs import Planned, Repair, RowChange, Unit
from chassis.postgres import Connection, Database, DataRefused, LockTimeout
from progress_service.domain.access import CourseAccess, access_of
from progress_service.store.access_cache import AccessCache, CachedAccess
from progress_service.store.editions import EditionCache
from progress_service.store.false_locks import list_enrollments
from progress_service.store.standings import Attendance, StandingReader

DROP_CACHED = "progress.drop_cached"
CACHED_ENTRIES = "cached_entries"
"""The name under which plans have entries of the cache."""
EACH_NTH = 20
"""Of so many enrollments the cache is asked about one; in a run for one learner about all."""
COURSE_SETTLED = timedelta(minutes=1)
"""A change of a course has been committed so long after the time that it carries."""
AGE_TOLERANCE_SECONDS = 1.0


class CacheWalk:
    """A walk through the enrollments, some of which are compared with the cache.

    An entry is first read from the cache, then from the store. The store's version only grows, so it is not
    lower then. An entry that is older than the store is legal within the staleness bound. An entry of the
    same version has the same body, unless the course was changed around the time of the entry.

    Args:
        clock: the one by which the cache tells ages.
        stale_seconds: how old an entry may be that is still served.
        each_nth: of so many enrollments one is compared, another one in each run.
    """

    def __init__(
        self,
        database: Database,
        cache: AccessCache,
        clock: DatabaseClock,
        *,
        stale_seconds: float,
        each_nth: int = EACH_NTH,
    ) -> None:
        self._database = database
        self._cache = cache
        self._clock = clock
        self._stale_seconds = stale_seconds
        self._each_nth = each_nth

    async def step(
        self, check: Check, scope: Scope, after: Place | None, *, limit: int, deadline: float
    ) -> Step:
        """See `Walk`."""

        async def read(connection: Connection) -> list[Attendance]:
            asked_at = time.monotonic()
            self._clock.learn(await connection.fetchval("SELECT clock_timestamp()"), asked_at=asked_at)
            return await list_enrollments(connection, scope, after, limit)

        listed = await self._database.read(read, deadline=deadline, name="check_step")
        first = random.randrange(self._each_nth)  # noqa: S311 - a sample is no secret
        chosen = listed if scope.user_id else listed[first :: self._each_nth]
        findings = [
            _finding(check, each, cached, problem)
            for each, (cached, problem) in (await self._wrong(chosen, deadline)).items()
        ]
        return Step(findings, len(listed), tuple(listed[-1]) if len(listed) == limit else None)

    async def _wrong(
        self, chosen: Sequence[Attendance], deadline: float
    ) -> dict[Attendance, tuple[CachedAccess, str]]:
        """The entries that are wrong at two looks, each with the problem."""
        first = await self._look(chosen, deadline)
        if not first:
            return {}
        second = await self._look(list(first), deadline)
        return {
            each: (cached, problem)
            for each, (cached, problem) in second.items()
            if cached.reading.digest == first[each][0].reading.digest
        }

    async def _look(
        self, chosen: Sequence[Attendance], deadline: float
    ) -> dict[Attendance, tuple[CachedAccess, str]]:
        asked_at = time.monotonic()
        found = await self._cache.read(dict.fromkeys(chosen, 0))
        kept = {each: cached for each, cached in found.items() if cached.reading.value is not None}
        if not kept:
            return {}
        stored, changed_at = await self._stored(list(kept), deadline)
        waited_seconds = time.monotonic() - asked_at
        return {
            each: (cached, problem)
            for each, cached in kept.items()
            if each in stored
            and (problem := self._problem(cached, stored[each], changed_at[each.course_id], waited_seconds))
        }

    async def _stored(
        self, wanted: Sequence[Attendance], deadline: float
    ) -> tuple[dict[Attendance, CourseAccess], dict[str, datetime]]:
        """What the store says about these, and when each course was changed."""

        async def read(connection: Connection) -> tuple[dict[Attendance, CourseAccess], dict[str, datetime]]:
            async with reading(connection, one_snapshot=True):
                reader = StandingReader(editions=EditionCache(), clock=DatabaseClock())
                attended = await reader.read(connection, wanted)
                rows = await connection.fetch(
                    "SELECT course_id, updated_at FROM courses WHERE course_id = ANY ($1::text[])",
                    list({each.course_id for each in wanted}),
                )
            return (
                {each: access_of(*found) for each, found in attended.items()},
                {row["course_id"]: row["updated_at"] for row in rows},
            )

        return await self._database.read(read, deadline=deadline, name="check_step")

    def _problem(
        self, cached: CachedAccess, stored: CourseAccess, changed_at: datetime, waited_seconds: float
    ) -> str:
        """What is wrong with an entry, or ''."""
        value = cached.reading.value
        assert value is not None  # noqa: S101 - the caller asks about entries that are there
        age_seconds = (stored.read_at - value.read_at).total_seconds() - waited_seconds
        outlived = age_seconds > self._stale_seconds + AGE_TOLERANCE_SECONDS
        if not cached.reading.usable:
            return ""  # nobody is served by it
        if outlived:
            return f"it is served at an age of {age_seconds:.1f} s"
        if value.version > stored.version:
            return "its version is later than that of the store"
        settled = changed_at < value.read_at - COURSE_SETTLED
        same = cached.access is not None and cached.access.same_as(stored)
        if value.version == stored.version and settled and not same:
            return "it differs from the store at the same version"
        return ""


class CachedEntries:
    """Entries of the cache as rows that a repair may remove. They have no lock: the removal compares."""

    def __init__(self, cache: AccessCache) -> None:
        self._cache = cache

    async def lock(self, _: Connection, before: Mapping[str, Any]) -> bool | None:
        """See `Rows`. An entry that cannot be read counts as gone: nobody is served by it either."""
        digest = await self._cache.digest(_attendance(before))
        return digest == before["digest"] if digest else None

    async def insert(self, _: Connection, after: Mapping[str, Any]) -> NoReturn:
        """See `Rows`. Raises DataRefused: what was wrong is not put back, and the cache fills itself."""
        raise DataRefused(f"the cached entry of {after['course_id']} is not put back: the cache fills itself")

    async def replace(
        self, _: Connection, before: Mapping[str, Any], after: Mapping[str, Any] | None
    ) -> dict[str, Any] | None:
        """See `Rows`. Raises LockTimeout, if the entry has changed since it was looked at."""
        if after is not None or not await self._cache.remove(_attendance(before), digest=before["digest"]):
            raise LockTimeout
        return None


async def _plan_drops(_: Connection, findings: Sequence[Finding], __: Scope) -> Planned:
    return Planned(
        [Unit([RowChange(CACHED_ENTRIES, finding.user_id, dict(finding.row), None)]) for finding in findings]
    )


CACHE_REPAIRS = (
    Repair(
        repair_id=DROP_CACHED,
        meaning="Drops the entry from the cache, if it is the one that was found; the store answers then.",
        tables=(CACHED_ENTRIES,),
        plan=_plan_drops,
    ),
)


def cache_checks(
    database: Database,
    cache: AccessCache,
    clock: DatabaseClock,
    *,
    stale_seconds: float,
    each_nth: int = EACH_NTH,
) -> list[Check]:
    """The check of the cache, see `CacheWalk`."""
    return [
        Check(
            check_id="progress.cached_answer",
            severity=Severity.HIGH,
            meaning="The learner is told from the cache what the store does not say.",
            repairs=(DROP_CACHED,),
            walk=CacheWalk(database, cache, clock, stale_seconds=stale_seconds, each_nth=each_nth),
        )
    ]


def _attendance(row: Mapping[str, Any]) -> Attendance:
    return Attendance(row["user_id"], row["course_id"])


def _finding(check: Check, each: Attendance, cached: CachedAccess, problem: str) -> Finding:
    value = cached.reading.value
    assert value is not None  # noqa: S101 - the finding is about it
    return Finding(
        check=check.check_id,
        severity=check.severity,
        observed=problem,
        expected="what the store says, and not older than the staleness bound",
        user_id=each.user_id,
        row={"user_id": each.user_id, "course_id": each.course_id, "digest": cached.reading.digest},
        since=value.read_at,
        evidence={"version": str(value.version), "readAt": value.read_at.isoformat()},
    )
