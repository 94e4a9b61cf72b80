"""Isolation inside a batch: a bad or a locked request must not affect the other requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Generic, NamedTuple, TypeVar

from chassis.batch import Item
from chassis.errors import Reason, ServiceError
from chassis.postgres.errors import DataRefused, LockTimeout, OutcomeUnknown
from chassis.postgres.refusals import ABOUT_ALL, NO_MEANINGS, Meanings, busy, refusal_of
from chassis.telemetry.logs import bind_request, get_logger, unbind_request

# Each owner whose lock another transaction holds gets a transaction of its own, which waits for the lock.
# Only a few wait at once, and none begins to wait after this limit, so that they cannot use up the pool.
WAITING_OWNERS_MAX = 4
WAITING_SECONDS_MAX = 1.0

log = get_logger(__name__)

Req = TypeVar("Req")
Res = TypeVar("Res")


class Locked(Enum):
    """Stands for an outcome: the request was not decided, because a lock that it needs is taken."""

    HELD_BY_ANOTHER = "held by another"
    """Another transaction holds the lock of this request's owner."""
    HOLDER_UNKNOWN = "holder unknown"
    """The batch had a lock timeout. PostgreSQL does not say for which request, so this one may be free."""


# Runs requests in one transaction, in their order. The flag says whether to wait for locks, or to skip the
# requests whose owners are locked. It may raise the errors of `Database.write`, and ServiceError. A reason in
# ABOUT_ALL counts for all requests; any other reason counts for the one request that caused it.
Attempt = Callable[[Sequence[Req], bool], Awaitable[Sequence[Res | ServiceError | Locked]]]


async def run_isolated(
    requests: Sequence[Req],
    attempt: Attempt[Req, Res],
    *,
    owner_of: Callable[[Req], Hashable],
    meanings: Meanings = NO_MEANINGS,
) -> list[Res | ServiceError]:
    """Answer each request. The requests of one owner run in the order of arrival.

    First all requests run in one transaction, which skips locked owners. Then each locked owner gets a
    transaction of its own: a few at once, and for a limited time. After that, their requests are refused as
    UNAVAILABLE. Requests that only shared a transaction with a locked owner are still tried, even after the
    limit.

    A transaction that fails because of its data, or with an unexpected exception, is bisected until the
    request that causes it is alone. Only that request is refused: as `meanings` and the refusal table say, or
    as INTERNAL. So an attempt must be repeatable: it must find the effects of an earlier attempt. An attempt
    with an unknown outcome is repeated once, then refused as UNAVAILABLE.

    No content of a request makes this function raise, even after other requests have committed.
    """
    run = _Run(attempt, meanings)
    outcomes: list[Res | ServiceError | Locked] = [Locked.HELD_BY_ANOTHER] * len(requests)
    owned: list[_Owned[Req]] = []
    for place, request in enumerate(requests):
        try:
            owned.append(_Owned(place, owner_of(request), request))
        except Exception:
            outcomes[place] = ServiceError(Reason.INTERNAL)
            with _logging_for(request):
                log.exception("request_failed")
    locked: dict[Hashable, list[_Owned[Req]]] = {}
    for each, outcome in zip(owned, await run.bisecting(owned, wait=False), strict=True):
        outcomes[each.place] = outcome
        if isinstance(outcome, Locked):
            locked.setdefault(each.owner, []).append(each)
    if locked:
        give_up_at = time.monotonic() + WAITING_SECONDS_MAX
        turns = asyncio.Semaphore(WAITING_OWNERS_MAX)

        async def wait_for(theirs: Sequence[_Owned[Req]]) -> None:
            async with turns:
                known_as_locked = any(outcomes[each.place] is Locked.HELD_BY_ANOTHER for each in theirs)
                if known_as_locked and time.monotonic() >= give_up_at:
                    return
                waited = await run.bisecting(theirs, wait=True)
            for each, outcome in zip(theirs, waited, strict=True):
                outcomes[each.place] = outcome

        async with asyncio.TaskGroup() as owners:
            for theirs in locked.values():
                owners.create_task(wait_for(theirs))
    return [
        busy("Another change is taking too long") if isinstance(outcome, Locked) else outcome
        for outcome in outcomes
    ]


