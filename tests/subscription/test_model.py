"""Random histories of learners, on real PostgreSQL, against the reference: they never differ.

How many and how long is Hypothesis' profile (`HYPOTHESIS_PROFILE=nightly` for more); the seed is printed, and
`HYPOTHESIS_SEED` repeats it.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import os
import random
import uuid
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
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

from chassis.errors import Reason, ServiceError
from chassis.postgres import Database
from homeroom.embedded.provisioning import ServiceDatabase
from protos.subscription.v1 import accounts_pb2, credits_pb2, holds_pb2
from tests.subscription.reference import Learner, ReferenceHold, ReferencePlan, Refused, Taken
from tests.subscription.service import HOLDS, Subscriptions, placement

Run = Callable[[Coroutine[Any, Any, Any]], Any]

_runs = itertools.count(1)
SUBJECTS = ("physics#1", "chemistry#1", "history#1")
learners = st.integers(0, 1)
places = st.integers(0, 1_000_000)
subjects = st.sampled_from(SUBJECTS)
batches_of_subjects = st.lists(st.sampled_from([*SUBJECTS, "", "", ""]), min_size=2, max_size=6)


def found_in(outcome: Any) -> Any:
    """The outcome of a placement, as the reference names it."""
    if isinstance(outcome, ServiceError):
        return Refused(outcome.reason, dict(outcome.metadata))
    return outcome.hold if outcome.HasField("hold") else Taken(outcome.rival.hold_id)


class Histories(RuleBasedStateMachine):
    """Two learners and two plans of their own per history; the database is shared by all histories."""

    run: Run
    subscriptions: Subscriptions

    def __init__(self) -> None:
        super().__init__()
        number = next(_runs)
        self.user_ids = [f"run-{number}-{name}" for name in ("ann", "bob")]
        self.default = "free"
        self.plan_ids = [f"run-{number}-small", f"run-{number}-large"]
        self.plans = {self.default: ReferencePlan(self.default, 3, 0)}
        self.now = datetime(2026, 1, 30, 22, tzinfo=UTC)
        self.subscriptions.clock.moment = self.now
        self.do(self.subscriptions.plan(self.default, limit=3))
        for plan_id, limit, monthly in zip(self.plan_ids, (2, None), (0, 4), strict=True):
            self.set_plan(plan_id, limit, monthly)
        self.learners = [Learner(self.default) for _ in self.user_ids]
        for user_id in self.user_ids:
            self.do(self.subscriptions.account(user_id))
        self.hold_ids: list[list[str]] = [[], []]

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return type(self).run(work)

    def attempt(self, work: Coroutine[Any, Any, Any]) -> Any:
        try:
            return self.do(work)
        except ServiceError as refusal:
            return Refused(refusal.reason, dict(refusal.metadata))

    def place_in_reference(self, learner: Learner, wanted: ReferenceHold) -> ReferenceHold | Refused | Taken:
        return learner.place(wanted, self.plan_of(learner).limit, self.monthly_of(learner), self.now)

    def set_plan(self, plan_id: str, limit: int | None, monthly: int) -> None:
        self.do(self.subscriptions.plan(plan_id, limit=limit, monthly=monthly))
        self.plans[plan_id] = ReferencePlan(plan_id, limit, monthly)

    def plan_of(self, learner: Learner) -> ReferencePlan:
        return learner.plan_at(self.now, self.plans, self.default)

    def monthly_of(self, learner: Learner) -> int:
        return learner.monthly_at(self.now, self.plans, self.default)

    @property
    def today(self) -> str:
        return self.now.date().isoformat()

    @rule(
        who=learners, tests=st.integers(0, 1), credits_=st.integers(0, 4), subject=st.sampled_from(SUBJECTS)
    )
    def place_new(self, who: int, tests: int, credits_: int, subject: str) -> None:
        hold_id = str(uuid.uuid4())
        self.hold_ids[who].append(hold_id)
        self.place(who, hold_id, tests, credits_, subject)

    @precondition(lambda self: any(self.hold_ids))
    @rule(who=learners, which=places)
    def place_again(self, who: int, which: int) -> None:
        known = self.hold_ids[who]
        if known:
            self.place(who, known[which % len(known)], 1, 0, SUBJECTS[0])

    def place(self, who: int, hold_id: str, tests: int, credits_: int, subject: str) -> None:
        learner = self.learners[who]
        wanted = ReferenceHold(hold_id, tests, credits_, subject, self.today)
        expected = self.place_in_reference(learner, wanted)
        request = placement(self.user_ids[who], hold_id, tests=tests, credits=credits_, subject=subject)
        (outcome,) = self.do(self.subscriptions.batch(HOLDS, "PlaceHold", [request]))
        self.compare(found_in(outcome), expected)

    @rule(
        who=learners,
        wanted_subjects=st.lists(st.sampled_from([*SUBJECTS, "", "", ""]), min_size=2, max_size=6),
    )
    def place_many_in_a_batch(self, who: int, wanted_subjects: list[str]) -> None:
        """An empty subject stands for a subject that no other placement has."""
        learner = self.learners[who]
        requests, expected = [], []
        for subject in wanted_subjects:
            hold_id = str(uuid.uuid4())
            self.hold_ids[who].append(hold_id)
            request = placement(self.user_ids[who], hold_id, subject=subject or f"only {hold_id}")
            wanted = ReferenceHold(hold_id, 1, 0, request.subject, self.today)
            requests.append(request)
            expected.append(self.place_in_reference(learner, wanted))
        outcomes = self.do(self.subscriptions.batch(HOLDS, "PlaceHold", requests))
        for outcome, expectation in zip(outcomes, expected, strict=True):
            self.compare(found_in(outcome), expectation)

    @rule(who=learners, which=places, state=st.sampled_from(["COMMITTED", "RELEASED"]))
    def resolve(self, who: int, which: int, state: str) -> None:
        """One of the learner's holds, or one that was never placed."""
        known = self.hold_ids[who]
        place = which % (len(known) + 1)
        if place == len(known):
            known.append(str(uuid.uuid4()))
        hold_id = known[place]
        expected = self.learners[who].resolve(hold_id, state, self.today, self.now)
        request = holds_pb2.CommitHoldRequest(user_id=self.user_ids[who], hold_id=hold_id)
        end = self.subscriptions.commit if state == "COMMITTED" else self.subscriptions.release
        self.compare(self.attempt(end(request)), expected)

    @rule(who=learners, amount=st.integers(1, 6), hours=st.sampled_from([None, 1, 30, 24 * 40]))
    def grant(self, who: int, amount: int, hours: int | None) -> None:
        learner = self.learners[who]
        expires = None if hours is None else self.now + timedelta(hours=hours)
        learner.settle(self.now, self.monthly_of(learner))
        learner.add(amount, expires)
        answer = self.do(self.subscriptions.adjust(self.user_ids[who], amount, expires_at=expires))
        assert answer.balance == learner.balance

    @rule(who=learners, amount=st.integers(1, 6))
    def take_back(self, who: int, amount: int) -> None:
        learner = self.learners[who]
        learner.settle(self.now, self.monthly_of(learner))
        expected = learner.lacks(amount)
        found = self.attempt(self.subscriptions.adjust(self.user_ids[who], -amount))
        if expected is not None:
            assert found == expected
            return
        for credit in learner.take(amount):
            credit.gone = True
        assert found.balance == learner.balance

    @rule(hours=st.sampled_from([0.0, 0.5, 1.0, 1.9999999, 2.0, 12.0, 24.0, 24.0 * 9, 24.0 * 31]))
    def let_time_pass(self, hours: float) -> None:
        self.now += timedelta(hours=hours)
        self.subscriptions.clock.moment = self.now

    @rule(which=st.integers(0, 1), limit=st.sampled_from([0, 1, 2, 4, None]), monthly=st.integers(0, 5))
    def change_plan(self, which: int, limit: int | None, monthly: int) -> None:
        self.set_plan(self.plan_ids[which], limit, monthly)

    @rule(
        who=learners,
        which=st.integers(0, 1),
        status=st.sampled_from(["TRIALING", "ACTIVE", "ACTIVE", "PAST_DUE", "CANCELED"]),
        hours=st.sampled_from([None, None, 1, 24]),
    )
    def subscribe(self, who: int, which: int, status: str, hours: int | None) -> None:
        learner = self.learners[who]
        period_end = None if hours is None else self.now + timedelta(hours=hours)
        old = learner.status_at(self.now)
        learner.settle(self.now, self.monthly_of(learner))
        found = self.attempt(
            self.subscriptions.subscribe(self.user_ids[who], self.plan_ids[which], status, period_end)
        )
        if isinstance(found, Refused):
            assert found == Refused(Reason.ILLEGAL_TRANSITION, {"from": old, "to": status})
            assert old not in {"TRIALING", "ACTIVE"}
        else:
            learner.plan_id, learner.status, learner.period_end = self.plan_ids[which], status, period_end

    @rule(who=learners)
    def read_the_ledger(self, who: int) -> None:
        learner = self.learners[who]
        learner.settle(self.now, self.monthly_of(learner))
        request = credits_pb2.ListCreditEntriesRequest(user_id=self.user_ids[who], page_size=500)
        service = "homeroom.subscription.v1.CreditService"
        entries = self.do(self.subscriptions.one(service, "ListCreditEntries", request)).entries
        assert sum(entry.amount for entry in entries) == learner.balance
        assert all(entry.balance_after >= 0 for entry in entries)

    @invariant()
    def the_entitlements_are_those_of_the_reference(self) -> None:
        for user_id, learner in zip(self.user_ids, self.learners, strict=True):
            plan = self.plan_of(learner)
            # Reading settles nothing: it tells what would be there if somebody used it now.
            then = copy.deepcopy(learner)
            then.settle(self.now, self.monthly_of(learner))
            used, held = learner.tests(self.today)
            entitlements = self.do(self.subscriptions.entitlements(user_id))
            tests, credits_ = entitlements.tests, entitlements.credits
            status = accounts_pb2.Subscription.Status.Name(entitlements.status)
            assert (entitlements.plan_id, status) == (plan.plan_id, learner.status_at(self.now))
            assert (tests.limit if tests.HasField("limit") else None, tests.used, tests.held) == (
                plan.limit,
                used,
                held,
            )
            if plan.limit is not None:
                assert tests.remaining == max(0, plan.limit - used - held)
            assert (credits_.balance, credits_.held) == (then.balance, then.held_credits)
            assert credits_.available == credits_.balance - credits_.held >= 0

    def compare(self, found: Any, expected: ReferenceHold | Refused | Taken) -> None:
        if isinstance(expected, ReferenceHold):
            assert not isinstance(found, Refused | Taken), found
            state = holds_pb2.Hold.State.Name(found.state)
            assert (found.hold_id, state, found.tests, found.credits, found.day) == (
                expected.hold_id,
                expected.state,
                expected.tests,
                expected.credits,
                expected.day,
            )
        else:
            assert found == expected

    def teardown(self) -> None:
        assert self.do(self.subscriptions.wrong_sums()) == []


def test_no_history_differs_from_the_reference(
    subscription_database: ServiceDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("HYPOTHESIS_SEED") or random.randrange(2**32))
    with capsys.disabled():
        print(f"\nHYPOTHESIS_SEED={seed} ({hypothesis.settings().max_examples} histories)", end=" ")
    with asyncio.Runner() as runner:
        database = runner.run(Database.connect(subscription_database.service, maximum=2))
        truth = runner.run(asyncpg.connect(subscription_database.superuser))
        surroundings = {
            "run": staticmethod(runner.run),
            "subscriptions": Subscriptions(database, truth),
        }
        machine = type("Histories", (Histories,), surroundings)
        try:
            run_state_machine_as_test(
                hypothesis.seed(seed)(machine),
                settings=hypothesis.settings(suppress_health_check=list(HealthCheck)),
            )
            assert runner.run(surroundings["subscriptions"].findings()) == []
        finally:
            runner.run(truth.close())
            runner.run(database.close())
