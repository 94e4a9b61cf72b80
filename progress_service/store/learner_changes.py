"""Keyed changes under the lock of each learner, with replays also for those who may change nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from chassis.batch import Item, Outcome
from chassis.errors import ServiceError
from chassis.postgres import Connection, Database
from chassis.postgres.isolation import Locked
from chassis.postgres.keyed import Render, write_keyed
from progress_service.domain.statistics import UserId
from progress_service.store.learners import lock_learners


class OfLearner(Protocol):
    """A request about one learner."""

    @property
    def user_id(self) -> UserId: ...


R = TypeVar("R", bound=OfLearner)
V = TypeVar("V")
# Decides these requests in their order, under the locks, and writes what they come to.
Decide = Callable[[Connection, Sequence[Item[R]]], Awaitable[Sequence[V | ServiceError]]]
# The learners whose new requests are refused, and why.
Refusals = Mapping[UserId, ServiceError]


async def change_learners(
    database: Database,
    items: Sequence[Item[R]],
    decide: Decide[R, V],
    *,
    refusals: Refusals,
    wait: bool,
    render: Render[V],
    name: str,
) -> list[Outcome | Locked]:
    """Decide each request once per key, in one transaction; the learners must have their rows.

    A used key is replayed even if its learner is in `refusals`: whoever had an effect gets its answer.
    Without `wait`, the requests of a learner whom another transaction holds are passed over.
    """

    async def lock(connection: Connection, items: Sequence[Item[R]]) -> frozenset[UserId]:
        return await lock_learners(connection, [item.request.user_id for item in items], wait=wait)

    async def change(
        connection: Connection, locked: frozenset[UserId], items: Sequence[Item[R]]
    ) -> list[V | ServiceError | Locked]:
        allowed = [
            item for item in items if item.request.user_id in locked and item.request.user_id not in refusals
        ]
        decided = iter(await decide(connection, allowed) if allowed else ())
        return [
            refusals[user_id]
            if (user_id := item.request.user_id) in refusals
            else next(decided)
            if user_id in locked
            else Locked.HELD_BY_ANOTHER
            for item in items
        ]

    return await write_keyed(database, items, lock=lock, change=change, render=render, name=name)