class _Owned(NamedTuple, Generic[Req]):
    """A request, its place in the batch, and whose it is."""

    place: int
    owner: Hashable
    request: Req


@dataclass(frozen=True, slots=True)
class _Run(Generic[Req, Res]):
    """The attempts of one batch."""

    attempt: Attempt[Req, Res]
    meanings: Meanings

    async def bisecting(  # noqa: PLR0911 - one return per kind of failure is the table it looks like
        self, owned: Sequence[_Owned[Req]], *, wait: bool
    ) -> list[Res | ServiceError | Locked]:
        """The outcome of each request. Raises only a cancellation."""
        if not owned:
            return []
        try:
            return await self._until_known(owned, wait=wait)
        except ServiceError as error:
            if len(owned) == 1 or error.reason in ABOUT_ALL:
                return [error] * len(owned)
        except LockTimeout:
            # This also happens without `wait`, if another transaction has inserted a key and not committed
            # yet. There is no bisecting: each half would wait for that lock again.
            return [Locked.HOLDER_UNKNOWN] * len(owned)
        except DataRefused as error:
            if len(owned) == 1:
                with _logging_for(owned[0].request):
                    return [refusal_of(error, self.meanings)]
        except Exception:
            if len(owned) == 1:
                with _logging_for(owned[0].request):
                    log.exception("request_failed")
                return [ServiceError(Reason.INTERNAL)]
        return await self._halves(owned, wait=wait)

    async def _halves(self, owned: Sequence[_Owned[Req]], *, wait: bool) -> list[Res | ServiceError | Locked]:
        middle = len(owned) // 2
        first, second = owned[:middle], owned[middle:]
        outcomes = await self.bisecting(first, wait=wait)
        locked = {
            each.owner for each, outcome in zip(first, outcomes, strict=True) if isinstance(outcome, Locked)
        }
        # A locked owner may be free by now, but its later requests must not run before its earlier ones.
        in_turn = [each for each in second if each.owner not in locked]
        followed = iter(await self.bisecting(in_turn, wait=wait))
        return outcomes + [
            Locked.HELD_BY_ANOTHER if each.owner in locked else next(followed) for each in second
        ]

    async def _until_known(
        self, owned: Sequence[_Owned[Req]], *, wait: bool
    ) -> list[Res | ServiceError | Locked]:
        try:
            return await self._attempt(owned, wait=wait)
        except OutcomeUnknown:
            log.warning("outcome_unknown", requests=len(owned))
        try:
            return await self._attempt(owned, wait=wait)
        except (OutcomeUnknown, ServiceError):  # the second attempt does not show the outcome of the first
            raise busy("The outcome is not known; send the request again") from None

    async def _attempt(
        self, owned: Sequence[_Owned[Req]], *, wait: bool
    ) -> list[Res | ServiceError | Locked]:
        outcomes = list(await self.attempt([each.request for each in owned], wait))
        if len(outcomes) != len(owned):
            raise ValueError(f"{len(outcomes)} outcomes for {len(owned)} requests")
        return outcomes


@contextmanager
def _logging_for(request: object) -> Iterator[None]:
    """Add the ids of a request, if it has any, to the log lines that are written inside."""
    if not isinstance(request, Item):
        yield
        return
    token = bind_request(request.context.request_id, request.context.traceparent)
    try:
        yield
    finally:
        unbind_request(token)


async def run_reads(
    wanted: Sequence[Req], read: Callable[[Sequence[Req]], Awaitable[Sequence[Res]]]
) -> list[Res | ServiceError]:
    """Read something for each of these with as few statements as possible; `read` keeps the order.

    If a read fails because of what is asked or stored, or with an unexpected exception, it is bisected until
    the one that causes it is alone: only that one is refused.

    Raises:
        ServiceError: the reason is in ABOUT_ALL, so the read failed for all.
    """

    async def attempt(places: Sequence[int], _wait: bool) -> Sequence[Res]:
        return await read([wanted[place] for place in places])

    outcomes = await run_isolated(range(len(wanted)), attempt, owner_of=lambda place: place)
    failed = [each for each in outcomes if isinstance(each, ServiceError)]
    if failed and len(failed) == len(outcomes) and all(each.reason in ABOUT_ALL for each in failed):
        raise failed[0]
    return outcomes
