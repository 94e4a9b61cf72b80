"""Many tabs and several processes on one session: one order explains whatever they are answered."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from chassis import failpoints
from chassis.batch import Item
from chassis.errors import Reason, ServiceError
from tests.session.test_process import SERVICE, send, settings_of
from tests.session.world import Session, World, body, reasons
from tests.support.service_process import serving
from tests.support.waiting import eventually

TABS = 32
QUESTIONS = 4
REFUSALS = {Reason.ILLEGAL_TRANSITION, Reason.SESSION_CLOSED}
# The state in which each kind of request may be carried out, and the one after it.
MOVES = {"pause": ("ACTIVE", "PAUSED"), "resume": ("PAUSED", "ACTIVE")}


class Tabs:
    """32 tabs of one learner, each with keys of its own, through two replicas."""

    def __init__(self, world: World, user: str, session: str, seed: int) -> None:
        self.world = world
        self.user = user
        self.session = session
        self.random = random.Random(seed)
        self.replicas = [world.assemble() for _ in range(2)]
        self.told: list[tuple[str, Item[Any], Any]] = []

    async def run(self) -> None:
        await asyncio.gather(*(self.tab(number) for number in range(TABS)))

    async def tab(self, number: int) -> None:
        for step in range(4):
            kind = self.random.choice(["answer", "answer", "answer", "pause", "resume", "beat"])
            if step == 3 and number % 8 == 0:
                kind = "complete"
            await self.act(kind, f"{number}-{step}")

    async def act(self, kind: str, key: str) -> None:
        if kind == "answer":
            question = self.random.randint(1, QUESTIONS)
            choice = self.random.choice([f"right {question}", "wrong"])
            item = self.world.answer(self.user, self.session, key, f"q{question}", choice)
        elif kind == "beat":
            item = self.world.beat(self.user, self.session, self.random.randint(1, 100))
        else:
            item = getattr(self.world, kind)(self.user, self.session, key)
        if self.random.random() < 0.2:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.random.uniform(0, 0.03)):
                    await self.world.send([item], self.random.choice(self.replicas))
        outcomes = await self.send(item)
        assert len({str(reasons([outcome])) for outcome in outcomes}) == 1
        outcome = outcomes[0]
        self.told.append((kind, item, outcome if isinstance(outcome, ServiceError) else body(item, outcome)))

    async def send(self, item: Item[Any]) -> list[Any]:
        """The outcomes, once the session's lock could be had: a client sends again what was UNAVAILABLE."""
        for _ in range(20):
            outcomes = await self.world.send(
                [item] * self.random.randint(1, 2), self.random.choice(self.replicas)
            )
            if Reason.UNAVAILABLE not in reasons(outcomes):
                break
        return outcomes

    def of(self, *kinds: str) -> list[Any]:
        """What was answered to the requests of these kinds that were carried out."""
        return [told for kind, _, told in self.told if kind in kinds and not isinstance(told, ServiceError)]


@pytest.mark.parametrize("seed", range(3))
async def test_32_tabs_at_once_get_answers_that_one_order_explains(world: World, seed: int) -> None:
    user, test = await world.learner(limit=1), await world.test(questions=QUESTIONS)
    session = (await world.started(user, test, "k")).session_id
    await world.one(world.answer(user, session, "first", "q1", "right 1"))
    tabs = Tabs(world, user, session, seed)
    await tabs.run()
    refusals = {told.reason for _, _, told in tabs.told if isinstance(told, ServiceError)}
    assert refusals <= REFUSALS, refusals
    done = tabs.of("complete")
    assert done
    assert len({told.SerializeToString(deterministic=True) for told in done}) == 1, "one result"

    # The answers to each question were numbered without gaps, in the order in which they were counted.
    (row,) = await world.sessions(user)
    answers = await world.truth.fetch(
        "SELECT question_id, attempt, correct, version FROM answers WHERE user_id = $1 ORDER BY version", user
    )
    assert (row["answers_given"], row["answers_correct"]) == (
        len(answers),
        sum(answer["correct"] for answer in answers),
    )
    assert len(tabs.of("answer")) == len(answers) - 1
    for question in range(1, QUESTIONS + 1):
        attempts = [each["attempt"] for each in answers if each["question_id"] == f"q{question}"]
        assert attempts == list(range(1, len(attempts) + 1))
    latest = {answer["question_id"]: answer["correct"] for answer in answers}
    assert (row["answered"], row["solved"]) == (len(latest), sum(latest.values()))
    assert done[0].session.score == row["solved"] / QUESTIONS

    # In the order of the versions, each move begins in the state in which the one before it ended.
    moves = sorted(
        (told.session.version, kind)
        for kind, _, told in tabs.told
        if kind in MOVES and not isinstance(told, ServiceError)
    )
    versions = [version for version, _ in moves] + [answer["version"] for answer in answers]
    assert len(set(versions)) == len(versions)
    assert {*versions, done[0].session.version} == set(range(2, done[0].session.version + 1))
    state = "ACTIVE"
    for _, kind in moves:
        before, after = MOVES[kind]
        assert state == before
        state = after
    await world.deliver()
    assert await world.units(user) == (0, 1)
    assert (await world.stats(user)).answers == len(answers)


