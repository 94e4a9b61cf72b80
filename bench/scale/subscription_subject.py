"""What subscription_service does for each start, with any number of past holds."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from bench.scale.measuring import BATCH, Call, Measure
from bench.scale.plans import WatchedDatabase
from bench.scale.subscription_population import METHOD, add_accounts, add_holds, learner, warm_up
from chassis.postgres import Connection
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler
from protos.subscription.v1 import accounts_pb2, holds_pb2
from subscription_service.__main__ import handlers
from subscription_service.operations.license_feed import LicenseFeed

HOLDS = "/homeroom.subscription.v1.HoldService"
ACCOUNTS = "/homeroom.subscription.v1.AccountService"


@dataclass
class SubscriptionSubject:
    """Holds of an unlimited plan; each is placed and committed. There are always as many learners."""

    learners: int = 1_000_000
    service: str = "subscription"
    sizes: Sequence[int] = (10_000, 100_000, 1_000_000, 10_000_000)
    tables: Sequence[str] = (
        "accounts",
        "subscriptions",
        "daily_usage",
        "holds",
        "credit_balances",
        "credit_grants",
    )

    async def build(self, connection: Connection, size: int, told: Callable[[str], object]) -> int:
        began = time.monotonic()
        await add_accounts(connection, self.learners)
        await add_holds(connection, range(size), self.learners)
        await connection.execute("VACUUM (ANALYZE)")
        await warm_up(connection)
        told(f"{size:,} holds of {self.learners:,} learners after {time.monotonic() - began:.0f} s")
        return self.learners

    def assemble(self, database: WatchedDatabase, secret: str) -> Sequence[Handler]:
        # Nobody watches licenses here, so the feed needs nothing to read them.
        feed = LicenseFeed(reader=cast("Any", None), poll_seconds=60.0)
        return handlers(database, feed, tokens=PageTokens(secret=secret))

    async def round(self, measure: Measure, learners: Sequence[int], batches: int) -> AsyncIterator[None]:
        """Place and commit holds; no learner is in a batch twice."""
        groups = [learners[first : first + BATCH] for first in range(0, len(learners) - BATCH + 1, BATCH)]
        chosen = itertools.islice(itertools.cycle(groups), batches)
        placements = [[_placement(learner(number)) for number in group] for group in chosen]
        await measure.calls(
            "PlaceHold",
            f"{HOLDS}/PlaceHold",
            [[Call("", placement) for placement in batch] for batch in placements],
        )
        yield
        for step, path, make in _STEPS:
            await measure.calls(
                step, path, [[Call("", make(placement)) for placement in batch] for batch in placements]
            )
            yield


def _placement(user_id: str) -> holds_pb2.PlaceHoldRequest:
    hold_id = str(uuid.uuid4())
    return holds_pb2.PlaceHoldRequest(
        user_id=user_id,
        hold_id=hold_id,
        tests=1,
        subject=f"test-{hold_id}#1",
        method=METHOD,
        idempotency_key=f"key-{hold_id}",
    )


def _commit(placement: holds_pb2.PlaceHoldRequest) -> holds_pb2.CommitHoldRequest:
    return holds_pb2.CommitHoldRequest(user_id=placement.user_id, hold_id=placement.hold_id)


def _read(placement: holds_pb2.PlaceHoldRequest) -> accounts_pb2.GetEntitlementsRequest:
    return accounts_pb2.GetEntitlementsRequest(user_id=placement.user_id)


_STEPS: Sequence[tuple[str, str, Callable[[holds_pb2.PlaceHoldRequest], Any]]] = (
    ("CommitHold", f"{HOLDS}/CommitHold", _commit),
    ("GetEntitlements", f"{ACCOUNTS}/GetEntitlements", _read),
)
