"""A clock that steps back and forth around the end of a month makes nothing fail, and nothing count twice."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chassis.errors import Reason, ServiceError
from tests.subscription.service import Subscriptions

MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)
PLANS = {"free": 0, "small": 4, "large": 9}
STEPS = 40
HISTORIES = 12
REFUSALS = {Reason.INSUFFICIENT_CREDITS, Reason.DAILY_LIMIT_REACHED, Reason.ILLEGAL_TRANSITION}


class History:
    """Random changes of one learner's credits and holds, each at a moment of its own."""

    def __init__(self, subscriptions: Subscriptions, user_id: str, rng: random.Random) -> None:
        self._subscriptions = subscriptions
        self._user_id = user_id
        self._random = rng
        self._open: list[Any] = []

    async def step(self) -> None:
        """One change; refusals that a learner may get at any time are no faults."""
        now = self._subscriptions.clock.moment = MIDNIGHT + timedelta(seconds=self._random.randint(-6, 6))
        acts = [
            self._place,
            self._place,
            self._commit,
            self._release,
            self._grant,
            self._take,
            self._subscribe,
        ]
        try:
            await self._random.choice(acts)(now)
        except ServiceError as refusal:
            if refusal.reason not in REFUSALS:
                raise
        credits_ = (await self._subscriptions.entitlements(self._user_id)).credits
        assert credits_.balance >= credits_.held >= 0

    async def _place(self, _: datetime) -> None:
        tests, price = self._random.choice([(1, 0), (0, 2), (1, 3)])
        self._open.append(await self._subscriptions.place(self._user_id, tests=tests, credits=price))

    async def _commit(self, _: datetime) -> None:
        if self._open:
            await self._subscriptions.commit(self._taken())

    async def _release(self, _: datetime) -> None:
        if self._open:
            await self._subscriptions.release(self._taken())

    async def _grant(self, now: datetime) -> None:
        expires_at = self._random.choice([None, now + timedelta(seconds=self._random.randint(1, 8))])
        await self._subscriptions.adjust(self._user_id, self._random.randint(1, 5), expires_at=expires_at)

    async def _take(self, _: datetime) -> None:
        await self._subscriptions.adjust(self._user_id, -self._random.randint(1, 3))

    async def _subscribe(self, _: datetime) -> None:
        await self._subscriptions.subscribe(self._user_id, self._random.choice(list(PLANS)))

    def _taken(self) -> Any:
        return self._open.pop(self._random.randrange(len(self._open)))


async def test_steps_of_the_clock_around_the_end_of_a_month_harm_nobody(subscriptions: Subscriptions) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    subscriptions.clock.moment = MIDNIGHT - timedelta(days=1)
    for plan_id, monthly in PLANS.items():
        await subscriptions.plan(plan_id, limit=20, monthly=monthly)
    for user_id in await subscriptions.accounts(HISTORIES):
        history = History(subscriptions, user_id, rng)
        for _ in range(STEPS):
            await history.step()
    assert await subscriptions.discrepancies() == []
    granted = await subscriptions.truth.fetch(
        """
        SELECT user_id, split_part(operation_id, ':', 2) AS month, sum(amount) AS granted
          FROM credit_entries
         WHERE operation_id LIKE 'monthly:%'
         GROUP BY 1, 2
        """
    )
    assert all(row["granted"] <= max(PLANS.values()) for row in granted)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
async def test_many_steps_of_the_clock_harm_nobody(subscriptions: Subscriptions) -> None:
    for _ in range(20):
        await test_steps_of_the_clock_around_the_end_of_a_month_harm_nobody(subscriptions)
