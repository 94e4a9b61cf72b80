"""What the lessons of a course are to a learner, in the cache: one value for a learner and a course."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import orjson

from chassis.cache.values import CachedValue
from chassis.cache.versioned import NOTHING, Reading, Update, VersionedCache, Wanted
from progress_service.domain.access import Access, CourseAccess
from progress_service.domain.courses import CourseId, LessonName
from progress_service.domain.statistics import UserId
from progress_service.store.standings import Attendance

# The number names the form of the body: after a change of the form, no version reads the other one's values.
_PREFIX = "access:1"
_ACCESSES = {each.value: each for each in Access}


class CachedAccess(NamedTuple):
    """What the cache has for a learner and a course: something of use or None; and what stands there."""

    access: CourseAccess | None
    reading: Reading


class AccessCache:
    """No method raises: a cache that does not answer is as good as empty."""

    def __init__(self, *, cache: VersionedCache) -> None:
        self._cache = cache

    async def read(self, wanted: Mapping[Attendance, int]) -> dict[Attendance, CachedAccess]:
        """The values of these learners and courses, each of at least this version, from one MGET."""
        readings = await self._cache.read(
            [Wanted(_key(each), min_version) for each, min_version in wanted.items()]
        )
        return {each: _cached(each, reading) for each, reading in zip(wanted, readings, strict=True)}

    async def write(self, values: Sequence[CourseAccess], *, until: float) -> list[bool]:
        """Write this of enrolled learners and read it back; whether the cache has each, or a later one.

        The caller waits until this moment (of `time.monotonic()`) at most.
        """
        return await self._cache.write([_update(value) for value in values], until=until)

    async def digest(self, each: Attendance) -> str:
        """The digest of what the cache has for this learner and course; empty if it has nothing."""
        (reading,) = await self._cache.read([Wanted(_key(each))])
        return reading.digest

    async def remove(self, each: Attendance, *, digest: str) -> bool:
        """Remove the entry, if it is the one with this digest. Whether it was removed."""
        return await self._cache.remove(_key(each), digest=digest)

    def refresh_soon(self, values: Sequence[tuple[CourseAccess, Reading]]) -> None:
        """Write in the background what the database has answered after these readings.

        Only what is open to enrolled learners stays open, so only that is kept.
        """
        self._cache.write_soon([_update(value, after=reading) for value, reading in values if value.enrolled])


def _key(each: Attendance) -> str:
    return f"{_PREFIX}:{each.user_id}:{each.course_id}"  # the id of a course has no colon


def _update(access: CourseAccess, *, after: Reading = NOTHING) -> Update:
    body = orjson.dumps(
        [
            access.user_id,
            access.course_id,
            access.offered,
            [[*name, each] for name, each in access.lessons.items()],
        ]
    )
    key = _key(Attendance(access.user_id, access.course_id))
    return Update(key, CachedValue(access.version, access.read_at, body), after)


def _cached(each: Attendance, reading: Reading) -> CachedAccess:
    if reading.value is None or not reading.usable:
        return CachedAccess(None, reading)
    access = _decoded(each, reading.value)
    # A body that cannot be read is to be replaced like any other value that is wrong.
    return CachedAccess(access, reading if access is not None else Reading(stored=reading.stored))


def _decoded(each: Attendance, value: CachedValue) -> CourseAccess | None:
    """What the body says about this learner and course; None if it cannot be read."""
    try:
        user_id, course_id, offered, lessons = orjson.loads(value.body)
        if (user_id, course_id) != each:
            return None
        return CourseAccess(
            user_id=UserId(user_id),
            course_id=CourseId(course_id),
            version=value.version,
            read_at=value.read_at,
            enrolled=True,
            offered=offered,
            lessons={
                LessonName(module_id, lesson_id): _ACCESSES[number]
                for module_id, lesson_id, number in lessons
            },
        )
    except (ValueError, TypeError, KeyError):
        return None
