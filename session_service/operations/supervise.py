"""What instructors and administrators see and do; and who may see what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from chassis.batch import Item, Outcome
from chassis.postgres.idempotency import CompletedCall
from chassis.postgres.keyed import completed_call
from chassis.rpc.paging import Page
from session_service.domain.authors import Author
from session_service.domain.missing import no_such_session, no_such_test
from session_service.domain.moves import close_for_administrator
from session_service.domain.results import LearnerResult
from session_service.domain.sessions import AdministratorClose, Session, content_name
from session_service.domain.timeline import TimelineEntry, TimelineRequest
from session_service.operations.drafts import Draft
from session_service.operations.session_changes import SessionChanges
from session_service.store.results import ResultStore
from session_service.store.timelines import TimelineStore

SUPERVISORS = frozenset({"instructor", "admin"})


class Supervision:
    """What supervisors do; and what learners see, as far as it concerns themselves."""

    def __init__(self, *, timelines: TimelineStore, results: ResultStore, changes: SessionChanges) -> None:
        self._timelines = timelines
        self._results = results
        self._changes = changes

    async def list_timeline(self, item: Item[TimelineRequest], page: Page) -> Sequence[TimelineEntry]:
        """The timeline of a session.

        Raises ServiceError with NOT_FOUND, also for the session of somebody else.
        """
        if item.request.user_id != item.user_id and item.context.roles.isdisjoint(SUPERVISORS):
            raise no_such_session()
        entries = await self._timelines.list_entries(item, page)
        if not entries and page.after is None:  # a session that exists has at least its start
            raise no_such_session()
        return entries

    async def list_results(self, item: Item[str], page: Page) -> Sequence[LearnerResult]:
        """The results of a test; raises ServiceError with NOT_FOUND if there is no such test."""
        results = await self._results.list_results(item, page)
        if results is None:
            raise no_such_test(item.request)
        return results

    async def close_sessions(
        self, items: Sequence[Item[AdministratorClose]], render: Callable[[Session], bytes]
    ) -> list[Outcome]:
        """End each session for somebody else than its learner; the timeline keeps who, and why."""

        def decide(draft: Draft, item: Item[AdministratorClose], now: datetime) -> CompletedCall:
            closed = close_for_administrator(draft.session, draft.edition.definition, now=now)
            completed = completed_call(item, render(closed), content=content_name(closed))
            draft.move(closed, item.context.traceparent)
            draft.tell(Author.of(item.context), now, item.request.reason)
            return completed

        return await self._changes.apply(items, decide)
