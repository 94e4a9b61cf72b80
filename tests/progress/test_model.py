"""Random histories of results, resets, grants and catalogs, on real PostgreSQL, against the reference.

`HYPOTHESIS_PROFILE=nightly` tries more and longer ones. The seed is printed;
`HYPOTHESIS_SEED` repeats it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
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

from chassis.batch import Reply
from chassis.postgres import Database
from homeroom.embedded.provisioning import ServiceDatabase
from progress_service.domain.license_changes import LicenseChange
from progress_service.domain.license_orders import LicenseOrder
from progress_service.domain.resets import Reset, ResetOrder, Scope
from progress_service.domain.statistics import SessionResult, UserId
from progress_service.operations.catalog_changes import LevelRaising
from progress_service.operations.resets import ResetOperations
from progress_service.store.catalog_changes import CatalogChangeStore
from progress_service.store.license_feed import LicenseFeedStore
from progress_service.store.resets import ResetStore
from tests.progress.conftest import Progress, asked, progress_over
from tests.progress.findings import findings_of
from tests.progress.reference import Ladder, ReferenceLearner, ReferenceReset
from tests.progress.results import completed
from tests.progress.specializations import achievements, orders, put_levels, standing

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
HISTORIES = 3000 if NIGHTLY else 30
STEPS = 50 if NIGHTLY else 20

_runs = itertools.count(1)
_sequences = itertools.count(1)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
learners = st.integers(0, 1)
places = st.integers(0, 1_000_000)
ladders = st.lists(st.integers(0, 60), min_size=1, max_size=5).map(lambda steps: [0, *sorted(steps[1:])])


class Histories(RuleBasedStateMachine):
    """Two learners and two specializations of their own per history; the second comes to the catalog late."""

    run: Callable[[Coroutine[Any, Any, Any]], Any]
    progress: Progress
    resets: ResetOperations
    feed: LicenseFeedStore
    raising: LevelRaising

    def __init__(self) -> None:
        super().__init__()
        number = next(_runs)
        self.user_ids = [UserId(f"run-{number}-{name}") for name in ("ann", "bob")]
        self.names = [f"run-{number}-{name}" for name in ("PLAYER", "COACH")]
        self.catalog: dict[str, Ladder] = {}
        self.outdated: set[str] = set()
        self.learners = [ReferenceLearner() for _ in self.user_ids]
        self.told: list[tuple[int, SessionResult]] = []
        self.changes: list[LicenseChange] = []
        self.granted: list[set[tuple[str, int, int]]] = [set(), set()]
        self.put(0, [0, 10, 20])

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return type(self).run(work)

    @rule(
        results=st.lists(
            st.tuples(
                learners,
                st.integers(0, 2),
                st.integers(0, 25),
                st.booleans(),
                st.integers(0, 1),
                places,
                st.integers(0, 8),
            ),
            min_size=1,
            max_size=6,
        ),
        repeats=st.lists(places, max_size=3),
        shuffle=st.randoms(use_true_random=False),
    )
    def tell(
        self,
        results: list[tuple[int, int, int, bool, int, int, int]],
        repeats: list[int],
        shuffle: random.Random,
    ) -> None:
        batch = []
        for who, which, xp, is_completed, answered, when, days in results:
            session_id = f"s{len(self.told) + len(batch)}"
            name = [*self.names, ""][which]
            result = completed(
                self.user_ids[who],
                session_id,
                specialization=name,
                completed=is_completed,
                passed=is_completed,
                answered=answered,
                answers=answered,
                correct=0,
                xp=xp if is_completed else 0,
                closed_at=self.moment(who, when, days),
            )
            batch.append((who, result))
        self.told += batch
        batch += [self.told[place % len(self.told)] for place in repeats]
        shuffle.shuffle(batch)
        self.do(self.progress.tell(*(result for _, result in batch)))
        for who, learner in enumerate(self.learners):
            learner.tell([result for whose, result in batch if whose == who], self.catalog)

    def moment(self, who: int, when: int, days: int) -> datetime:
        """A time in one of the learner's epochs: long ago, on one of nine days, or right after a reset."""
        resets = self.learners[who].resets
        place = when % (len(resets) + 1)
        if place == 0:
            return LONG_AGO + timedelta(days=days)
        return resets[place - 1].at

    @rule(which=st.integers(0, 1), ladder=ladders)
    def put(self, which: int, ladder: Ladder) -> None:
        name = self.names[which]
        self.do(put_levels(self.progress.truth, name, ladder))
        self.catalog[name] = ladder
        self.outdated.add(name)

    @rule()
    def follow_catalog(self) -> None:
        self.do(self.raising.raise_due())
        for learner in self.learners:
            learner.follow_catalog(self.outdated, self.catalog)
        self.outdated.clear()

    @rule(who=learners, which=st.integers(0, 2), repeated=st.booleans())
    def reset(self, who: int, which: int, repeated: bool) -> None:
        learner = self.learners[who]
        name = [*self.names, ""][which]
        if name and name not in self.catalog and name not in learner.standings:
            return
        order = ResetOrder(
            user_id=self.user_ids[who],
            scope=Scope.SPECIALIZATION if name else Scope.ALL,
            name=name,
            ordered_by="root",
            reason="a new season",
        )
        key = f"{self.user_ids[who]} {len(learner.resets)}"
        item = asked(order)
        item = item._replace(context=item.context._replace(user_id="root", idempotency_key=key))
        found: list[Reset] = []

        def render(reset: Reset) -> bytes:
            found.append(reset)
            return b"reset"

        for outcome in self.do(self.resets.reset_progress([item] * (1 + repeated), render)):
            assert isinstance(outcome, Reply), outcome
        (begun,) = found
        learner.reset(ReferenceReset(begun.epoch, name, begun.reset_at), self.catalog)

    @rule(
        advances=st.lists(
            st.tuples(learners, st.integers(0, 1), st.integers(1, 6), places), min_size=1, max_size=4
        ),
        repeats=st.integers(0, 3),
    )
    def advance(self, advances: list[tuple[int, int, int, int]], repeats: int) -> None:
        """Changes of licenses arrive, after some that have arrived before; some belong to older epochs."""
        fresh = []
        for who, which, level, when in advances:
            learner = self.learners[who]
            name = self.names[which]
            epochs = [0, *(reset.epoch for reset in learner.resets)]
            fresh.append(
                LicenseChange(
                    sequence=next(_sequences),
                    user_id=self.user_ids[who],
                    specialization=name,
                    level=level,
                    max_level=10,
                    epoch=epochs[when % len(epochs)] if when % 3 else learner.epoch(name),
                    advanced=when % 5 > 0,
                )
            )
        told = self.changes[len(self.changes) - repeats :] + fresh
        for _ in range(2):  # two replicas read the same
            self.do(self.feed.apply_changes(told, deadline=asked(None).deadline))
        self.changes += fresh
        for who, learner in enumerate(self.learners):
            theirs = [
                (change.specialization, change.level, change.epoch)
                for change in fresh
                if change.user_id == self.user_ids[who] and change.advanced
            ]
            learner.grant(theirs, self.catalog)
            self.granted[who].update(theirs)

    @precondition(lambda self: self.told)
    @invariant()
    def every_learner_has_what_the_reference_says(self) -> None:
        for who, (user_id, learner) in enumerate(zip(self.user_ids, self.learners, strict=True)):
            for name in self.names:
                found = self.do(standing(self.progress.truth, user_id, name))
                assert found == learner.standings.get(name), (user_id, name)
            assert self.do(achievements(self.progress.truth, user_id)) == learner.achievements
            totals = self.do(self.progress.stats(user_id)).statistics
            counted = [result for result in learner.results.values() if result.counts]
            assert totals.xp == sum(result.xp for result in counted)
            assert totals.completed_sessions == sum(result.completed for result in counted)
            assert totals.version == learner.version
            self.licenses_follow(who, self.do(orders(self.progress.truth, user_id)))

    def licenses_follow(self, who: int, told: list[LicenseOrder]) -> None:
        """The orders, in any order, and the grants amount to the level of the progress."""
        learner = self.learners[who]
        assert len({order.event_id for order in told}) == len(told)
        for name, known in learner.standings.items():
            levels = [(order.epoch, order.level) for order in told if order.specialization == name]
            levels += [(epoch, level) for each, level, epoch in self.granted[who] if each == name]
            levels = [level for level in levels if level[0] <= known.epoch]
            if known.level:
                assert max(levels) == (known.epoch, known.level), (name, told)

    def teardown(self) -> None:
        found = self.do(self.progress.discrepancies())
        ours = [each for each in found if each.user_id in self.user_ids and each.total != "version"]
        assert ours == []


