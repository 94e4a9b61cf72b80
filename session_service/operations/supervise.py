"""What instructors and administrators see and do; and who may see what."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.batch import Item
from chassis.errors import Reason, ServiceError
from chassis.rpc.paging import Page
from session_service.domain.timeline import TimelineEntry, TimelineRequest
from session_service.store.timelines import TimelineStore

SUPERVISORS = frozenset({"instructor", "admin"})


class Supervision:
    """Reads on behalf of supervisors, and of learners as far as it concerns themselves."""

    def __init__(self, *, timelines: TimelineStore) -> None:
        self._timelines = timelines

    async def list_timeline(self, item: Item[TimelineRequest], page: Page) -> Sequence[TimelineEntry]:
        """The timeline of a session.

        Raises ServiceError with NOT_FOUND, also for the session of somebody else.
        """
        if item.request.user_id != item.user_id and item.context.roles.isdisjoint(SUPERVISORS):
            raise _not_found()
        entries = await self._timelines.list_entries(item, page)
        if not entries and page.after is None:  # a session that exists has at least its start
            raise _not_found()
        return entries


def _not_found() -> ServiceError:
    return ServiceError(Reason.NOT_FOUND, "There is no such session")
