"""Runs a batch so that a bad or a locked request hurts none of its neighbours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

import structlog

from chassis.database_errors import DataRefused, LockTimeout, OutcomeUnknown
from chassis.errors import Reason, ServiceError

# Owners that are locked elsewhere are waited for in transactions of their own, so many at once, and none
# that is known to be locked begins to wait later than this: they must not take the pool from the others.
WAITING_OWNERS_MAXIMUM = 4
WAITING_SECONDS_MAXIMUM = 1.0
RETRY_AFTER_SECONDS = 0.1

log = structlog.get_logger(__name__)

Req = TypeVar("Req")
Res = TypeVar("Res")


class Locked(Enum):
    """In place of an outcome: someone else holds the lock that the request needs, and nothing was decided."""

    ELSEWHERE = "elsewhere"
    SOMEWHERE = "somewhere"
    """A lock was not given, and nobody says whose: the request may be innocent."""


# Runs requests in one transaction, in their order; told whether to wait for locks, or to pass over the
# requests whose owners are locked. May raise ServiceError (for all of them) and what `Database.write` raises.
Attempt = Callable[[Sequence[Req], bool], Awaitable[Sequence[Res | ServiceError | Locked]]]


async def run_isolated(
    requests: Sequence[Req],
    attempt: Attempt[Req, Res],
    *,
    owner_of: Callable[[Req], Hashable],
    refusal_of: Callable[[Req, DataRefused], ServiceError],
) -> list[Res | ServiceError]:
    """Answer each request; those of one owner act in the order of arrival.

    First all of them in one transaction, passing over owners that are locked elsewhere; then those owners,
    each in a transaction of its own, a few at once and for a limited time: UNAVAILABLE when that is over (who
    merely was in one transaction with a locked one gets its turn, however late). A
    transaction that the database refuses is halved until the guilty request is alone; what it is told,
    `refusal_of` says. One whose outcome is unknown is attempted once more, so an attempt must find what an
    earlier one has done; UNAVAILABLE if even then nobody knows.
    """
    run = _Run(attempt, owner_of, refusal_of)
    outcomes = await run.halving(requests, wait=False)
    places_of: dict[Hashable, list[int]] = {}
    for place, outcome in enumerate(outcomes):
        if isinstance(outcome, Locked):
            places_of.setdefault(owner_of(requests[place]), []).append(place)
    if places_of:
        give_up_at = time.monotonic() + WAITING_SECONDS_MAXIMUM
        turns = asyncio.Semaphore(WAITING_OWNERS_MAXIMUM)

        async def wait_for(places: Sequence[int]) -> None:
            async with turns:
                known_as_locked = any(outcomes[place] is Locked.ELSEWHERE for place in places)
                if known_as_locked and time.monotonic() >= give_up_at:
                    return
                waited = await run.halving([requests[place] for place in places], wait=True)
            for place, outcome in zip(places, waited, strict=True):
                outcomes[place] = outcome

        async with asyncio.TaskGroup() as owners:
            for places in places_of.values():
                owners.create_task(wait_for(places))
    return [_locked_too_long() if isinstance(outcome, Locked) else outcome for outcome in outcomes]


@dataclass(frozen=True, slots=True)
class _Run(Generic[Req, Res]):
    """The attempts of one batch."""

    attempt: Attempt[Req, Res]
    owner_of: Callable[[Req], Hashable]
    refusal_of: Callable[[Req, DataRefused], ServiceError]

    async def halving(self, requests: Sequence[Req], *, wait: bool) -> list[Res | ServiceError | Locked]:
        if not requests:
            return []
        try:
            return list(await self._until_known(requests, wait=wait))
        except ServiceError as error:
            return [error] * len(requests)
        except LockTimeout:
            # Also without `wait`, behind a key that somebody has not committed yet. Nobody says whose, and a
            # search by halves would wait for it each time.
            return [Locked.SOMEWHERE] * len(requests)
        except DataRefused as error:
            if len(requests) == 1:
                return [self.refusal_of(requests[0], error)]
        middle = len(requests) // 2
        first, second = requests[:middle], requests[middle:]
        outcomes = await self.halving(first, wait=wait)
        locked = {
            self.owner_of(request)
            for request, outcome in zip(first, outcomes, strict=True)
            if isinstance(outcome, Locked)
        }
        # Their locks may be free by now, but nothing may overtake what was passed over.
        in_turn = [request for request in second if self.owner_of(request) not in locked]
        followed = iter(await self.halving(in_turn, wait=wait))
        return outcomes + [
            Locked.ELSEWHERE if self.owner_of(request) in locked else next(followed) for request in second
        ]

    async def _until_known(
        self, requests: Sequence[Req], *, wait: bool
    ) -> Sequence[Res | ServiceError | Locked]:
        try:
            return await self.attempt(requests, wait)
        except OutcomeUnknown:
            log.warning("outcome_unknown", requests=len(requests))
        try:
            return await self.attempt(requests, wait)
        except (OutcomeUnknown, ServiceError):  # the second says nothing of the first
            raise ServiceError(
                Reason.UNAVAILABLE,
                "The outcome is not known; ask again",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            ) from None


def _locked_too_long() -> ServiceError:
    return ServiceError(
        Reason.UNAVAILABLE,
        "Another change is taking too long",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )
