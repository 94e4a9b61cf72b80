"""Runs a batch so that a bad or a locked request hurts none of its neighbours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from chassis.errors import Reason, ServiceError
from chassis.logs import get_logger
from chassis.postgres import ConstraintViolation, DataRefused, InvalidValue, LockTimeout, OutcomeUnknown
from subscription_service.store.locks import Locked

Req = TypeVar("Req")
Res = TypeVar("Res")

# Runs requests in one transaction, in their order; told whether to wait for locks.
Attempt = Callable[[Sequence[Req], bool], Awaitable[Sequence[Res | ServiceError | Locked]]]

# Learners that are locked elsewhere are waited for in transactions of their own, so many at once and no
# longer than this altogether: they must not take the pool from the others.
WAITING_LEARNERS_MAXIMUM = 4
WAITING_SECONDS_MAXIMUM = 1.0
RETRY_AFTER_SECONDS = 0.1

logger = get_logger(__name__)


async def run_isolated(
    requests: Sequence[Req],
    attempt: Attempt[Req, Res],
    *,
    learner_of: Callable[[Req], str],
    violations: Mapping[str, Callable[[], ServiceError]] | None = None,
) -> list[Res | ServiceError]:
    """Answer each request, in the order of arrival for each learner.

    First all of them in one transaction, passing over locked learners; those then one by one. A transaction
    that the database refuses is halved until the guilty request is alone: it gets the error that `violations`
    has for the constraint's name. One whose outcome is unknown is attempted once more: an attempt must find
    what an earlier one has done.
    """
    known = violations or {}
    outcomes = await _attempt_halving(requests, attempt, known, wait=False)
    groups: dict[str, list[int]] = {}
    for place, outcome in enumerate(outcomes):
        if isinstance(outcome, Locked):
            groups.setdefault(learner_of(requests[place]), []).append(place)
    if groups:
        give_up_at = time.monotonic() + WAITING_SECONDS_MAXIMUM
        turns = asyncio.Semaphore(WAITING_LEARNERS_MAXIMUM)

        async def wait_for(places: Sequence[int]) -> None:
            async with turns:
                if time.monotonic() >= give_up_at:
                    return
                waited = await _attempt_halving([requests[p] for p in places], attempt, known, wait=True)
            for place, outcome in zip(places, waited, strict=True):
                outcomes[place] = outcome

        await asyncio.gather(*map(wait_for, groups.values()))
    return [_locked_too_long() if isinstance(outcome, Locked) else outcome for outcome in outcomes]


async def _attempt_halving(
    requests: Sequence[Req],
    attempt: Attempt[Req, Res],
    violations: Mapping[str, Callable[[], ServiceError]],
    *,
    wait: bool,
) -> list[Res | ServiceError | Locked]:
    try:
        return list(await _attempt_until_known(requests, attempt, wait=wait))
    except ServiceError as error:
        return [error] * len(requests)
    except LockTimeout:
        if len(requests) == 1 or wait:
            return [_locked_too_long() for _ in requests]
    except DataRefused as error:
        if len(requests) == 1:
            return [_refusal(error, violations)]
    middle = len(requests) // 2
    first = await _attempt_halving(requests[:middle], attempt, violations, wait=wait)
    return first + await _attempt_halving(requests[middle:], attempt, violations, wait=wait)


async def _attempt_until_known(
    requests: Sequence[Req], attempt: Attempt[Req, Res], *, wait: bool
) -> Sequence[Res | ServiceError | Locked]:
    try:
        return await attempt(requests, wait)
    except OutcomeUnknown:
        pass
    try:
        return await attempt(requests, wait)
    except OutcomeUnknown:
        raise ServiceError(
            Reason.UNAVAILABLE,
            "The outcome is not known; ask again",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        ) from None


def _refusal(error: DataRefused, violations: Mapping[str, Callable[[], ServiceError]]) -> ServiceError:
    if isinstance(error, InvalidValue):
        return ServiceError(Reason.INVALID_ARGUMENT, "A value cannot be stored")
    constraint = error.constraint if isinstance(error, ConstraintViolation) else ""
    meaning = violations.get(constraint)
    if meaning is not None:
        return meaning()
    logger.error("refused by the database", constraint=constraint, exc_info=error)
    return ServiceError(Reason.INTERNAL)


def _locked_too_long() -> ServiceError:
    return ServiceError(
        Reason.UNAVAILABLE,
        "Another change of this learner is taking too long",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )
