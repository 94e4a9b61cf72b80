"""Runs a batch so that a bad or a locked request hurts none of its neighbours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from chassis.batch import Item
from chassis.errors import Reason, ServiceError
from chassis.postgres.errors import DataRefused, LockTimeout, OutcomeUnknown
from chassis.postgres.refusals import ABOUT_ALL, NO_MEANINGS, Meanings, busy, refusal_of
from chassis.telemetry.logs import bind_request, get_logger, unbind_request

# Each owner whose lock another transaction holds is waited for in a transaction of its own: a few at once,
# and none begins to wait later than this. So the waiting owners cannot take the whole pool.
WAITING_OWNERS_MAX = 4
WAITING_SECONDS_MAX = 1.0

log = get_logger(__name__)

Req = TypeVar("Req")
Res = TypeVar("Res")


class Locked(Enum):
    """In place of an outcome: the request was not decided, because a lock that it needs is taken."""

    HELD_BY_ANOTHER = "held by another"
    """Another transaction holds the lock of this request's owner."""
    HOLDER_UNKNOWN = "holder unknown"
    """The batch ran into a lock timeout, and PostgreSQL does not say whose: this request may be innocent."""


# Runs requests in one transaction, in their order. The flag says whether to wait for locks, or to pass over
# the requests whose owners are locked. May raise what `Database.write` raises, and ServiceError: UNAVAILABLE,
# DEADLINE_EXCEEDED and OVERLOADED count for all requests, any other reason for the one that is to blame.
Attempt = Callable[[Sequence[Req], bool], Awaitable[Sequence[Res | ServiceError | Locked]]]


async def run_isolated(  # noqa: C901 - two phases that share the outcomes read better in one piece
    requests: Sequence[Req],
    attempt: Attempt[Req, Res],
    *,
    owner_of: Callable[[Req], Hashable],
    meanings: Meanings = NO_MEANINGS,
) -> list[Res | ServiceError]:
    """Answer each request; the requests of one owner act in the order of arrival.

    First all requests run in one transaction, which passes over locked owners. Then each of those owners
    gets a transaction of its own, a few at once and for a limited time; after that they are refused as
    UNAVAILABLE. Requests that only shared a transaction with a locked owner are still tried, even after the
    limit.

    A transaction that fails with an error of its data, or with any exception that nobody expects, is bisected
    until the guilty request is alone. That request alone is refused: as `meanings` and the refusal table say,
    or as INTERNAL. So an attempt must be repeatable: it must find what an earlier attempt has done. An
    attempt whose outcome is unknown is repeated once, then refused as UNAVAILABLE.

    Raises nothing for what a request contains, also not after other requests have committed.
    """
    run = _Run(attempt, meanings)
    outcomes: list[Res | ServiceError | Locked] = [ServiceError(Reason.INTERNAL)] * len(requests)
    owned: list[_Owned[Req]] = []
    for place, request in enumerate(requests):
        try:
            owned.append(_Owned(place, owner_of(request), request))
        except Exception:
            with _logging_for(request):
                log.exception("request_failed")
    for each, outcome in zip(owned, await run.bisecting(owned, wait=False), strict=True):
        outcomes[each.place] = outcome
    locked: dict[Hashable, list[_Owned[Req]]] = {}
    for each in owned:
        if isinstance(outcomes[each.place], Locked):
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


@dataclass(frozen=True, slots=True)
class _Owned(Generic[Req]):
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
        """The outcome of each request. Raises nothing but a cancellation."""
        if not owned:
            return []
        try:
            return await self._until_known(owned, wait=wait)
        except ServiceError as error:
            if len(owned) == 1 or error.reason in ABOUT_ALL:
                return [error] * len(owned)
        except LockTimeout:
            # It also happens without `wait`: behind a key that another transaction has not committed yet. To
            # bisect would mean to wait for that lock again in each half.
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
        # A locked owner may be free by now, but its later requests must not overtake the earlier ones.
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
        except (OutcomeUnknown, ServiceError):  # the second attempt says nothing about the first
            raise busy("The outcome is not known; ask again") from None

    async def _attempt(
        self, owned: Sequence[_Owned[Req]], *, wait: bool
    ) -> list[Res | ServiceError | Locked]:
        outcomes = list(await self.attempt([each.request for each in owned], wait))
        if len(outcomes) != len(owned):
            raise ValueError(f"{len(outcomes)} outcomes for {len(owned)} requests")
        return outcomes


@contextmanager
def _logging_for(request: object) -> Iterator[None]:
    """Put the ids of a request, if it has any, on what is logged here."""
    if not isinstance(request, Item):
        yield
        return
    token = bind_request(request.context.request_id, request.context.traceparent)
    try:
        yield
    finally:
        unbind_request(token)
