"""Checks across two stores: each row of one store is looked up in the other, and looked at again.

Each list is walked in its own order, and the other store is asked for the keys of a step. So the memory does
not depend on the sizes of the stores, and the order does not depend on their collations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from chassis.diagnostics.checks import Check, Place, Scope, Step, reading
from chassis.diagnostics.findings import Finding
from chassis.postgres import Connection, Database
from session_service.domain.holds import HoldName, HoldPosition, HoldState, OpenHold
from session_service.domain.ids import HoldId
from session_service.domain.sessions import Session, SessionKey, spends_hold
from session_service.operations.session_walks import edition_of, session_evidence, session_row
from session_service.progress_client import (
    CountedResult,
    CountedValues,
    ProgressClient,
    result_event_id,
    result_of,
)
from session_service.store.checks_reads import (
    ALL_SESSIONS,
    LIVE_SESSIONS,
    Kept,
    LiveSession,
    Stretch,
    events_under_way,
    known_sessions,
    sessions_by_key,
)
from session_service.store.editions import EditionCache
from session_service.store.holds import HoldStore
from session_service.subscription_client import SubscriptionClient, resolving_event_ids

HOLDS_PER_PAGE_MAX = 1000


class OpenHoldWalk:
    """Open holds whose session has ended or never began, and that nothing is on its way to resolve.

    A hold is a finding if it is still open after our store was read: an ending session writes its event with
    its end, and the event is delivered before it leaves the outbox.
    """

    def __init__(self, database: Database, *, subscription: SubscriptionClient, method: str) -> None:
        self._database = database
        self._holds = HoldStore(database=database)
        self._subscription = subscription
        self._method = method

    async def step(
        self, check: Check, scope: Scope, after: Place | None, *, limit: int, deadline: float
    ) -> Step:
        """See `Walk`. The list of open holds is that of all learners, also for a run for one learner."""
        page = await self._subscription.list_open_holds(
            self._method,
            older_than_seconds=check.age.total_seconds(),
            page_size=min(limit, HOLDS_PER_PAGE_MAX),
            after=None if after is None else _hold_position(after),
        )
        wanted = [hold for hold in page.holds if scope.user_id in {"", hold.user_id}]
        left = await self._left_behind(wanted, deadline)
        if left:
            states = await self._subscription.find_holds([hold.name for hold in left], deadline=deadline)
            left = [hold for hold in left if states.get(hold.name) is HoldState.OPEN]
        # A start that was repeated under its old key may have got its session meanwhile.
        sessions = await self._sessions(left, deadline)
        found = [
            _open_hold(check, hold, sessions.get(hold.name))
            for hold in left
            if hold.name not in sessions or not sessions[hold.name].live
        ]
        reached = _place_of(page.holds[-1]) if page.more and page.holds else None
        return Step(found, len(page.holds), reached)

    async def _left_behind(self, holds: Sequence[OpenHold], deadline: float) -> list[OpenHold]:
        """The holds without a live session for which no event is in the outbox."""
        sessions = await self._sessions(holds, deadline)
        left = [hold for hold in holds if hold.name not in sessions or not sessions[hold.name].live]
        ids = {hold.name: resolving_event_ids(hold.name) for hold in left}
        wanted = [(hold.user_id, event_id) for hold, event_ids in ids.items() for event_id in event_ids]

        async def work(connection: Connection) -> set[tuple[str, UUID]]:
            return await events_under_way(connection, wanted)

        under_way = await self._database.read(work, deadline=deadline, name="check_outbox") if left else set()
        return [
            hold
            for hold in left
            if not any((hold.user_id, event_id) in under_way for event_id in ids[hold.name])
        ]

    async def _sessions(self, holds: Sequence[OpenHold], deadline: float) -> dict[HoldName, Session]:
        if not holds:
            return {}
        return await self._holds.sessions_of_holds([hold.name for hold in holds], deadline=deadline)


class UnpaidSessionWalk:
    """Live sessions whose hold is not open."""

    def __init__(self, database: Database, *, subscription: SubscriptionClient) -> None:
        self._database = database
        self._subscription = subscription

    async def step(
        self, check: Check, scope: Scope, after: Place | None, *, limit: int, deadline: float
    ) -> Step:
        """See `Walk`. A session that has ended meanwhile is no finding: its hold was resolved for that."""

        async def read(connection: Connection) -> Stretch[LiveSession]:
            async with reading(connection):
                return await LIVE_SESSIONS.fetch(connection, user_id=scope.user_id, after=after, limit=limit)

        live = await self._database.read(read, deadline=deadline, name="check_live_sessions")
        sessions = [each.session for each in live.rows if each.session.started_at < each.now - check.age]
        states: Mapping[HoldName, HoldState] = {}
        if sessions:
            states = await self._subscription.find_holds([each.hold for each in sessions], deadline=deadline)
        unpaid = [each for each in sessions if states.get(each.hold) is not HoldState.OPEN]

        async def look_again(connection: Connection) -> dict[SessionKey, Kept]:
            return await sessions_by_key(connection, [each.key for each in unpaid])

        now: Mapping[SessionKey, Kept] = {}
        if unpaid:
            now = await self._database.read(look_again, deadline=deadline, name="check_live_sessions")
        found = [
            _unpaid(check, each, states.get(each.hold))
            for each in unpaid
            if each.key in now and now[each.key].session.live
        ]
        return Step(found, len(live.rows), live.reached)


@dataclass(frozen=True, slots=True)
class _Sent:
    """A session whose result has left this service, and when it was read."""

    session: Session
    due: CountedValues


class ResultWalk:
    """Ended sessions whose result progress_service has not recorded, or has recorded with other values.

    A result leaves the outbox only after it was recorded. So one that is not in the outbox, in the same
    snapshot as its session, is found there afterwards.

    Args:
        missing: whether it looks for results that are not recorded, or for those with other values.
    """

    def __init__(
        self, database: Database, *, editions: EditionCache, progress: ProgressClient, missing: bool
    ) -> None:
        self._database = database
        self._editions = editions
        self._progress = progress
        self._missing = missing

    async def step(
        self, check: Check, scope: Scope, after: Place | None, *, limit: int, deadline: float
    ) -> Step:
        """See `Walk`."""

        async def read(connection: Connection) -> tuple[list[_Sent], int, Place | None]:
            async with reading(connection, one_snapshot=True):
                sessions = await ALL_SESSIONS.fetch(
                    connection, user_id=scope.user_id, after=after, limit=limit
                )
                now = await connection.fetchval("SELECT clock_timestamp()")
                sent = await self._sent(connection, sessions.rows, before=now - check.age)
            return sent, len(sessions.rows), sessions.reached

        sent, walked, reached = await self._database.read(read, deadline=deadline, name="check_results")
        recorded: Mapping[SessionKey, CountedResult] = {}
        if sent:
            keys = [each.session.key for each in sent]
            recorded = await self._progress.find_results(keys, deadline=deadline)
        found = [
            _uncounted(check, each, result)
            for each in sent
            if ((result := recorded.get(each.session.key)) is None) is self._missing
            and (result is None or result.values != each.due)
        ]
        return Step(found, walked, reached)

    async def _sent(
        self, connection: Connection, sessions: Sequence[Session], *, before: datetime
    ) -> list[_Sent]:
        """The sessions among these that have a result, and whose event is not in the outbox any more."""
        ended = [
            each
            for each in sessions
            if each.closed_at is not None and each.closed_at < before and spends_hold(each)
        ]
        if not ended:
            return []
        editions = await self._editions.get(connection, set(map(edition_of, ended)))
        waiting = await events_under_way(
            connection, [(each.user_id, result_event_id(each.session_id)) for each in ended]
        )
        return [
            _Sent(each, CountedValues.of(result_of(each, edition.definition)))
            for each in ended
            if (edition := editions.get(edition_of(each))) is not None
            and (each.user_id, result_event_id(each.session_id)) not in waiting
        ]


class LostSessionWalk:
    """Recorded results whose session does not exist: this store is older than the other one."""

    def __init__(self, database: Database, *, progress: ProgressClient) -> None:
        self._database = database
        self._progress = progress

    async def step(
        self, check: Check, scope: Scope, after: Place | None, *, limit: int, deadline: float
    ) -> Step:
        """See `Walk`. A session is committed before its result is sent, so it is looked for later."""
        page = await self._progress.list_results(
            user_id=scope.user_id,
            after=None if after is None else (after[0], after[1]),
            limit=limit,
            deadline=deadline,
        )
        keys = [each.key for each in page.results if each.key is not None]

        async def read(connection: Connection) -> set[SessionKey]:
            return await known_sessions(connection, keys)

        known = await self._database.read(read, deadline=deadline, name="check_results") if keys else set()
        found = [_lost(check, each) for each in page.results if each.key not in known]
        last = page.results[-1] if page.more and page.results else None
        return Step(found, len(page.results), None if last is None else (last.user_id, last.session_id))


def _open_hold(check: Check, hold: OpenHold, session: Session | None) -> Finding:
    if session is None:
        expected = "released: no session was made"
    else:
        expected = f"{'committed' if spends_hold(session) else 'released'}: its session is {session.state}"
    return Finding(
        check=check.check_id,
        severity=check.severity,
        user_id=hold.user_id,
        row={"user_id": hold.user_id, "hold_id": str(hold.hold_id)},
        observed="open",
        expected=expected,
        since=hold.placed_at,
        evidence={
            "method": hold.method,
            "key": hold.key,
            "sessionId": "" if session is None else str(session.session_id),
        },
    )


def _unpaid(check: Check, session: Session, state: HoldState | None) -> Finding:
    return Finding(
        check=check.check_id,
        severity=check.severity,
        user_id=session.user_id,
        row=session_row(session.key),
        observed="no hold" if state is None else f"a hold that is {state}",
        expected="an open hold",
        since=session.started_at,
        evidence={"holdId": str(session.hold_id), **session_evidence(session)},
    )


def _uncounted(check: Check, sent: _Sent, result: CountedResult | None) -> Finding:
    session = sent.session
    return Finding(
        check=check.check_id,
        severity=check.severity,
        user_id=session.user_id,
        row=session_row(session.key),
        observed="not recorded" if result is None else str(result.values),
        expected=str(sent.due),
        since=session.closed_at,
        evidence={
            "testId": session.test_id,
            "state": session.state,
            "reason": session.close_reason or "",
            "recordedAt": "" if result is None else result.recorded_at.isoformat(),
        },
    )


def _lost(check: Check, result: CountedResult) -> Finding:
    return Finding(
        check=check.check_id,
        severity=check.severity,
        user_id=result.user_id,
        row={"user_id": result.user_id, "session_id": result.session_id},
        observed="no such session",
        expected=f"a session with {result.values}",
        since=result.recorded_at,
    )


def _place_of(hold: OpenHold) -> Place:
    return hold.placed_at.astimezone(UTC).isoformat(), hold.user_id, str(hold.hold_id)


def _hold_position(place: Place) -> HoldPosition:
    placed_at, user_id, hold_id = place
    return HoldPosition(datetime.fromisoformat(placed_at), user_id, HoldId(UUID(hold_id)))
