"""Define courses, and show them."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.batch import Item, latest_deadline
from chassis.errors import ServiceError
from chassis.postgres.errors import LockTimeout
from chassis.postgres.isolation import Locked, run_isolated
from progress_service.domain.courses import CourseDraft, Edition, no_such_course
from progress_service.store.courses import CourseStore


class CourseOperations:
    """What administrators do to courses, and what everyone may see of them."""

    def __init__(self, *, store: CourseStore) -> None:
        self._store = store

    async def put_courses(self, items: Sequence[Item[CourseDraft]]) -> list[Edition | ServiceError]:
        """Make each course what its draft says, one after the other, each in a transaction of its own.

        Refuses a draft with INVALID_ARGUMENT for ids that occur twice, a module of another course, or a
        bound. Only the drafts of a locked course wait for its lock.
        """
        done: dict[int, Edition | ServiceError] = {}

        async def attempt(places: Sequence[int], wait: bool) -> list[Edition | ServiceError | Locked]:
            outcomes: list[Edition | ServiceError | Locked] = []
            locked: set[str] = set()
            for place in places:
                item = items[place]
                if item.request.course_id not in locked and place not in done:
                    try:
                        done[place] = await self._store.put_course(
                            item.request, wait=wait, deadline=item.deadline
                        )
                    except ServiceError as refusal:
                        done[place] = refusal
                    except LockTimeout:
                        locked.add(item.request.course_id)
                outcomes.append(done.get(place, Locked.HELD_BY_ANOTHER))
            return outcomes

        return await run_isolated(
            range(len(items)), attempt, owner_of=lambda place: items[place].request.course_id
        )

    async def get_courses(self, items: Sequence[Item[str]]) -> list[Edition | ServiceError]:
        """Each course as it stands now."""
        wanted = {item.request for item in items}
        found = await self._store.get_courses(wanted, deadline=latest_deadline(items))
        return [found.get(item.request) or no_such_course(item.request) for item in items]
