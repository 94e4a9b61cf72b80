"""How a session ends: completed, abandoned or expired; what it costs, and what the others hear."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from chassis.errors import Reason
from chassis.rpc.client import Upstream
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.tracing import Tracing
from session_service.domain.holds import HoldName
from session_service.progress_client import RESULT_TOPIC
from session_service.subscription_client import COMMIT_TOPIC, RELEASE_TOPIC, SubscriptionClient
from tests.session.world import Session, World, body, reasons


async def begun(world: World, answers: int = 0, **test: Any) -> tuple[str, str]:
    user = await world.learner()
    session = (await world.started(user, await world.test(**test), "start")).session_id
    for n in range(1, answers + 1):
        await world.one(world.answer(user, session, f"a{n}", f"q{n}", f"right {n}"))
    return user, session


async def test_a_completed_session_spends_its_unit_and_is_counted_once(world: World) -> None:
    user, session = await begun(world, answers=2, questions=4, pass_score=0.5, xp=30)
    done = (await world.one(world.complete(user, session, "c"))).session
    assert (done.state, done.close_reason, done.score, done.passed) == (
        Session.COMPLETED,
        "submitted",
        0.5,
        True,
    )
    assert done.submitted_at == done.closed_at
    assert len(done.questions) == 4
    assert await world.get(user, session) == done
    assert await world.events(user) == [RESULT_TOPIC, COMMIT_TOPIC]
    await world.deliver()
    assert await world.units(user) == (0, 1)
    stats = await world.stats(user)
    assert (stats.completed_sessions, stats.questions_answered, stats.answers, stats.correct, stats.xp) == (
        (1, 2, 2, 2, 30)
    )


async def test_below_the_pass_score_nothing_is_earned(world: World) -> None:
    user, session = await begun(world, answers=1, questions=4, pass_score=0.5, xp=30)
    done = (await world.one(world.complete(user, session, "c"))).session
    assert (done.score, done.passed) == (0.25, False)
    await world.deliver()
    stats = await world.stats(user)
    assert (stats.completed_sessions, stats.xp) == (1, 0)


async def test_the_latest_answer_to_a_question_makes_the_score(world: World) -> None:
    user, session = await begun(world, answers=2, questions=2)
    await world.one(world.answer(user, session, "again", "q1", "wrong after all"))
    assert (await world.one(world.complete(user, session, "c"))).session.score == 0.5


async def test_a_test_without_questions_is_completed_without_a_score_and_costs(world: World) -> None:
    user, session = await begun(world, questions=0, pass_score=0.9, xp=5)
    done = (await world.one(world.complete(user, session, "c"))).session
    assert (done.HasField("score"), done.passed) == (False, True)
    await world.deliver()
    assert await world.units(user) == (0, 1)
    assert (await world.stats(user)).xp == 5


async def test_completing_without_an_answer_earns_nothing_however_often(world: World) -> None:
    user, test = await world.learner(limit=1), await world.test(questions=2, xp=50)
    for n in range(5):
        session = (await world.started(user, test, f"s{n}")).session_id
        done = (await world.one(world.complete(user, session, f"c{n}"))).session
        assert (done.state, done.score, done.passed) == (Session.COMPLETED, 0.0, False)
    await world.deliver()
    assert await world.units(user) == (0, 0)
    stats = await world.stats(user)
    assert (stats.completed_sessions, stats.xp, stats.streak_days) == (0, 0, 0)


@pytest.mark.parametrize("how", ["complete", "abandon"])
async def test_an_unanswered_session_gives_its_unit_back_before_its_learner_is_answered(
    world: World, how: str
) -> None:
    user, session = await begun(world)
    await world.one(getattr(world, how)(user, session, "end"))
    assert await world.units(user) == (0, 0), "no relay has run"


@pytest.mark.parametrize("how", ["complete", "abandon"])
async def test_with_subscription_service_away_a_session_ends_and_its_unit_is_there_for_the_next_start(
    world: World, how: str
) -> None:
    user, test, other = await world.learner(limit=1), await world.test(), await world.test()
    session = (await world.started(user, test, "k1")).session_id

    class Away(SubscriptionClient):
        async def give_back(self, holds: Sequence[HoldName]) -> None:
            return None

    away = world.assemble(subscription=Away(upstream=world.upstream))
    ended = await world.one(getattr(world, how)(user, session, "end"), away)
    assert ended.session.state != Session.ACTIVE
    assert await world.units(user) == (1, 0)
    await world.truth.execute("UPDATE outbox SET available_at = now() + interval '1 minute'")
    items = [world.start(user, other, "k2"), world.start(user, test, "k3")]
    assert reasons(await world.send(items)) == [None, Reason.DAILY_LIMIT_REACHED]
    assert await world.units(user) == (1, 0)
    await world.truth.execute("UPDATE outbox SET available_at = now()")
    await world.deliver()
    assert await world.units(user) == (1, 0)


async def test_an_ending_does_not_fail_when_its_unit_cannot_be_given_back(world: World) -> None:
    user, session = await begun(world)
    nowhere = Upstream(
        name="nowhere",
        target="127.0.0.1:9",
        service_token="",
        tracing=Tracing(service="test", version="0", sample_ratio=0.0),
        metrics=Metrics(service="test"),
    )
    parts = world.assemble(subscription=SubscriptionClient(upstream=nowhere))
    ended = await world.one(world.abandon(user, session, "x"), parts)
    await nowhere.close()
    assert ended.session.state == Session.ABANDONED
    assert await world.events(user) == [RELEASE_TOPIC]
    await world.deliver()
    assert await world.units(user) == (0, 0)


async def test_an_ending_is_replayed_with_its_questions_and_stored_without_them(world: World) -> None:
    user, session = await begun(world, answers=1)
    item = world.complete(user, session, "c")
    (first,) = await world.send([item])
    (again,) = await world.send([item], world.assemble())
    assert (again.replayed, again.payload()) == (True, first.payload())
    assert len(body(item, again).session.questions) == 3
    stored = await world.truth.fetchval(
        "SELECT response FROM idempotency_keys WHERE user_id = $1 AND key = 'c'", user
    )
    assert b"Question" not in stored


@pytest.mark.parametrize("how", ["complete", "abandon", "expire"])
async def test_an_unanswered_session_gives_its_unit_back_however_it_ends(world: World, how: str) -> None:
    user, session = await begun(world, time_limit_seconds=60)
    if how == "expire":
        await world.overdue(session)
        await world.parts.sweep.close_overdue()
    else:
        await world.one(getattr(world, how)(user, session, "end"))
    assert await world.events(user) == [RELEASE_TOPIC]
    await world.deliver()
    assert await world.units(user) == (0, 0)
    assert list((await world.holds(user)).values()) == ["released"]
    assert (await world.stats(user)).completed_sessions == 0


async def test_an_abandoned_session_with_answers_costs_and_its_answers_count(world: World) -> None:
    user, session = await begun(world, answers=1)
    left = (await world.one(world.abandon(user, session, "x"))).session
    assert (left.state, left.close_reason, left.passed) == (Session.ABANDONED, "learner_left", False)
    await world.deliver()
    assert await world.units(user) == (0, 1)
    stats = await world.stats(user)
    assert (stats.completed_sessions, stats.answers, stats.correct) == (0, 1, 1)


async def test_a_second_end_is_illegal_and_the_first_is_replayed(world: World) -> None:
    user, session = await begun(world, answers=1)
    first_item = world.complete(user, session, "c")
    (first,) = await world.send([first_item])
    outcomes = await world.send(
        [first_item, world.complete(user, session, "other"), world.complete(user, "no-session", "c2")]
    )
    assert (outcomes[0].replayed, outcomes[1].replayed) == (True, False)
    assert outcomes[0].payload() == outcomes[1].payload() == first.payload()
    assert reasons(outcomes[2:]) == [Reason.NOT_FOUND]
    (again,) = await world.send([world.complete(user, session, "other")])
    assert (again.replayed, again.payload()) == (True, first.payload())
    (abandoned,) = await world.send([world.abandon(user, session, "x")])
    assert abandoned.metadata == {"from": "COMPLETED", "to": "ABANDONED"}
    await world.deliver()
    assert await world.units(user) == (0, 1)
    assert (await world.stats(user)).completed_sessions == 1


async def test_after_the_deadline_a_session_cannot_be_completed(world: World) -> None:
    user, session = await begun(world, answers=1, time_limit_seconds=60)
    await world.overdue(session)
    (refusal,) = await world.send([world.complete(user, session, "c")])
    assert (refusal.reason, refusal.metadata) == (
        Reason.ILLEGAL_TRANSITION,
        {"from": "EXPIRED", "to": "COMPLETED"},
    )
    assert (await world.get(user, session)).state == Session.EXPIRED
    await world.deliver()
    assert await world.units(user) == (0, 1)


async def test_what_was_answered_until_the_deadline_counts_as_if_it_was_handed_in(world: World) -> None:
    for answers, xp in ((1, 0), (2, 30)):
        user, session = await begun(
            world, answers=answers, questions=4, pass_score=0.5, xp=30, time_limit_seconds=60
        )
        await world.overdue(session)
        await world.parts.sweep.close_overdue()
        await world.deliver()
        ended = await world.get(user, session)
        assert (ended.state, ended.score, ended.passed) == (Session.EXPIRED, answers / 4, xp > 0)
        stats = await world.stats(user)
        assert (stats.completed_sessions, stats.answers, stats.xp) == (1, answers, xp)
        assert await world.units(user) == (0, 1)


async def test_20_completions_with_one_key_at_once_are_one(world: World) -> None:
    user, session = await begun(world, answers=1)
    item = world.complete(user, session, "c")
    found = await asyncio.gather(*(world.send([item] * 4) for _ in range(5)))
    outcomes = [outcome for batch in found for outcome in batch]
    assert len({outcome.payload() for outcome in outcomes}) == 1
    assert sum(not outcome.replayed for outcome in outcomes) == 1
    assert await world.events(user) == [RESULT_TOPIC, COMMIT_TOPIC]


async def test_completing_and_abandoning_at_once_have_one_winner(world: World) -> None:
    for _ in range(10):
        user, session = await begun(world, answers=1)
        found = await asyncio.gather(
            world.send([world.complete(user, session, "c")]), world.send([world.abandon(user, session, "x")])
        )
        outcomes = [outcome for batch in found for outcome in batch]
        assert sorted(reason is None for reason in reasons(outcomes)) == [False, True]
        await world.deliver()
        assert await world.units(user) == (0, 1)
        assert set((await world.holds(user)).values()) == {"committed"}


async def test_a_batch_may_answer_and_end_many_sessions(world: World) -> None:
    ready = [await begun(world, answers=n % 2) for n in range(8)]
    items = [world.complete(user, session, "c") for user, session in ready]
    outcomes = await world.send([*items, *items])
    states = [body(item, outcome).session.state for item, outcome in zip(items, outcomes, strict=False)]
    assert states == [Session.COMPLETED] * 8
    assert [outcome.replayed for outcome in outcomes] == [False] * 8 + [True] * 8
    await world.deliver()
    for number, (user, _) in enumerate(ready):
        assert await world.units(user) == (0, number % 2)


async def test_the_same_result_delivered_twice_is_counted_once(world: World) -> None:
    user, session = await begun(world, answers=1, xp=7)
    await world.one(world.complete(user, session, "c"))
    events = await world.truth.fetch("SELECT * FROM outbox WHERE user_id = $1", user)
    await world.deliver()
    await world.truth.executemany(
        "INSERT INTO outbox (user_id, event_id, topic, payload) VALUES ($1, $2, $3, $4)",
        [(row["user_id"], row["event_id"], row["topic"], row["payload"]) for row in events],
    )
    await world.deliver()
    stats = await world.stats(user)
    assert (stats.completed_sessions, stats.answers, stats.xp) == (1, 1, 7)
    assert await world.units(user) == (0, 1)
