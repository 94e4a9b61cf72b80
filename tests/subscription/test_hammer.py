"""Many tasks change few learners, and callers leave at any moment: nothing deadlocks, leaks or miscounts."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from chassis.errors import Reason, ServiceError
from protos.subscription.v1 import accounts_pb2, credits_pb2, holds_pb2, licenses_pb2
from tests.subscription.service import ACCOUNTS, CREDITS, HOLDS, LICENSES, PLANS, Subscriptions, placement

TASKS = 64
LEARNERS = 8
SECONDS = 20.0
LIMIT_MAX = 6
PLAN_LIMITS = {"small": (2, 3), "large": (5, LIMIT_MAX)}
# UNAVAILABLE: a learner was locked for too long. Any other refusal is a defect of the service.
EXPECTED = {
    Reason.DAILY_LIMIT_REACHED,
    Reason.INSUFFICIENT_CREDITS,
    Reason.ILLEGAL_TRANSITION,
    Reason.NOT_FOUND,
    Reason.UNAVAILABLE,
    Reason.DEADLINE_EXCEEDED,
    Reason.INVALID_ARGUMENT,
    Reason.INVALID_USER_REFERENCE,
}


class Hammer:
    def __init__(self, subscriptions: Subscriptions, users: list[str], choices: random.Random) -> None:
        self.subscriptions = subscriptions
        self.users = users
        self.choices = choices
        self.holds = [(choices.choice(users), str(uuid.uuid4())) for _ in range(400)]
        self.keys = itertools.count()
        self.outcomes: Counter[str] = Counter()
        self.answered: dict[str, set[bytes]] = {}

    async def strike(self) -> None:
        """One random batch, whose caller may leave before it is answered."""
        kind = self.choices.choice(
            [self.place] * 6 + [self.resolve] * 5 + [self.read, self.plan] + self.changes
        )
        work = asyncio.create_task(kind())
        if self.choices.random() < 0.3:
            await asyncio.sleep(self.choices.random() * 0.02)
            work.cancel()
            await asyncio.wait({work})
            if work.cancelled():
                self.outcomes["left"] += 1
                return
        for outcome in await work:
            if isinstance(outcome, ServiceError):
                assert outcome.reason in EXPECTED, outcome
                assert "deadlock" not in outcome.detail, outcome
                self.outcomes[outcome.reason.name] += 1
            else:
                self.outcomes["OK"] += 1

    @property
    def changes(self) -> list[Any]:
        return [self.adjust, self.subscribe, self.put_accounts, self.apply_levels]

    def some_holds(self) -> list[tuple[str, str]]:
        return self.choices.choices(self.holds, k=self.choices.randint(1, 12))

    def some_users(self) -> list[str]:
        return self.choices.choices(self.users, k=self.choices.randint(1, 6))

    async def place(self) -> list[Any]:
        requests = [
            placement(
                user_id,
                hold_id,
                tests=self.choices.randint(0, 1),
                credits=self.choices.choice([0, 0, 1, 3]),
                subject=f"subject-{self.choices.randint(1, 40)}",
            )
            for user_id, hold_id in self.some_holds()
        ]
        return await self.subscriptions.batch(HOLDS, "PlaceHold", requests)

    async def resolve(self) -> list[Any]:
        method = self.choices.choice(["CommitHold", "ReleaseHold"])
        request: Any = getattr(holds_pb2, f"{method}Request")
        requests = [request(user_id=user_id, hold_id=hold_id) for user_id, hold_id in self.some_holds()]
        return await self.subscriptions.batch(HOLDS, method, requests)

    async def read(self) -> list[Any]:
        requests = [accounts_pb2.GetEntitlementsRequest(user_id=u) for u in self.some_users()]
        return await self.subscriptions.batch(ACCOUNTS, "GetEntitlements", requests)

    async def plan(self) -> list[Any]:
        plan_id = self.choices.choice(list(PLAN_LIMITS))
        limit = self.choices.choice(PLAN_LIMITS[plan_id])
        monthly = self.choices.choice([0, 5])
        request = accounts_pb2.PutPlanRequest(
            plan_id=plan_id, name=plan_id, daily_test_limit=limit, monthly_credits=monthly
        )
        return await self.subscriptions.batch(PLANS, "PutPlan", [request])

    async def adjust(self) -> list[Any]:
        users = self.some_users()
        now = datetime.now(UTC)
        requests = [
            credits_pb2.AdjustCreditsRequest(
                user_id=user_id,
                amount=amount,
                reason="hammered",
                expires_at=now + timedelta(seconds=self.choices.randint(1, 5))
                if amount > 0 and self.choices.random() < 0.5
                else None,
            )
            for user_id in users
            for amount in (self.choices.choice([5, 2, -1, -3]),)
        ]
        keys = [f"key-{next(self.keys)}" for _ in users]
        outcomes = await self.subscriptions.batch(CREDITS, "AdjustCredits", requests, keys=keys)
        for key, outcome in zip(keys, outcomes, strict=True):
            if not isinstance(outcome, ServiceError):
                self.answered.setdefault(key, set()).add(outcome.SerializeToString())
        return outcomes

    async def subscribe(self) -> list[Any]:
        users = self.some_users()
        requests = [
            accounts_pb2.SetSubscriptionRequest(
                user_id=u,
                plan_id=self.choices.choice([*PLAN_LIMITS]),
                status=self.choices.choice(["ACTIVE", "ACTIVE", "TRIALING", "CANCELED"]),
            )
            for u in users
        ]
        keys = [f"key-{next(self.keys)}" for _ in users]
        return await self.subscriptions.batch(ACCOUNTS, "SetSubscription", requests, keys=keys)

    async def put_accounts(self) -> list[Any]:
        """Learners swap e-mail addresses: the one catalog row that two learners can want."""
        requests = [
            accounts_pb2.PutAccountRequest(
                user_id=u, email=f"{self.choices.choice(self.users)}@example.com", email_verified=True
            )
            for u in self.some_users()
        ]
        return await self.subscriptions.batch(ACCOUNTS, "PutAccount", requests)

    async def apply_levels(self) -> list[Any]:
        requests = [
            licenses_pb2.ApplyLicenseLevelRequest(
                user_id=u,
                specialization=self.choices.choice(["physics", "chemistry"]),
                level=self.choices.randint(1, 50),
                max_level=50,
                event_id=str(uuid.uuid4()),
                reason="hammered",
            )
            for u in self.some_users()
        ]
        return await self.subscriptions.batch(LICENSES, "ApplyLicenseLevel", requests)


async def watch_resolutions(subscriptions: Subscriptions) -> None:
    """Let the database record every change of a hold's state."""
    await subscriptions.truth.execute(
        """
        CREATE TABLE resolutions (hold_id uuid NOT NULL, from_state text NOT NULL, to_state text NOT NULL);
        GRANT ALL ON resolutions TO PUBLIC;
        CREATE FUNCTION note_resolution() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO resolutions VALUES (new.hold_id, old.state, new.state);
            RETURN new;
        END $$;
        CREATE TRIGGER note_resolution AFTER UPDATE ON holds FOR EACH ROW EXECUTE FUNCTION note_resolution();
        """
    )


