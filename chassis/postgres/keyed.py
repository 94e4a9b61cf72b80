"""Keyed mutations: one transaction writes the effect, and the answer that the same key repeats."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from chassis.batch import Item, Outcome, Reply, latest_deadline
from chassis.context import Claim
from chassis.errors import Reason, ServiceError
from chassis.postgres import idempotency
from chassis.postgres.database import Database
from chassis.postgres.errors import ConstraintViolation
from chassis.postgres.idempotency import CompletedCall, KeyState, StoredResponse
from chassis.postgres.isolation import Locked
from chassis.postgres.pool import Connection

L = TypeVar("L")
R = TypeVar("R")
V = TypeVar("V")

LOOKS_MAX = 3

# Makes the response from the result of a mutation, to be stored with its key.
Render = Callable[[V], bytes]
# Takes the locks that these requests need, and returns the locked rows.
Lock = Callable[[Connection, Sequence[Item[R]]], Awaitable[L]]
# Carries out these requests in their order, under the locks; an outcome for each.
Change = Callable[[Connection, L, Sequence[Item[R]]], Awaitable[Sequence[V | ServiceError | Locked]]]


async def write_keyed(
    database: Database,
    items: Sequence[Item[R]],
    *,
    lock: Lock[R, L],
    change: Change[L, R, V],
    render: Render[V],
    name: str,
) -> list[Outcome | Locked]:
    """Repeat the answers of used keys, carry out the other requests, and store their answers.

    All of it is one transaction. The keys are looked up after the locks are taken. Before that, another
    transaction may still be carrying out the same request; this request would then be refused, although it
    has its effect. So `lock` must take a lock that requests with the same key share, such as the row of the
    learner.

    Refusals are not stored: the same key may succeed later. The same key twice in one batch has one effect.
    Raises the errors of `Database.write`; `run_isolated` handles them.
    """

    async def work(connection: Connection) -> list[Outcome | Locked]:
        locked = await lock(connection, items)
        stored = await idempotency.find(connection, claims)
        first: dict[Claim, Item[R]] = {}
        for item, claim in zip(items, claims, strict=True):
            if claim not in stored:
                first.setdefault(claim, item)
        results = await change(connection, locked, list(first.values())) if first else []
        refused: dict[Claim, ServiceError | Locked] = {}
        completed: dict[Claim, CompletedCall] = {}
        for (claim, item), result in zip(first.items(), results, strict=True):
            if isinstance(result, ServiceError | Locked):
                refused[claim] = result
            else:
                completed[claim] = completed_call(item, render(result))
        await idempotency.claim(connection, list(completed.values()))
        return [
            _answer(item, claim, first.get(claim), stored=stored, completed=completed, refused=refused)
            for item, claim in zip(items, claims, strict=True)
        ]

    claims = [item.claim for item in items]

    for look in range(1, LOOKS_MAX + 1):
        try:
            return await database.write(work, deadline=latest_deadline(items), name=name)
        except ConstraintViolation as violation:
            # Another request claimed the key between our lookup and our claim. The next lookup finds it.
            # After the last lookup the violation is raised: then the batch is bisected.
            if violation.constraint != idempotency.CONSTRAINT or look == LOOKS_MAX:
                raise
    raise AssertionError  # the last look returns or raises


def completed_call(item: Item[Any], response: bytes, *, content: str = "") -> CompletedCall:
    """The record of an item that was carried out."""
    context = item.context
    return CompletedCall(
        context.user_id,
        context.method,
        context.idempotency_key,
        item.fingerprint,
        response,
        context.recorded_trace,
        content,
    )


def _answer(
    item: Item[Any],
    claim: Claim,
    first: Item[Any] | None,
    *,
    stored: Mapping[Claim, StoredResponse],
    completed: Mapping[Claim, CompletedCall],
    refused: Mapping[Claim, ServiceError | Locked],
) -> Reply[Any] | ServiceError | Locked:
    if first is None:
        return idempotency.check(stored[claim], item.fingerprint)
    call = completed.get(claim)
    if item is first:
        return call.reply() if call is not None else refused[claim]
    if call is not None:
        repeated = StoredResponse(
            call.fingerprint, KeyState.COMPLETED, call.response, call.traceparent, call.content
        )
        return idempotency.check(repeated, item.fingerprint)
    if item.fingerprint != first.fingerprint:
        return ServiceError(Reason.IDEMPOTENCY_KEY_REUSED)
    return refused[claim]