def test_no_history_differs_from_the_reference(
    progress_database: ServiceDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("HYPOTHESIS_SEED") or random.randrange(2**32))
    with capsys.disabled():
        print(f"\nHYPOTHESIS_SEED={seed} ({HISTORIES} histories)", end=" ")
    with asyncio.Runner() as runner:
        database = runner.run(Database.connect(progress_database.service, maximum=2))
        truth = runner.run(asyncpg.connect(progress_database.superuser))
        surroundings = {
            "run": staticmethod(runner.run),
            "progress": progress_over(database, truth),
            "resets": ResetOperations(store=ResetStore(database), wake_relay=lambda: None),
            "feed": LicenseFeedStore(database),
            "raising": LevelRaising(store=CatalogChangeStore(database), wake_relay=lambda: None),
        }
        machine = type("Histories", (Histories,), surroundings)
        try:
            run_state_machine_as_test(
                hypothesis.seed(seed)(machine),
                settings=hypothesis.settings(
                    max_examples=HISTORIES,
                    stateful_step_count=STEPS,
                    deadline=None,
                    print_blob=True,
                    suppress_health_check=list(HealthCheck),
                ),
            )
            while runner.run(surroundings["raising"].raise_due()) is not None:
                pass
            assert runner.run(findings_of(database, settled=True)) == []
        finally:
            runner.run(truth.close())
            runner.run(database.close())
