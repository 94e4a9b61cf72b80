"""A start: new, resumed, replayed or refused, alone and in a batch."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from chassis.batch import Reply
from chassis.errors import Reason, ServiceError
from protos.session.v1 import sessions_pb2
from session_service.operations import create_sessions
from tests.session.world import CREATE, Session, World, body, reasons, unique


async def test_a_start_makes_a_session_and_takes_one_unit(world: World) -> None:
    user, test = await world.learner(limit=1), await world.test(questions=2, difficulty="EASY")
    session = await world.started(user, test, "k", title="My try", metadata={"class": "7b"})
    assert (session.user_id, session.test_id, session.title) == (user, test, "My try")
    assert (session.state, session.attempt, session.version) == (Session.ACTIVE, 1, 1)
    assert (session.difficulty, dict(session.metadata)) == ("EASY", {"class": "7b"})
    assert [question.question_id for question in session.questions] == ["q1", "q2"]
    assert (session.answered, session.total, session.resumed) == (0, 2, False)
    assert not session.HasField("deadline_at")
    assert not session.HasField("score")
    assert await world.units(user) == (1, 0)
    assert await world.get(user, session.session_id) == session
    (row,) = await world.sessions(user)
    assert await world.holds(user) == {str(row["hold_id"]): "open"}


async def test_the_same_key_returns_the_same_bytes(world: World) -> None:
    user, test = await world.learner(limit=1), await world.test()
    (first,) = await world.send([world.start(user, test, "k")])
    (second,) = await world.send([world.start(user, test, "k")])
    assert (first.replayed, second.replayed) == (False, True)
    assert first.payload() == second.payload()
    assert await world.units(user) == (1, 0)


async def test_a_replay_has_the_same_bytes_in_another_process_and_stores_no_questions(world: World) -> None:
    user, test = await world.learner(limit=1), await world.test(questions=3)
    metadata = {f"key {n}": f"value {n}" for n in range(32)}
    items = [world.start(user, test, key, metadata=metadata) for key in ("k", "other")]
    first = [outcome for item in items for outcome in await world.send([item])]
    elsewhere = world.assemble()
    again = [outcome for item in items for outcome in await world.send([item], elsewhere)]
    assert [outcome.replayed for outcome in again] == [True, True]
    assert [outcome.payload() for outcome in again] == [outcome.payload() for outcome in first]
    for item, outcome in zip(items, again, strict=True):
        session = body(item, outcome).session
        assert [question.question_id for question in session.questions] == ["q1", "q2", "q3"]
        assert dict(session.metadata) == metadata
    rows = await world.truth.fetch("SELECT response, content FROM idempotency_keys WHERE user_id = $1", user)
    assert {row["content"] for row in rows} == {f"{test}@2"}
    assert not any(b"Question" in row["response"] for row in rows)
    for row in rows:  # maps are written in the order of their keys, so that every process writes the same
        places = [row["response"].index(key.encode()) for key in sorted(metadata)]
        assert places == sorted(places)


async def test_an_answer_that_was_stored_whole_is_replayed_as_it_is(world: World) -> None:
    user, test = await world.learner(), await world.test()
    item = world.start(user, test, "k")
    (first,) = await world.send([item])
    await world.truth.execute(
        "UPDATE idempotency_keys SET response = $2, content = '' WHERE user_id = $1", user, first.payload()
    )
    (again,) = await world.send([item])
    assert (again.replayed, again.payload()) == (True, first.payload())


@pytest.mark.parametrize(("size", "fits"), [(4096, True), (4097, False)])
async def test_metadata_is_bounded_as_a_whole(world: World, size: int, fits: bool) -> None:
    user, neighbour, test = await world.learner(limit=1), await world.learner(), await world.test()
    values = {f"{n:04}": "é" * 498 for n in range(4)}  # 1,000 bytes each, keys included
    metadata = values | {"rest": "x" * (size - 4004)}
    outcomes = await world.send(
        [world.start(user, test, "k", metadata=metadata), world.start(neighbour, test, "k")]
    )
    assert reasons(outcomes) == [None if fits else Reason.INVALID_ARGUMENT, None]
    assert await world.units(user) == ((1, 0) if fits else (0, 0))


async def test_the_same_key_with_another_request_is_refused(world: World) -> None:
    user, test = await world.learner(), await world.test()
    await world.started(user, test, "k")
    assert reasons(await world.send([world.start(user, test, "k", title="Other")])) == [
        Reason.IDEMPOTENCY_KEY_REUSED
    ]


async def test_the_same_key_of_another_learner_is_another_key(world: World) -> None:
    test = await world.test()
    users = [await world.learner(), await world.learner()]
    outcomes = await world.send([world.start(user, test, "k") for user in users])
    sessions = [outcome.payload() for outcome in outcomes]
    assert [outcome.replayed for outcome in outcomes] == [False, False]
    assert sessions[0] != sessions[1]


async def test_another_key_resumes_the_live_session_and_is_remembered_too(world: World) -> None:
    user, test = await world.learner(limit=1), await world.test()
    first = await world.started(user, test, "tab 1")
    item = world.start(user, test, "tab 2")
    (resumed,) = await world.send([item])
    assert body(item, resumed).session.session_id == first.session_id
    assert body(item, resumed).session.resumed
    (again,) = await world.send([item])
    assert again.replayed
    assert again.payload() == resumed.payload()
    assert await world.units(user) == (1, 0)
    assert await world.keys(user) == {"tab 1": "completed", "tab 2": "completed"}


async def test_100_starts_with_one_key_in_three_batches_at_once_are_one_session(world: World) -> None:
    user, test = await world.learner(limit=1), await world.test()
    batches = [[world.start(user, test, "k") for _ in range(size)] for size in (33, 33, 34)]
    found = await asyncio.gather(*(world.send(batch) for batch in batches))
    outcomes = [outcome for batch in found for outcome in batch]
    assert reasons(outcomes) == [None] * 100
    assert len({outcome.payload() for outcome in outcomes}) == 1
    assert Counter(outcome.replayed for outcome in outcomes) == {True: 99, False: 1}
    assert len(await world.sessions(user)) == 1
    assert list((await world.holds(user)).values()) == ["open"]
    assert await world.units(user) == (1, 0)


async def test_50_starts_of_one_test_with_50_keys_take_one_unit_even_when_the_limit_is_1(
    world: World,
) -> None:
    user, test = await world.learner(limit=1), await world.test()
    items = [world.start(user, test, f"tab {n}") for n in range(50)]
    found = await asyncio.gather(*(world.send(items[at::5]) for at in range(5)))
    outcomes = [outcome for batch in found for outcome in batch]
    assert reasons(outcomes) == [None] * 50
    sessions = [body(items[0], outcome).session for outcome in outcomes]
    assert len({session.session_id for session in sessions}) == 1
    assert Counter(session.resumed for session in sessions) == {True: 49, False: 1}
    assert await world.units(user) == (1, 0)
    assert list((await world.holds(user)).values()) == ["open"]


async def test_200_starts_of_200_tests_with_one_unit_left_start_one(world: World) -> None:
    user = await world.learner(limit=1)
    tests = [await world.test(questions=0) for _ in range(200)]
    items = [world.start(user, test, f"start {test}") for test in tests]
    found = await asyncio.gather(*(world.send(items[at::4]) for at in range(4)))
    outcomes = [outcome for batch in found for outcome in batch]
    assert Counter(reasons(outcomes)) == {None: 1, Reason.DAILY_LIMIT_REACHED: 199}
    refusal = next(outcome for outcome in outcomes if isinstance(outcome, ServiceError))
    assert (refusal.metadata["limit"], refusal.metadata["used"], refusal.metadata["held"]) == (1, 0, 1)
    assert len(await world.sessions(user)) == 1
    assert len(await world.keys(user)) == 1, "a refusal is not stored: the same key may succeed tomorrow"


async def test_in_one_batch_starts_behave_as_if_one_came_after_the_other(world: World) -> None:
    user, test, other = await world.learner(limit=1), await world.test(), await world.test()
    items = [
        world.start(user, test, "a"),
        world.start(user, test, "a"),  # a replay
        world.start(user, test, "a", title="Other"),  # the key is in use
        world.start(user, test, "b"),  # resumes
        world.start(user, test, "b"),  # a replay of that
        world.start(user, other, "c"),  # nothing left for today
        world.start(user, unique("no-such"), "d"),
        world.start(await world.learner(limit=1), test, "a"),  # somebody else
    ]
    outcomes = await world.send(items)
    assert reasons(outcomes) == [
        None,
        None,
        Reason.IDEMPOTENCY_KEY_REUSED,
        None,
        None,
        Reason.DAILY_LIMIT_REACHED,
        Reason.NOT_FOUND,
        None,
    ]
    assert outcomes[0].payload() == outcomes[1].payload()
    assert [outcomes[place].replayed for place in (0, 1, 3, 4, 7)] == [False, True, False, True, False]
    assert body(items[3], outcomes[3]).session.resumed
    assert outcomes[3].payload() == outcomes[4].payload()
    assert await world.units(user) == (1, 0)


async def test_a_key_that_was_refused_with_one_test_may_start_another(world: World) -> None:
    user = await world.learner(limit=0)
    counted, free = await world.test(), await world.test(counts_toward_daily_limit=False)
    outcomes = await world.send([world.start(user, counted, "k"), world.start(user, free, "k")])
    assert reasons(outcomes) == [Reason.DAILY_LIMIT_REACHED, None]


async def test_an_unknown_or_inactive_account_cannot_even_start_what_costs_nothing(world: World) -> None:
    test = await world.test(counts_toward_daily_limit=False)
    user = unique("nobody")
    assert reasons(await world.send([world.start(user, test, "k")])) == [Reason.INVALID_USER_REFERENCE]
    assert await world.keys(user) == {}
    assert await world.holds(user) == {}


async def test_a_test_that_costs_needs_credits(world: World) -> None:
    user, test = await world.learner(), await world.test(credit_cost=5)
    assert reasons(await world.send([world.start(user, test, "k")])) == [Reason.INSUFFICIENT_CREDITS]


async def test_attempts_are_counted_and_can_run_out(world: World) -> None:
    user, test = await world.learner(), await world.test(questions=0, max_attempts=2)
    for attempt in (1, 2):
        session = await world.started(user, test, f"k{attempt}")
        assert session.attempt == attempt
        await world.one(world.complete(user, session.session_id, f"c{attempt}"))
    (refusal,) = await world.send([world.start(user, test, "k3")])
    assert refusal.reason is Reason.ATTEMPTS_EXHAUSTED
    assert len(await world.holds(user)) == 2, "nothing was held for the refused one"


@pytest.mark.parametrize(
    ("limit_seconds", "minutes", "seconds"), [(600, None, 600), (None, 5, 300), (600, 5, 300), (60, 5, 60)]
)
async def test_the_deadline_is_the_shorter_of_the_two_limits(
    world: World, limit_seconds: int | None, minutes: int | None, seconds: int
) -> None:
    user = await world.learner()
    limits: dict[str, Any] = {"time_limit_seconds": limit_seconds} if limit_seconds else {}
    test = await world.test(**limits)
    session = await world.started(user, test, "k", **({"duration_minutes": minutes} if minutes else {}))
    assert session.deadline_at.ToDatetime() - session.started_at.ToDatetime() == timedelta(seconds=seconds)


async def test_a_session_keeps_the_questions_and_the_rules_it_began_with(world: World) -> None:
    user, test = await world.learner(), await world.test(questions=2, pass_score=0.5, xp=10)
    session = await world.started(user, test, "k")
    assert [question.question_id for question in session.questions] == ["q1", "q2"]
    await world.import_questions(test, [3])
    await world.test(test_id=test, questions=0, question_count=3, pass_score=1.0, xp=99)
    await world.import_questions(test, [1], prompt="Mended question")
    seen = await world.get(user, session.session_id)
    assert [question.prompt for question in seen.questions] == ["Question 1?", "Question 2?"]
    await world.one(world.answer(user, session.session_id, "a", "q1", "right 1"))
    done = (await world.one(world.complete(user, session.session_id, "c"))).session
    assert (done.score, done.passed, done.total) == (0.5, True, 2)
    fresh = await world.started(user, test, "k2")
    assert [question.question_id for question in fresh.questions] == ["q1", "q2", "q3"]


async def test_a_new_definition_holds_for_the_next_start_through_any_replica(world: World) -> None:
    user, test = await world.learner(), await world.test(questions=0, title="Old")
    elsewhere = world.assemble()
    first = await world.one(world.start(user, test, "k1"), elsewhere)
    assert first.session.title == "Old"
    await world.one(world.abandon(user, first.session.session_id, "a"))
    await world.test(test_id=test, questions=0, title="New")
    assert (await world.one(world.start(user, test, "k2"), elsewhere)).session.title == "New"


async def test_a_text_that_cannot_be_stored_is_refused_before_anything_is_held(world: World) -> None:
    user, test = await world.learner(limit=1), await world.test()
    bad = [
        world.start(user, test, "k1", title="a\0b"),
        world.start(user, test, "k2", difficulty="\0"),
        world.start(user, test, "k3", metadata={"a": "\0"}),
        world.start(user, "\0", "k4"),
    ]
    outcomes = await world.send([*bad, world.start(user, test, "k5")])
    assert reasons(outcomes) == [Reason.INVALID_ARGUMENT] * 4 + [None]
    assert outcomes[0].violations[0].field == "title"
    assert await world.units(user) == (1, 0)


async def test_what_poisons_a_batch_hurts_only_itself(world: World) -> None:
    test = await world.test()
    users = [await world.learner() for _ in range(8)]
    items = [world.start(user, test, "k") for user in users]
    items[3] = world.start(users[3], test, "k\0")  # no gateway lets such a key through
    outcomes = await world.send(items)
    assert reasons(outcomes) == [None] * 3 + [Reason.INVALID_ARGUMENT] + [None] * 4
    assert [len(await world.sessions(user)) for user in users] == [1, 1, 1, 0, 1, 1, 1, 1]


async def test_a_start_that_somebody_else_is_in_the_middle_of_holds_up_no_neighbour(world: World) -> None:
    test = await world.test()
    users = [await world.learner() for _ in range(5)]
    items = [world.start(user, test, "k") for user in users]
    theirs = world.truth.transaction()
    await theirs.start()
    await world.truth.execute(
        "INSERT INTO idempotency_keys (user_id, method, key, state) VALUES ($1, $2, 'k', 'aborted')",
        users[2],
        CREATE,
    )
    try:
        outcomes = await world.send(items)
    finally:
        await theirs.rollback()
    assert reasons(outcomes) == [None, None, Reason.UNAVAILABLE, None, None]
    assert outcomes[2].retry_after_seconds is not None
    assert reasons(await world.send([items[2]])) == [None]
    assert await world.units(users[2]) == (1, 0)


async def test_a_start_waits_only_so_long_for_another_one_of_the_same_test(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hold that nobody turns into a session yet: its start died, and the janitor has not come by."""
    monkeypatch.setattr(create_sessions, "PAUSES_SECONDS_MAX", 0.01)
    user, other, test = await world.learner(limit=1), await world.learner(), await world.test()
    await world.subscription_truth.execute(
        "INSERT INTO holds (user_id, hold_id, state, tests, credits, subject, method, idempotency_key, day,"
        " placed_at) VALUES ($1, gen_random_uuid(), 'open', 0, 0, $2, $3, 'lost', current_date, now())",
        user,
        f"{test}#1",
        CREATE,
    )
    outcomes = await world.send([world.start(user, test, "k"), world.start(other, test, "k")])
    assert reasons(outcomes) == [Reason.UNAVAILABLE, None]
    assert outcomes[0].retry_after_seconds is not None
    assert await world.keys(user) == {}
    await world.parts.janitor.resolve_holds()
    (outcome,) = await world.send([world.start(user, test, "k")])
    assert isinstance(outcome, Reply)


@pytest.mark.parametrize(("flags", "recorded"), [("01", True), ("00", False)])
async def test_a_replay_points_to_the_trace_of_its_original_if_that_was_recorded(
    world: World, flags: str, recorded: bool
) -> None:
    user, test = await world.learner(), await world.test()
    traceparent = f"00-{'ab' * 16}-{'cd' * 8}-{flags}"
    request = sessions_pb2.CreateSessionRequest(test_id=test)
    await world.one(world.item(CREATE, request, user=user, key="k", traceparent=traceparent))
    (replay,) = await world.send([world.item(CREATE, request, user=user, key="k")])
    assert (replay.replayed, replay.original) == (True, traceparent if recorded else "")
