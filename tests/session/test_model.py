"""Random histories of one learner, on real PostgreSQL, against the reference: they never differ.

`HYPOTHESIS_PROFILE=nightly` tries more of them, and longer ones.
The seed is printed, and `HYPOTHESIS_SEED` repeats it.
A clock step moves the stored times of the sessions. All steps are multiples of 20 seconds and all limits lie
between two of them, so the seconds that a history takes on the wall make no difference.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chassis import failpoints
from chassis.batch import Item
from chassis.errors import ServiceError
from session_service.__main__ import Parts
from session_service.domain.timing import TimeRules
from tests.diagnostics.session_faults import alarms
from tests.session import reference
from tests.session.reference import ReferenceSession, Refused
from tests.session.world import Session, World, body, new_world, unique
from tests.support.databases import Databases

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
HISTORIES, STEPS = (1000, 60) if NIGHTLY else (10, 40)
DRIFT_SECONDS_MAX = 8.0

TIMES = TimeRules(
    grace=timedelta(seconds=reference.GRACE),
    pause_budget=timedelta(seconds=reference.PAUSE_BUDGET),
    idle_allowed=timedelta(seconds=reference.IDLE_ALLOWED),
    heartbeat_interval=timedelta(seconds=reference.INTERVAL),
    lease=timedelta(seconds=reference.LEASE),
    left_lease=timedelta(seconds=reference.LEFT_LEASE),
)
tests = st.integers(0, 1)
# How a request is sent: once, twice in one batch, or again after it was cancelled or crashed at some moment.
ways = st.sampled_from(["once", "once", "twice", "interrupted", "crashed"])
CRASHES = (
    "session.after_holds_placed",
    "session.after_commit",
    "session.before_changes_committed",
    "session.after_changes_committed",
)
"""Where a request crashes: what it has written until then stays, and its caller gets no answer."""
sides = st.integers(0, 1)


class Histories(RuleBasedStateMachine):
    """A learner, a test with a time limit and one without, and two replicas of the service."""

    run: Callable[[Coroutine[Any, Any, Any]], Any]
    world: World
    replicas: tuple[Parts, Parts]
    test_ids: tuple[str, str]
    points: Path
    crashed: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.user = self.do(self.world.learner())
        self.now = 0
        self.sessions: list[list[ReferenceSession]] = [[], []]
        self.ids: list[list[str]] = [[], []]
        self.done: list[tuple[Item[Any], bytes]] = []

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return type(self).run(work)

    def send(self, item: Item[Any], way: str, side: int) -> Any:
        """The answer's message or the refusal, after whatever happened on the way."""
        return self.do(self._send(item, way, self.replicas[side]))

    async def _send(self, item: Item[Any], way: str, parts: Parts) -> Any:
        if way == "interrupted":
            first = asyncio.create_task(self.world.send([item], parts))
            for _ in range(random.randrange(40)):
                await asyncio.sleep(0)
            first.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await first
        if way == "crashed":
            point = random.choice(CRASHES)
            failpoints.arm(self.points, point, "error")
            with contextlib.suppress(failpoints.FailpointError):
                await self.world.send([item], parts)
            if (self.points / point).exists():
                (self.points / point).unlink()  # the request has not come by
            else:
                self.crashed.append(point)
        outcomes = await self.world.send([item] * (2 if way == "twice" else 1), parts)
        if way == "twice" and not any(isinstance(outcome, ServiceError) for outcome in outcomes):
            assert outcomes[0].payload() == outcomes[1].payload()
        if isinstance(outcomes[0], ServiceError):
            metadata = outcomes[0].metadata
            move = (metadata["from"], metadata["to"]) if "from" in metadata else None
            return Refused(outcomes[0].reason.name, move)
        if item.context.idempotency_key:
            self.done.append((item, outcomes[0].payload()))
        return body(item, outcomes[0])

    # --- rules ---------------------------------------------------------------------------------------

    @rule(which=tests, way=ways, side=sides)
    def start(self, which: int, way: str, side: int) -> None:
        history = self.sessions[which]
        if history:
            history[-1].catch_up(self.now)
        resumed = bool(history) and history[-1].live
        told = self.send(self.world.start(self.user, self.test_ids[which], unique("s")), way, side).session
        if resumed:
            history[-1].resumed_by_start(self.now)
        else:
            history.append(ReferenceSession(self.now, timed=which == 0))
            self.ids[which].append(told.session_id)
        assert told.session_id == self.ids[which][-1]
        assert way != "once" or told.resumed is resumed

    def began(self) -> bool:
        return any(self.sessions)

    def latest(self, which: int) -> tuple[ReferenceSession, str]:
        which = which if self.sessions[which] else 1 - which
        return self.sessions[which][-1], self.ids[which][-1]

    @precondition(began)
    @rule(which=tests, question=st.integers(1, 3), right=st.booleans(), way=ways, side=sides)
    def answer(self, which: int, question: int, right: bool, way: str, side: int) -> None:
        session, name = self.latest(which)
        choice = f"right {question}" if right else "wrong"
        told = self.send(self.world.answer(self.user, name, unique("a"), f"q{question}", choice), way, side)
        expected = session.answer(question, right, self.now)
        if expected is not None:
            assert told == expected
            return
        given = [each for each, _ in session.given]
        assert (told.correct, told.attempts, told.answered) == (
            right,
            given.count(question),
            len(session.latest),
        )

    @precondition(began)
    @rule(
        which=tests,
        to=st.sampled_from(["PAUSED", "PAUSED", "ACTIVE", "ACTIVE", "COMPLETED", "ABANDONED"]),
        way=ways,
        side=sides,
    )
    def move(self, which: int, to: str, way: str, side: int) -> None:
        session, name = self.latest(which)
        request = {
            "PAUSED": self.world.pause,
            "ACTIVE": self.world.resume,
            "COMPLETED": self.world.complete,
            "ABANDONED": self.world.abandon,
        }[to]
        told = self.send(request(self.user, name, unique("m")), way, side)
        expected = session.complete(self.now) if to == "COMPLETED" else session.move(to, self.now)
        if expected is not None:
            assert told == expected
        else:
            self.compare(told.session, session)

    @precondition(began)
    @rule(which=tests, ahead=st.integers(-2, 4), visible=st.booleans(), way=ways, side=sides)
    def beat(self, which: int, ahead: int, visible: bool, way: str, side: int) -> None:
        session, name = self.latest(which)
        seq = max(1, session.seq + ahead)
        told = self.send(self.world.beat(self.user, name, seq, visible=visible), way, side)
        session.beat(seq, visible, self.now)
        assert (Session.State.Name(told.state), told.seq) == (session.state, session.seq)
        assert session.engaged <= told.engaged_seconds < session.engaged + DRIFT_SECONDS_MAX

    @precondition(began)
    @rule(which=tests, way=ways, side=sides)
    def leave(self, which: int, way: str, side: int) -> None:
        session, name = self.latest(which)
        told = self.send(self.world.leave(self.user, name), way, side)
        session.leave(self.now)
        assert Session.State.Name(told.state) == session.state

    @precondition(began)
    @rule(steps=st.sampled_from([1, 1, 2, 4, 10, 16, 31, 61]))
    def wait(self, steps: int) -> None:
        self.now += 20 * steps
        for name in [*self.ids[0], *self.ids[1]]:
            self.do(self.world.later(name, timedelta(seconds=20 * steps)))

    @precondition(began)
    @rule(side=sides)
    def sweep(self, side: int) -> None:
        parts = self.replicas[side]
        self.do(parts.sweep.close_overdue())
        self.do(parts.sweep.close_unused())
        self.do(parts.sweep.close_idle())
        for session in [*self.sessions[0], *self.sessions[1]]:
            session.catch_up(self.now)
            session.sweep_unused(self.now)
            session.sweep_idle(self.now)

    @precondition(lambda self: bool(self.done))
    @rule(place=st.integers(0, 10**6), side=sides)
    def replay(self, place: int, side: int) -> None:
        item, payload = self.done[place % len(self.done)]
        (again,) = self.do(self.world.send([item], self.replicas[side]))
        assert (again.replayed, again.payload()) == (True, payload)

    @rule()
    def deliver(self) -> None:
        self.do(self.world.deliver())

    # --- what must hold ------------------------------------------------------------------------------

    @invariant()
    def each_session_is_as_the_reference_says(self) -> None:
        for which in (0, 1):
            if self.sessions[which]:
                session = self.sessions[which][-1]
                session.catch_up(self.now)
                self.compare(self.do(self.world.get(self.user, self.ids[which][-1])), session)

    def compare(self, seen: Any, session: ReferenceSession) -> None:
        assert (Session.State.Name(seen.state), seen.close_reason, seen.answered) == (
            session.state,
            session.close_reason,
            len(session.latest),
        )
        if not session.live:
            assert (round(seen.score, 6), seen.passed) == (round(session.score, 6), session.passed)
        if session.live and session.timed:
            seconds = seen.deadline_at.ToMilliseconds() / 1000 - seen.started_at.ToMilliseconds() / 1000
            paused = session.paused_before
            end = session.pause_end()
            if session.paused is not None and end is not None:
                paused += end - session.paused
            assert abs(seconds - reference.TIME_LIMIT - paused) < DRIFT_SECONDS_MAX

    def teardown(self) -> None:
        self.do(self.check_totals())

    async def check_totals(self) -> None:
        """The holds, the statistics and the counters say what the histories of answers say."""
        for parts in self.replicas:
            await parts.sweep.close_overdue()
        await self.world.deliver()
        every = [*self.sessions[0], *self.sessions[1]]
        for session in every:
            session.catch_up(self.now)
        ended = [session for session in every if not session.live]
        held = sum(session.live for session in every)
        assert await self.world.units(self.user) == (held, sum(session.counts for session in ended))
        stats = await self.world.stats(self.user)
        assert stats.completed_sessions == sum(session.completed for session in ended)
        assert stats.answers == sum(len(session.given) for session in ended)
        assert stats.correct == sum(right for session in ended for _, right in session.given)
        rows = await self.world.truth.fetch(
            "SELECT session_id::text AS name, answers_given, answers_correct, solved,"
            " (SELECT count(*) FROM answers WHERE answers.session_id = sessions.session_id) AS kept"
            " FROM sessions WHERE user_id = $1 ORDER BY session_id",
            self.user,
        )
        expected = {
            name: (len(session.given), sum(right for _, right in session.given), sum(session.latest.values()))
            for which in (0, 1)
            for name, session in zip(self.ids[which], self.sessions[which], strict=True)
        }
        assert {
            row["name"]: (row["answers_given"], row["answers_correct"], row["solved"]) for row in rows
        } == (expected)
        assert all(row["kept"] == row["answers_given"] for row in rows)
        # Steps of the clock move sessions and not their answers, and not all sweeps have been here.
        skewed = ("session.late_answer", "session.ghost")
        assert not await alarms(self.world, *skewed, user_id=self.user, times=TIMES)