async def settled(subscriptions: Subscriptions) -> None:
    """Wait until the transactions of cancelled callers have ended, and every connection is idle again."""
    database = subscriptions.database
    give_up_at = time.monotonic() + 15.0
    while database.pool_idle != database.pool_size or database.pool_waiting:
        assert time.monotonic() < give_up_at, "a connection was never given back"
        await asyncio.sleep(0.01)


async def test_tasks_that_hammer_the_same_learners_neither_deadlock_nor_leak_nor_miscount(
    subscriptions: Subscriptions,
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    for plan_id, limits in PLAN_LIMITS.items():
        await subscriptions.plan(plan_id, limit=limits[1])
    users = await subscriptions.accounts(LEARNERS)
    await watch_resolutions(subscriptions)
    hammer = Hammer(subscriptions, users, random.Random(seed))
    ends_at = time.monotonic() + SECONDS

    async def hammer_away() -> None:
        while time.monotonic() < ends_at:
            await hammer.strike()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(TASKS):
            tasks.create_task(hammer_away())
    await settled(subscriptions)

    print(dict(hammer.outcomes))
    assert hammer.outcomes["OK"] > 100
    assert hammer.outcomes["left"] > 10
    truth = subscriptions.truth
    assert await subscriptions.discrepancies() == []
    over = await truth.fetch("SELECT user_id FROM daily_usage WHERE used + held > $1", LIMIT_MAX)
    assert over == []
    twice = await truth.fetch(
        "SELECT hold_id FROM resolutions GROUP BY hold_id HAVING count(*) > 1 OR min(from_state) <> 'open'"
    )
    assert twice == []
    idle = await truth.fetch(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
    )
    assert idle == []
    for key, answers in hammer.answered.items():
        assert len(answers) == 1, key
    # What PostgreSQL itself has counted; a session's figures are complete when it has ended.
    await subscriptions.database.close()
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert await truth.fetchval(deadlocks) == 0