@pytest.mark.fault
@pytest.mark.parametrize("point", ["session.before_changes_committed", "session.after_changes_committed"])
@pytest.mark.parametrize("kind", ["answer", "complete", "abandon", "pause"])
async def test_a_change_survives_the_death_of_its_process(
    world: World, tmp_path: Path, point: str, kind: str
) -> None:
    user, test = await world.learner(limit=1), await world.test()
    session = (await world.started(user, test, "k")).session_id
    if kind == "answer":
        item = world.answer(user, session, "c", "q1", "right 1")
    else:
        await world.one(world.answer(user, session, "a", "q1", "right 1"))
        item = getattr(world, kind)(user, session, "c")
    settings = settings_of(world) | {"HOMEROOM_FAILPOINTS_DIR": str(tmp_path)}
    async with serving(SERVICE, **settings) as process:
        failpoints.arm(tmp_path, point, "kill")
        assert all(isinstance(outcome, ServiceError) for outcome in await send(process, item))
        assert await process.ended() == -signal.SIGKILL
    committed = point == "session.after_changes_committed"
    (outcome,) = await world.send([item])
    assert outcome.replayed is committed
    (row,) = await world.sessions(user)
    assert row["answers_given"] == 1
    await world.deliver()
    spent = kind in {"complete", "abandon"}
    assert await world.units(user) == ((0, 1) if spent else (1, 0))
    assert (await world.stats(user)).completed_sessions == int(kind == "complete")


def impatient(world: World) -> dict[str, str]:
    """A process whose sessions are given up after two seconds without a heartbeat."""
    return settings_of(world) | {
        "HOMEROOM_HEARTBEAT_INTERVAL_SECONDS": "1",
        "HOMEROOM_SESSION_LEASE_SECONDS": "2",
        "HOMEROOM_SESSION_LEFT_LEASE_SECONDS": "1",
        "HOMEROOM_SESSION_SWEEP_INTERVAL_SECONDS": "0.1",
        "HOMEROOM_DEADLINE_GRACE_SECONDS": "0",
    }


@pytest.mark.fault
async def test_a_process_that_slept_past_a_lease_changes_nothing_any_more(world: World) -> None:
    user, test = await world.learner(limit=1), await world.test()
    async with serving(SERVICE, **impatient(world)) as sleeper, serving(SERVICE, **impatient(world)) as other:
        start = world.start(user, test, "k")
        session = body(start, (await send(sleeper, start))[0]).session.session_id
        assert reasons(await send(sleeper, world.beat(user, session, 1))) == [None]
        sleeper.child.send_signal(signal.SIGSTOP)
        late = [
            world.answer(user, session, "a", "q1", "right 1"),
            world.complete(user, session, "c"),
            world.beat(user, session, 2),
        ]
        sending = [asyncio.create_task(send(sleeper, item)) for item in late]

        async def given_up() -> bool:
            (row,) = await world.sessions(user)
            return row["close_reason"] == "never_used" and await world.units(user) == (0, 0)

        try:
            await eventually(given_up)
        finally:
            sleeper.child.send_signal(signal.SIGCONT)
        outcomes = [(await each)[0] for each in sending]
        for outcome in outcomes[:2]:
            assert outcome.reason in {*REFUSALS, Reason.UNAVAILABLE, Reason.DEADLINE_EXCEEDED}
        again = world.start(user, test, "k2")
        assert body(again, (await send(other, again))[0]).session.resumed is False
        assert (await world.sessions(user))[0]["answered"] == 0
        assert await world.units(user) == (1, 0)


@pytest.mark.fault
async def test_two_processes_close_a_timed_out_session_once_and_within_seconds(
    world: World, tmp_path: Path
) -> None:
    users = [await world.learner(limit=1) for _ in range(6)]
    test = await world.test(time_limit_seconds=600, xp=5)
    for user in users:
        session = (await world.started(user, test, "k")).session_id
        await world.one(world.answer(user, session, "a", "q1", "right 1"))
        await world.later(session, timedelta(seconds=601))
    settings = impatient(world) | {"HOMEROOM_FAILPOINTS_DIR": str(tmp_path)}
    failpoints.arm(tmp_path, "session.after_sweep", "error")
    async with serving(SERVICE, **settings), serving(SERVICE, **settings):

        async def counted() -> bool:
            rows = [(await world.sessions(user))[0] for user in users]
            units = [await world.units(user) for user in users]
            return {row["state"] for row in rows} == {"expired"} and set(units) == {(0, 1)}

        await eventually(counted)
    await world.deliver()
    for user in users:
        stats = await world.stats(user)
        assert (stats.completed_sessions, stats.answers, stats.xp) == (1, 1, 5)
        assert (await world.get(user, str((await world.sessions(user))[0]["session_id"]))).state == (
            Session.EXPIRED
        )