def test_no_history_differs_from_the_reference(
    databases: Databases, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    seed = int(os.environ.get("HYPOTHESIS_SEED") or random.randrange(2**32))
    with capsys.disabled():
        print(f"\nHYPOTHESIS_SEED={seed} ({HISTORIES} histories)", end=" ")
    with asyncio.Runner() as runner:
        made = new_world(databases)
        failpoints.configure(tmp_path, allowed=True)
        crashed: list[str] = []
        world = runner.run(made.__aenter__())
        try:
            timed = runner.run(
                world.test(
                    questions=3, pass_score=reference.PASS_SCORE, time_limit_seconds=reference.TIME_LIMIT
                )
            )
            surroundings = {
                "run": staticmethod(runner.run),
                "world": world,
                "replicas": (world.assemble(times=TIMES), world.assemble(times=TIMES)),
                "points": tmp_path,
                "crashed": crashed,
                "test_ids": (timed, runner.run(world.test(questions=3, pass_score=reference.PASS_SCORE))),
            }
            run_state_machine_as_test(
                hypothesis.seed(seed)(type("Histories", (Histories,), surroundings)),
                settings=hypothesis.settings(
                    max_examples=HISTORIES,
                    stateful_step_count=STEPS,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
            assert crashed
        finally:
            failpoints.configure(None, allowed=True)
            runner.run(made.__aexit__(None, None, None))
