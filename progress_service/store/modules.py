"""Which course a module belongs to. That never changes, so it is kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection

from chassis.postgres import Connection, Database
from progress_service.domain.courses import CourseId

MODULES_KEPT_MAX = 100_000


class ModuleStore:
    """Raises what `Database` raises."""

    def __init__(self, *, database: Database, modules_max: int = MODULES_KEPT_MAX) -> None:
        self._database = database
        self._modules_max = modules_max
        self._courses: OrderedDict[str, CourseId] = OrderedDict()

    async def courses_of(self, module_ids: Collection[str], *, deadline: float) -> dict[str, CourseId]:
        """The courses of these modules; unknown modules are absent."""
        found = {each: self._courses[each] for each in module_ids if each in self._courses}
        missing = [each for each in set(module_ids) if each not in found]
        if not missing:
            return found

        async def work(connection: Connection) -> dict[str, CourseId]:
            rows = await connection.fetch(
                "SELECT module_id, course_id FROM modules WHERE module_id = ANY($1::text[])", missing
            )
            return {row["module_id"]: CourseId(row["course_id"]) for row in rows}

        read = await self._database.read(work, deadline=deadline, name="courses_of_modules")
        self._courses.update(read)
        while len(self._courses) > self._modules_max:
            self._courses.popitem(last=False)
        return found | read
