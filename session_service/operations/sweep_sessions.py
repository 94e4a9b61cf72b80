"""Background work on sessions: closes those whose deadline, idle time or lease has passed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from chassis.process.background import step_deadline
from chassis.telemetry.metrics import Metrics
from session_service.domain.sessions import Session, SessionKey
from session_service.domain.timing import TimeRules
from session_service.operations.session_changes import SessionChanges
from session_service.store.sessions import SessionStore, SweepPosition

SESSIONS_PER_PAGE = 200


class SessionSweep:
    """Closes sessions page by page; any number of replicas may do so.

    A session that is locked by another transaction is passed over, and found again by the next sweep.
    """

    def __init__(
        self,
        *,
        sessions: SessionStore,
        changes: SessionChanges,
        times: TimeRules,
        metrics: Metrics,
    ) -> None:
        self._sessions = sessions
        self._changes = changes
        self._times = times
        self._closed = metrics.counter(
            "sessions_swept", "Sessions that the sweeps have closed, by their reason.", ("reason",)
        )

    async def close_overdue(self) -> int:
        """Close the sessions whose deadline has passed; returns how many."""

        async def page(after: SweepPosition | None) -> list[SweepPosition]:
            return await self._sessions.list_overdue(after, SESSIONS_PER_PAGE, deadline=step_deadline())

        async def close(keys: list[SessionKey]) -> list[Session]:
            return await self._changes.close_overdue(keys, deadline=step_deadline())

        return await self._sweep("deadline", page, close)

    async def close_idle(self) -> int:
        """Close the sessions without a deadline in which nothing happens any more; returns how many."""

        async def page(after: SweepPosition | None) -> list[SweepPosition]:
            return await self._sessions.list_idle(
                self._times.idle_allowed, after, SESSIONS_PER_PAGE, deadline=step_deadline()
            )

        async def close(keys: list[SessionKey]) -> list[Session]:
            return await self._changes.close_idle(keys, deadline=step_deadline())

        return await self._sweep("idle", page, close)

    async def close_unused(self) -> int:
        """Close the sessions that nobody has answered, and whose page has gone; returns how many."""

        async def page(after: SweepPosition | None) -> list[SweepPosition]:
            return await self._sessions.list_leases(after, SESSIONS_PER_PAGE, deadline=step_deadline())

        async def close(keys: list[SessionKey]) -> list[Session]:
            return await self._changes.close_unused(keys, deadline=step_deadline())

        return await self._sweep("unused", page, close)

    async def _sweep(
        self,
        reason: str,
        page: Callable[[SweepPosition | None], Awaitable[list[SweepPosition]]],
        close: Callable[[list[SessionKey]], Awaitable[list[Session]]],
    ) -> int:
        closed = 0
        after: SweepPosition | None = None
        while found := await page(after):
            now_closed = len(await close([position.key for position in found]))
            self._closed.add(reason, amount=now_closed)
            closed += now_closed
            if len(found) < SESSIONS_PER_PAGE:
                break
            after = found[-1]
        return closed
