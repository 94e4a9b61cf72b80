"""What learners have watched: one multirange for each video, which only grows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from chassis.batch import Item, latest_deadline
from chassis.errors import ServiceError
from chassis.postgres import Connection, Database
from chassis.postgres.isolation import Locked
from chassis.postgres.rows import as_rows
from progress_service.domain.access import access_of
from progress_service.domain.courses import CourseId, no_such_course
from progress_service.domain.statistics import UserId
from progress_service.domain.watching import Range, Viewing, Watched, WatchRequest
from progress_service.store.learners import LearnerRows, lock_learners
from progress_service.store.standings import Attendance, StandingReader


class Video(NamedTuple):
    """The video of a lesson, as one learner watches it in an epoch."""

    user_id: UserId
    course_id: CourseId
    epoch: int
    module_id: str
    lesson_id: str


_READ_WATCHED = """
    SELECT video.user_id, video.course_id, video.epoch, video.module_id, video.lesson_id,
           lower(part) AS from_ms, upper(part) AS to_ms
      FROM json_to_recordset($1)
           AS wanted (user_id text, course_id text, epoch integer, module_id text, lesson_id text)
     CROSS JOIN LATERAL (SELECT user_id, course_id, epoch, module_id, lesson_id, ranges
                           FROM watched_videos
                          WHERE user_id = wanted.user_id AND course_id = wanted.course_id
                            AND epoch = wanted.epoch AND module_id = wanted.module_id
                            AND lesson_id = wanted.lesson_id
                          LIMIT 1) AS video
     CROSS JOIN LATERAL unnest(video.ranges) AS part
     ORDER BY lower(part)
"""

# The union once more, so that not even a mistake of ours could take something away.
_WRITE_WATCHED = """
    INSERT INTO watched_videos (user_id, course_id, epoch, module_id, lesson_id, ranges)
    SELECT user_id, course_id, epoch, module_id, lesson_id, parts::int4multirange
      FROM json_to_recordset($1)
           AS video (user_id text, course_id text, epoch integer, module_id text, lesson_id text, parts text)
        ON CONFLICT ON CONSTRAINT watched_videos_once DO UPDATE
           SET ranges = watched_videos.ranges + excluded.ranges, updated_at = clock_timestamp()
"""

_RAISE_VERSIONS = """
    UPDATE learner_statistics
       SET version = version + 1, updated_at = clock_timestamp()
     WHERE user_id = ANY($1::text[])
    RETURNING user_id, version
"""


async def read_watched(connection: Connection, videos: Collection[Video]) -> Mapping[Video, Sequence[Range]]:
    """What was watched of each of these videos; videos of which nothing was watched are absent."""
    found: dict[Video, list[Range]] = {}
    if videos:
        rows = await connection.fetch(_READ_WATCHED, as_rows([each._asdict() for each in videos]))
        for *video, from_ms, to_ms in rows:
            found.setdefault(Video(*video), []).append(Range(from_ms, to_ms))
    return found


class WatchingStore:
    """Raises what `Database` raises."""

    def __init__(self, *, database: Database, standings: StandingReader) -> None:
        self._database = database
        self._learners = LearnerRows(database)
        self._standings = standings

    async def ensure_learners(
        self, user_ids: Collection[UserId], *, certainly: bool, deadline: float
    ) -> None:
        """Give each learner a row of totals, as `LearnerRows` does; `put_watched` needs it."""
        await self._learners.ensure(user_ids, certainly=certainly, deadline=deadline)

    async def put_watched(
        self, items: Sequence[Item[WatchRequest]], wait: bool
    ) -> list[Watched | ServiceError | Locked]:
        """Add these ranges to what was watched, in one transaction.

        Without `wait`, the requests of a learner whom another transaction holds are passed over.
        """
        requests = [item.request for item in items]

        async def work(connection: Connection) -> list[Watched | ServiceError | Locked]:
            locked = await lock_learners(connection, [each.user_id for each in requests], wait=wait)
            ours = [each for each in requests if each.user_id in locked]
            decided = iter(await self._watch(connection, ours))
            return [next(decided) if each.user_id in locked else Locked.HELD_BY_ANOTHER for each in requests]

        return await self._database.write(work, deadline=latest_deadline(items), name="put_watched")

    async def _watch(
        self, connection: Connection, requests: Sequence[WatchRequest]
    ) -> list[Watched | ServiceError]:
        attended = await self._standings.read(connection, set(map(_attendance, requests)))
        videos = {
            each: Video(*_attendance(each), found.standing.epoch, *each.name)
            for each in requests
            if (found := attended.get(_attendance(each))) is not None
        }
        before = await read_watched(connection, set(videos.values()))
        viewings = {
            video: Viewing(found.edition, access_of(*found), list(before.get(video, ())))
            for each, video in videos.items()
            for found in (attended[_attendance(each)],)
        }
        refusals = [
            viewings[videos[each]].watch(each) if each in videos else no_such_course(each.course_id)
            for each in requests
        ]
        versions = await _write(connection, viewings)
        return [
            refusal or viewings[videos[each]].watched(each.name, version=versions[each.user_id])
            for each, refusal in zip(requests, refusals, strict=True)
        ]


def _attendance(request: WatchRequest) -> Attendance:
    return Attendance(request.user_id, request.course_id)


async def _write(connection: Connection, viewings: Mapping[Video, Viewing]) -> dict[UserId, int]:
    """Write what has changed; the versions of all these learners after it."""
    versions = {video.user_id: viewing.access.version for video, viewing in viewings.items()}
    changed = [(video, viewing.ranges) for video, viewing in viewings.items() if viewing.changed]
    if changed:
        rows = [video._asdict() | {"parts": _multirange(ranges)} for video, ranges in sorted(changed)]
        await connection.execute(_WRITE_WATCHED, as_rows(rows))
        raised = await connection.fetch(_RAISE_VERSIONS, list({video.user_id for video, _ in changed}))
        versions |= {UserId(row["user_id"]): row["version"] for row in raised}
    return versions


def _multirange(ranges: Iterable[Range]) -> str:
    return "{" + ",".join(f"[{each.from_ms},{each.to_ms})" for each in ranges) + "}"
