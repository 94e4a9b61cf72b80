"""Everything at once, for a few learners, through several replicas: afterwards the books balance."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from functools import partial
from typing import Any

import pytest

from chassis.batch import Reply
from chassis.errors import Reason
from chassis.process.background import Background
from chassis.telemetry.metrics import Metrics
from session_service.__main__ import Parts, add_jobs
from tests.session.world import World, body, reasons

LIMIT = 6
REFUSALS = {
    None,
    Reason.DAILY_LIMIT_REACHED,
    Reason.IDEMPOTENCY_KEY_REUSED,
    Reason.ILLEGAL_TRANSITION,
    Reason.REQUEST_ABORTED,
    Reason.SESSION_CLOSED,
    Reason.DEADLINE_PASSED,
    Reason.UNAVAILABLE,
}


class Storm:
    """Batches of random requests, many under way at once."""

    def __init__(self, world: World, users: list[str], tests: list[str], seed: int) -> None:
        self.world = world
        self.users = users
        self.tests = tests
        self.random = random.Random(seed)
        self.replicas = [world.assemble() for _ in range(3)]
        self.sessions: defaultdict[str, list[str]] = defaultdict(list)
        self.by_key: defaultdict[tuple[str, str], set[bytes]] = defaultdict(set)
        self.reasons: Counter[Reason | None] = Counter()

    async def starts(self, replica: Parts) -> None:
        users = [self.random.choice(self.users) for _ in range(self.random.randint(1, 12))]
        items = []
        for user in users:
            test = self.random.choice(self.tests)
            key = "any" if self.random.random() < 0.1 else f"{test}-{self.random.randint(0, 8)}"
            items.append(self.world.start(user, test, key))
        outcomes = await self.send_impatiently(items, replica)
        for item, outcome in zip(items, outcomes, strict=bool(outcomes)):
            self.reasons[reasons([outcome])[0]] += 1
            if isinstance(outcome, Reply):
                user = item.context.user_id
                self.by_key[user, item.context.idempotency_key].add(outcome.payload())
                self.sessions[user].append(body(item, outcome).session.session_id)

    async def send_impatiently(self, items: list[Any], replica: Parts) -> list[Any]:
        """The outcomes; one batch in five is cancelled if it takes longer than a moment."""
        seconds = self.random.uniform(0.0, 0.05) if self.random.random() < 0.2 else None
        try:
            async with asyncio.timeout(seconds):
                return await self.world.send(items, replica)
        except TimeoutError:
            return []

    async def changes(self, replica: Parts) -> None:
        live = [(user, self.random.choice(ids)) for user, ids in self.sessions.items()]
        kind = self.random.choice(["answer", "answer", "complete", "abandon", "expire"])
        items: list[Any] = []
        for user, session in live:
            key = f"{kind}{self.random.randint(0, 200)}"
            if kind == "answer":
                choice = self.random.choice(["right 1", "wrong"])
                items.append(self.world.answer(user, session, key, "q1", choice))
            elif kind == "expire" and self.random.random() < 0.3:
                await self.world.database.execute_write(
                    "UPDATE sessions SET deadline_at = started_at"
                    " WHERE user_id = $1 AND session_id = $2 AND state = 'active'",
                    user,
                    session,
                    deadline=time.monotonic() + 10,
                )
            elif kind != "expire":
                items.append(getattr(self.world, kind)(user, session, key))
        if items:
            self.reasons.update(reasons(await self.world.send(items, replica)))

    async def run(self, rounds: int) -> None:
        for _ in range(rounds):
            replica = self.random.choice(self.replicas)
            await self.random.choice([self.starts, self.starts, self.changes])(replica)


@pytest.mark.parametrize("seed", range(3))
async def test_after_a_storm_the_books_balance(fresh_world: World, seed: int) -> None:
    world = fresh_world
    print("seed", seed, flush=True)
    users = [await world.learner(limit=LIMIT) for _ in range(5)]
    tests = [await world.test(questions=1) for _ in range(4)]
    storm = Storm(world, users, tests, seed)
    background = Background(metrics=Metrics(service="session_service"))
    add_jobs(
        background, world.parts, hold_interval_seconds=0.05, sweep_interval_seconds=0.05
    )  # the janitor races every start
    for topic in world.parts.relay.topics:
        job = background.add(topic, partial(world.parts.relay.deliver_due, topic), interval_seconds=1.0)
        world.parts.relay.at_wake(job.wake)
    background.start()
    try:
        await asyncio.gather(*(storm.run(25) for _ in range(8)))
    finally:
        await background.stop()
    print({str(k): v for k, v in storm.reasons.items()})
    assert set(storm.reasons) <= REFUSALS, storm.reasons
    assert storm.reasons[None] > 100
    assert {key: len(answers) for key, answers in storm.by_key.items() if len(answers) > 1} == {}

    await world.parts.sweep.close_overdue()
    await world.deliver()
    await world.parts.janitor.resolve_holds()
    for user in users:
        sessions = {str(row["session_id"]): row for row in await world.sessions(user)}
        assert set(storm.sessions[user]) <= set(sessions), "what a 2xx named exists"
        expected = {}
        for row in sessions.values():
            live = row["state"] in {"active", "paused"}
            expected[str(row["hold_id"])] = "open" if live else "committed" if row["answered"] else "released"
            given = await world.truth.fetch(
                "SELECT question_id, attempt, correct FROM answers WHERE user_id = $1 AND session_id = $2",
                user,
                row["session_id"],
            )
            assert sorted(answer["attempt"] for answer in given) == list(range(1, len(given) + 1))
            assert (row["answers_given"], row["answers_correct"]) == (
                len(given),
                sum(answer["correct"] for answer in given),
            )
        holds = await world.holds(user)
        assert {hold: state for hold, state in holds.items() if hold in expected} == expected
        assert {state for hold, state in holds.items() if hold not in expected} <= {"released"}
        states = Counter(expected.values())
        assert await world.units(user) == (states["open"], states["committed"])
        assert states["open"] + states["committed"] <= LIMIT
