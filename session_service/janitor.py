"""What nobody comes back for: orphaned holds, sessions whose time is over, keys too old to be retried."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from chassis.telemetry.logs import get_logger

from chassis.postgres.errors import DataRefused, LockTimeout
from chassis.errors import ServiceError
from chassis.postgres.idempotency import Claim
from chassis.telemetry.metrics import Metrics
from session_service.domain.holds import OpenHold
from session_service.domain.ids import HoldId
from session_service.domain.sessions import Session, spends_hold
from session_service.operations.session_changes import SessionChanges
from session_service.store.keys import KeyStore
from session_service.store.sessions import SessionStore
from session_service.subscription_client import SubscriptionClient

HOLDS_PER_PAGE = 500
SESSIONS_PER_SWEEP = 200
SWEEPS_MAX = 50
KEYS_PER_PURGE = 1000
PURGES_MAX = 50
STEP_SECONDS_MAX = 5.0
# Looking at holds may take this share of the janitor's time: live sessions keep theirs open for hours, and
# all of them are looked at in turn.
SHARE_OF_TIME_FOR_HOLDS = 0.1

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Resolution:
    """What became of some open holds: given back, or spent."""

    released: list[tuple[str, HoldId]]
    committed: list[tuple[str, HoldId]]


class Janitor:
    """Cleans up in rounds; any number of replicas may do so at once, and any of them may die at any point.

    A hold without a session is the trace of a start that ended between holding and committing. Its key is
    aborted first, and the hold is released only after that is committed: so a start that is merely slow
    either has its session already, or can never get one. Interrupted in between, the next round finds the
    aborted key and releases again.

    Args:
        start_method: the RPC whose holds these are.
        hold_age_seconds: holds younger than this are left to their starts.
        retention: keys older than this are forgotten.
    """

    def __init__(
        self,
        *,
        sessions: SessionStore,
        keys: KeyStore,
        changes: SessionChanges,
        subscription: SubscriptionClient,
        metrics: Metrics,
        start_method: str,
        interval_seconds: float,
        hold_age_seconds: float,
        retention: timedelta,
    ) -> None:
        self._sessions = sessions
        self._keys = keys
        self._changes = changes
        self._subscription = subscription
        self._start_method = start_method
        self._interval_seconds = interval_seconds
        self._hold_age_seconds = hold_age_seconds
        self._retention = retention
        self._page_token = ""
        self._stopping = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._done = metrics.counter("homeroom_janitor_resolved", "What the janitor put in order.", ("what",))

    def start(self) -> None:
        """Begin the rounds, in a task of the running event loop."""
        self._loop = asyncio.create_task(self._run(), name="janitor")

    async def stop(self) -> None:
        """Finish the step under way, and stop."""
        self._stopping.set()
        if self._loop is not None:
            await asyncio.wait({self._loop})

    async def expire_overdue(self) -> int:
        """Close the sessions whose deadline has passed; returns how many."""
        expired = 0
        for _ in range(SWEEPS_MAX):
            found = await self._sessions.list_overdue(SESSIONS_PER_SWEEP, deadline=_deadline())
            if not found:
                break
            closed = await self._changes.expire(found, deadline=_deadline())
            expired += len(closed)
            if len(closed) < SESSIONS_PER_SWEEP:  # that was all, but for those which somebody else has locked
                break
        self._done.add("sessions_expired", amount=expired)
        return expired

    async def resolve_holds(self) -> None:
        """Go on through the open holds from where the last round ended, for a share of the interval."""
        give_up_at = time.monotonic() + self._interval_seconds * SHARE_OF_TIME_FOR_HOLDS
        while True:
            page = await self._subscription.list_open_holds(
                self._start_method,
                older_than_seconds=self._hold_age_seconds,
                page_size=HOLDS_PER_PAGE,
                page_token=self._page_token,
            )
            self._page_token = page.next_page_token
            if page.holds:
                await self._carry_out(await self.resolve(page.holds))
            if not self._page_token or time.monotonic() >= give_up_at:
                return

    async def resolve(self, holds: Sequence[OpenHold]) -> Resolution:
        """Decide what becomes of old open holds, and make it certain: nobody can decide otherwise later.

        Holds of live sessions are in neither list.
        """
        sessions = await self._sessions_of(holds)
        orphans = [hold for hold in holds if _name(hold) not in sessions]
        aborted, undecided = await self._abort(orphans)
        orphans = [hold for hold in orphans if _claim(hold) not in undecided]
        # Their keys have an answer. A session may have been committed since we looked; if there is none
        # even now, then the answer was another start's session, and this hold can get none any more.
        answered = [hold for hold in orphans if _claim(hold) not in aborted]
        sessions |= await self._sessions_of(answered) if answered else {}
        released = [_name(hold) for hold in orphans if _name(hold) not in sessions]
        ended = [session for session in sessions.values() if not session.live]
        return Resolution(
            released=released
            + [(session.user_id, session.hold_id) for session in ended if not spends_hold(session)],
            committed=[(session.user_id, session.hold_id) for session in ended if spends_hold(session)],
        )

    async def purge_keys(self) -> int:
        """Forget keys that nobody retries any more; returns how many."""
        forgotten = 0
        for _ in range(PURGES_MAX):
            count = await self._keys.purge_keys(self._retention, KEYS_PER_PURGE, deadline=_deadline())
            forgotten += count
            if count < KEYS_PER_PURGE:
                break
        self._done.add("keys_forgotten", amount=forgotten)
        return forgotten

    async def _run(self) -> None:
        steps: Sequence[Callable[[], Awaitable[object]]] = (
            self.expire_overdue,
            self.resolve_holds,
            self.purge_keys,
        )
        while not self._stopping.is_set():
            for step in steps:
                try:
                    await step()
                except Exception as error:  # noqa: BLE001 — the next round tries again, whatever it was
                    log.warning("janitor_step_postponed", step=step.__name__, error=repr(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval_seconds * random.uniform(0.9, 1.1)):  # noqa: S311 — jitter
                    await self._stopping.wait()

    async def _carry_out(self, resolution: Resolution) -> None:
        if resolution.released:
            outcomes = await self._subscription.release_holds(resolution.released)
            self._count("holds_released", outcomes)
        if resolution.committed:
            outcomes = await self._subscription.commit_holds(resolution.committed)
            self._count("holds_committed", outcomes)

    def _count(self, what: str, outcomes: Sequence[ServiceError | None]) -> None:
        self._done.add(what, amount=outcomes.count(None))
        for refusal in filter(None, outcomes):
            log.warning("janitor_hold_not_resolved", what=what, reason=refusal.reason.name)

    async def _sessions_of(self, holds: Sequence[OpenHold]) -> dict[tuple[str, HoldId], Session]:
        return await self._sessions.sessions_of_holds([_name(hold) for hold in holds], deadline=_deadline())

    async def _abort(self, holds: Sequence[OpenHold]) -> tuple[set[Claim], set[Claim]]:
        """Abort the keys of these holds; returns those aborted now, and those nobody can tell of yet.

        The rest has an answer. Undecided is a key whose start is in the middle of its commit.
        """
        claims = [_claim(hold) for hold in holds]
        try:
            return await self._keys.abort_keys(claims, deadline=_deadline()), set()
        except (LockTimeout, DataRefused):
            aborted: set[Claim] = set()
            undecided: set[Claim] = set()
            for claim in claims:
                try:
                    aborted |= await self._keys.abort_keys([claim], deadline=_deadline())
                except (LockTimeout, DataRefused):
                    undecided.add(claim)
            return aborted, undecided


def _name(hold: OpenHold) -> tuple[str, HoldId]:
    return hold.user_id, hold.hold_id


def _claim(hold: OpenHold) -> Claim:
    return Claim(hold.user_id, hold.method, hold.key)


def _deadline() -> float:
    return time.monotonic() + STEP_SECONDS_MAX
