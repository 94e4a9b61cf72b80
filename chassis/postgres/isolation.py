"""Runs a batch so that a bad or a locked request hurts none of its neighbours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from chassis.errors import Reason, ServiceError
from chassis.postgres.errors import DataRefused, LockTimeout, OutcomeUnknown
from chassis.postgres.refusals import NO_MEANINGS, Meanings, busy, refusal_of
from chassis.telemetry.logs import get_logger

# Owners that are locked by another transaction are waited for one by one, a few at once, and nobody who is
# known to be locked begins to wait later than this: they must not take the pool from the others.
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
# the requests whose owners are locked. May raise ServiceError (for all of them) and what
# `Database.write` raises.
Attempt = Callable[[Sequence[Req], bool], Awaitable[Sequence[Res | ServiceError | Locked]]]


async def run_isolated(
    requests: Sequence[Req],
    attempt: Attempt[Req, Res],
    *,
    owner_of: Callable[[Req], Hashable],
    meanings: Meanings = NO_MEANINGS,
) -> list[Res | ServiceError]:
    """Answer each request; the requests of one owner act in the order of arrival.

    First all requests run in one transaction, which passes over locked owners. Then each of those owners
    gets a transaction of its own, a few at once and for a limited time; after that they are refused as
    UNAVAILABLE. Requests that only shared a transaction with a locked owner are still tried, even after the limit.

    A transaction that fails with an error of its data, or with any exception that nobody expects, is bisected
    until the guilty request is alone. That request alone is refused: as `meanings` and the refusal table say,
    or as INTERNAL. So an attempt must be repeatable: it must find what an earlier attempt has done. An
    attempt whose outcome is unknown is repeated once, then refused as UNAVAILABLE.
    """
    run = _Run(attempt, owner_of, meanings)
    outcomes = await run.bisecting(requests, wait=False)
    places_of: dict[Hashable, list[int]] = {}
    for place, outcome in enumerate(outcomes):
        if isinstance(outcome, Locked):
            places_of.setdefault(owner_of(requests[place]), []).append(place)
    if places_of:
        give_up_at = time.monotonic() + WAITING_SECONDS_MAX
        turns = asyncio.Semaphore(WAITING_OWNERS_MAX)

        async def wait_for(places: Sequence[int]) -> None:
            async with turns:
                known_as_locked = any(outcomes[place] is Locked.HELD_BY_ANOTHER for place in places)
                if known_as_locked and time.monotonic() >= give_up_at:
                    return
                waited = await run.bisecting([requests[place] for place in places], wait=True)
            for place, outcome in zip(places, waited, strict=True):
                outcomes[place] = outcome

        async with asyncio.TaskGroup() as owners:
            for places in places_of.values():
                owners.create_task(wait_for(places))
    return [
        busy("Another change is taking too long") if isinstance(outcome, Locked) else outcome
        for outcome in outcomes
    ]


@dataclass(frozen=True, slots=True)
class _Run(Generic[Req, Res]):
    """The attempts of one batch."""

    attempt: Attempt[Req, Res]
    owner_of: Callable[[Req], Hashable]
    meanings: Meanings

    async def bisecting(  # noqa: PLR0911 - one return per kind of failure is the table it looks like
        self, requests: Sequence[Req], *, wait: bool
    ) -> list[Res | ServiceError | Locked]:
        """The outcome of each request. Raises nothing but a cancellation."""
        if not requests:
            return []
        try:
            return await self._until_known(requests, wait=wait)
        except ServiceError as error:
            return [error] * len(requests)
        except LockTimeout:
            # It also happens without `wait`: behind a key that another transaction has not committed yet. To
            # bisect would mean to wait for that lock again in each half.
            return [Locked.HOLDER_UNKNOWN] * len(requests)
        except DataRefused as error:
            if len(requests) == 1:
                return [refusal_of(error, self.meanings)]
        except Exception:
            if len(requests) == 1:
                log.exception("request_failed")
                return [ServiceError(Reason.INTERNAL)]
        return await self._halves(requests, wait=wait)

    async def _halves(self, requests: Sequence[Req], *, wait: bool) -> list[Res | ServiceError | Locked]:
        middle = len(requests) // 2
        first, second = requests[:middle], requests[middle:]
        outcomes = await self.bisecting(first, wait=wait)
        locked = {
            self.owner_of(request)
            for request, outcome in zip(first, outcomes, strict=True)
            if isinstance(outcome, Locked)
        }
        # A locked owner may be free by now, but its later requests must not overtake the earlier ones.
        in_turn = [request for request in second if self.owner_of(request) not in locked]
        followed = iter(await self.bisecting(in_turn, wait=wait))
        return outcomes + [
            Locked.HELD_BY_ANOTHER if self.owner_of(request) in locked else next(followed)
            for request in second
        ]

    async def _until_known(self, requests: Sequence[Req], *, wait: bool) -> list[Res | ServiceError | Locked]:
        try:
            return await self._attempt(requests, wait=wait)
        except OutcomeUnknown:
            log.warning("outcome_unknown", requests=len(requests))
        try:
            return await self._attempt(requests, wait=wait)
        except (OutcomeUnknown, ServiceError):  # the second attempt says nothing about the first
            raise busy("The outcome is not known; ask again") from None

    async def _attempt(self, requests: Sequence[Req], *, wait: bool) -> list[Res | ServiceError | Locked]:
        outcomes = list(await self.attempt(requests, wait))
        if len(outcomes) != len(requests):
            raise ValueError(f"{len(outcomes)} outcomes for {len(requests)} requests")
        return outcomes
