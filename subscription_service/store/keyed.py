"""Keyed mutations: the effect and the answer to repeat under the same key are written together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from chassis.postgres import idempotency
from chassis.batch import Reply
from chassis.errors import Reason, ServiceError
from chassis.postgres.idempotency import Claim, CompletedCall, KeyState, StoredResponse
from chassis.postgres.isolation import Locked
from chassis.postgres import Connection, ConstraintViolation, Database

T = TypeVar("T")
R = TypeVar("R")

CLAIM_ATTEMPTS_MAX = 3


@dataclass(frozen=True, slots=True)
class Keyed(Generic[T]):
    """A mutation and the key that it was asked for under."""

    claim: Claim
    fingerprint: bytes
    traceparent: str
    order: T


KeyedOutcome = Reply[Any] | ServiceError | Locked

# Makes the changes inside the transaction and says for each order what became of it.
Change = Callable[[Connection, Sequence[T]], Awaitable[Sequence[R | ServiceError | Locked]]]


async def write_keyed(
    database: Database,
    requests: Sequence[Keyed[T]],
    change: Change[T, R],
    *,
    render: Callable[[R], bytes],
    deadline: float,
    name: str,
) -> list[KeyedOutcome]:
    """Answer what was answered before, change the rest, and store the answers, in one transaction.

    Refusals are not stored: the same key may succeed later. The same key twice in one batch has one effect.
    """

    async def work(connection: Connection) -> list[KeyedOutcome]:
        stored = await idempotency.find(connection, {request.claim for request in requests})
        first: dict[Claim, Keyed[T]] = {}
        for request in requests:
            if request.claim not in stored:
                first.setdefault(request.claim, request)
        results = await change(connection, [request.order for request in first.values()]) if first else []
        outcomes: dict[Claim, ServiceError | Locked] = {}
        completed: list[CompletedCall] = []
        for request, result in zip(first.values(), results, strict=True):
            if isinstance(result, ServiceError | Locked):
                outcomes[request.claim] = result
            else:
                completed.append(
                    CompletedCall(request.claim, request.fingerprint, render(result), request.traceparent)
                )
        await idempotency.claim(connection, completed)
        fresh = {call.claim: call for call in completed}
        return [_answer(request, first.get(request.claim), stored, fresh, outcomes) for request in requests]

    for _ in range(CLAIM_ATTEMPTS_MAX):
        try:
            return await database.write(work, deadline=deadline, name=name)
        except ConstraintViolation as violation:
            if violation.constraint != idempotency.CONSTRAINT:
                raise
            # Someone used the key between our look and our claim: the next look will find it.
    raise ServiceError(Reason.UNAVAILABLE, "The key is in use", retry_after_seconds=0.1)


def _answer(
    request: Keyed[T],
    first: Keyed[T] | None,
    stored: dict[Claim, StoredResponse],
    fresh: dict[Claim, CompletedCall],
    outcomes: dict[Claim, ServiceError | Locked],
) -> KeyedOutcome:
    if first is None:
        return idempotency.check(stored[request.claim], request.fingerprint)
    call = fresh.get(request.claim)
    if request is first:
        return Reply(call.response) if call is not None else outcomes[request.claim]
    if call is not None:
        answer = StoredResponse(call.fingerprint, KeyState.COMPLETED, call.response, call.traceparent)
        return idempotency.check(answer, request.fingerprint)
    if request.fingerprint != first.fingerprint:
        return ServiceError(Reason.IDEMPOTENCY_KEY_REUSED)
    return outcomes[request.claim]
