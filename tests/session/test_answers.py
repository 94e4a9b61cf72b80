"""Answers: judged, counted, kept for good, replayed; and refused once the session is over."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from chassis.errors import Reason
from chassis.postgres import Database
from protos.session.v1 import sessions_pb2
from tests.session.world import GRACE, SESSIONS, Session, World, body, reasons, unique


async def begun(world: World, **test: Any) -> tuple[str, str]:
    user = await world.learner()
    session = await world.started(user, await world.test(**test), "start")
    return user, session.session_id


async def test_an_answer_is_judged_and_counted(world: World) -> None:
    user, session = await begun(world)
    answers = [("q1", "wrong", False), ("q1", "  RIGHT 1 ", True), ("q2", "", False), ("q1", "worse", False)]
    seen = []
    for number, (question, choice, correct) in enumerate(answers):
        answer = await world.one(world.answer(user, session, f"a{number}", question, choice))
        assert (answer.question_id, answer.correct) == (question, correct)
        seen.append((answer.attempts, answer.answered, answer.total, round(answer.score_so_far, 2)))
    assert seen == [(1, 1, 3, 0.0), (2, 1, 3, 0.33), (1, 2, 3, 0.33), (3, 2, 3, 0.0)]
    read = await world.get(user, session)
    assert (read.answered, read.version) == (2, 5)
    assert read.HasField("last_answer_at")
    rows = await world.truth.fetch(
        "SELECT question_id, attempt, choice, correct FROM answers WHERE user_id = $1 ORDER BY answered_at",
        user,
    )
    assert [tuple(row) for row in rows] == [
        ("q1", 1, "wrong", False),
        ("q1", 2, "  RIGHT 1 ", True),
        ("q2", 1, "", False),
        ("q1", 3, "worse", False),
    ]


async def test_answers_of_one_batch_behave_as_if_one_came_after_the_other(world: World) -> None:
    user, session = await begun(world)
    other_user, other_session = await begun(world)
    items = [
        world.answer(user, session, "a1", "q1", "wrong"),
        world.answer(user, session, "a2", "q1", "right 1"),
        world.answer(user, session, "a1", "q1", "wrong"),  # a replay
        world.answer(user, session, "a1", "q1", "another"),  # the key is in use
        world.answer(other_user, other_session, "a1", "q1", "right 1"),
        world.answer(user, session, "a3", "q9", "?"),  # no such question
        world.answer(user, session, "a3", "q2", "right 2"),  # the key was not used up by the refusal
        world.answer(user, unique("no-session"), "a4", "q1", "right 1"),
        world.answer(user, other_session, "a5", "q1", "right 1"),  # somebody else's
    ]
    outcomes = await world.send(items)
    assert reasons(outcomes) == [
        None,
        None,
        None,
        Reason.IDEMPOTENCY_KEY_REUSED,
        None,
        Reason.INVALID_ARGUMENT,
        None,
        Reason.NOT_FOUND,
        Reason.NOT_FOUND,
    ]
    assert outcomes[5].violations[0].field == "questionId"
    bodies = [body(items[place], outcomes[place]) for place in (0, 1, 2, 4, 6)]
    assert [(answer.attempts, answer.answered) for answer in bodies] == [
        (1, 1),
        (2, 1),
        (1, 1),
        (1, 1),
        (1, 2),
    ]
    assert [outcomes[place].replayed for place in (0, 1, 2, 4, 6)] == [False, False, True, False, False]
    assert outcomes[0].payload() == outcomes[2].payload()
    read = await world.get(user, session)
    assert (read.answered, read.version) == (2, 4)


async def test_a_batch_sent_again_is_all_replays_and_changes_nothing(world: World) -> None:
    user, session = await begun(world)
    items = [world.answer(user, session, f"a{n}", "q1", "right 1" if n % 2 else "wrong") for n in range(20)]
    first = await world.send(items)
    before = await world.sessions(user)
    second = await world.send(items)
    assert [outcome.payload() for outcome in second] == [outcome.payload() for outcome in first]
    assert all(outcome.replayed for outcome in second)
    assert await world.sessions(user) == before


async def test_concurrent_batches_for_one_session_lose_no_answer(world: World) -> None:
    user, session = await begun(world)
    batches = [
        [world.answer(user, session, f"a{batch}-{n}", "q1", "right 1") for n in range(10)]
        for batch in range(6)
    ]
    found = await asyncio.gather(*(world.send(batch) for batch in batches))
    items = [item for batch in batches for item in batch]
    outcomes = [outcome for batch in found for outcome in batch]
    assert reasons(outcomes) == [None] * 60
    attempts = [body(item, outcome).attempts for item, outcome in zip(items, outcomes, strict=True)]
    assert sorted(attempts) == list(range(1, 61))
    (row,) = await world.sessions(user)
    assert (row["answered"], row["solved"], row["answers_given"], row["answers_correct"]) == (1, 1, 60, 60)


async def test_one_key_in_many_batches_at_once_is_one_answer(world: World) -> None:
    user, session = await begun(world)
    item = world.answer(user, session, "a", "q1", "right 1")
    found = await asyncio.gather(*(world.send([item] * 5) for _ in range(4)))
    outcomes = [outcome for batch in found for outcome in batch]
    assert reasons(outcomes) == [None] * 20
    assert len({outcome.payload() for outcome in outcomes}) == 1
    assert sum(not outcome.replayed for outcome in outcomes) == 1


async def test_one_key_for_two_sessions_at_once_answers_only_one_of_them(world: World) -> None:
    user = await world.learner()
    sessions = [(await world.started(user, await world.test(), f"s{n}")).session_id for n in range(2)]
    found = await asyncio.gather(
        *(world.send([world.answer(user, session, "a", "q1", "right 1")]) for session in sessions)
    )
    outcomes = [outcome for batch in found for outcome in batch]
    assert sorted(map(str, reasons(outcomes))) == sorted(map(str, [None, Reason.IDEMPOTENCY_KEY_REUSED]))
    assert sum(row["answers_given"] for row in await world.sessions(user)) == 1


async def test_a_session_locked_elsewhere_delays_only_its_own_answers(world: World) -> None:
    begun_ones = [await begun(world) for _ in range(5)]
    items = [world.answer(user, session, "a", "q1", "right 1") for user, session in begun_ones]
    locked_user, locked_session = begun_ones[2]
    locking = world.truth.transaction()
    await locking.start()
    await world.truth.execute(
        "SELECT 1 FROM sessions WHERE user_id = $1 AND session_id = $2::uuid FOR UPDATE",
        locked_user,
        locked_session,
    )
    try:
        outcomes = await world.send(items)
    finally:
        await locking.rollback()
    assert reasons(outcomes) == [None, None, Reason.UNAVAILABLE, None, None]
    assert outcomes[2].retry_after_seconds is not None
    assert reasons(await world.send([items[2]])) == [None]


async def test_a_key_that_somebody_is_about_to_claim_delays_only_its_own_answers(world: World) -> None:
    begun_ones = [await begun(world) for _ in range(3)]
    items = [world.answer(user, session, "a", "q1", "right 1") for user, session in begun_ones]
    claiming = world.truth.transaction()
    await claiming.start()
    await world.truth.execute(
        "INSERT INTO idempotency_keys (user_id, method, key, state, fingerprint, response)"
        " VALUES ($1, $2, 'a', 'completed', '', '')",
        begun_ones[1][0],
        items[1].context.method,
    )
    try:
        outcomes = await world.send(items)
    finally:
        await claiming.rollback()
    assert reasons(outcomes) == [None, Reason.UNAVAILABLE, None]
    assert reasons(await world.send([items[1]])) == [None]


async def test_an_answer_that_cannot_be_stored_fails_alone(world: World) -> None:
    user, session = await begun(world)
    others = [await begun(world) for _ in range(3)]
    items = [
        world.answer(user, session, "a1", "q1", "right 1"),
        world.answer(user, session, "a2", "q2", "nothing\0ness"),
        world.answer(user, session, "a3", "q3", "right 3"),
        *(world.answer(user, session, "a", "q1", "right 1") for user, session in others),
    ]
    outcomes = await world.send(items)
    assert reasons(outcomes) == [None, Reason.INVALID_ARGUMENT, None, None, None, None]
    assert body(items[2], outcomes[2]).answered == 2


async def test_answers_after_the_end_are_refused(world: World) -> None:
    user, session = await begun(world)
    given = world.answer(user, session, "a", "q1", "right 1")
    await world.one(given)
    await world.one(world.complete(user, session, "c"))
    (refusal,) = await world.send([world.answer(user, session, "b", "q2", "right 2")])
    assert (refusal.reason, refusal.metadata) == (Reason.SESSION_CLOSED, {"state": "COMPLETED"})
    (replay,) = await world.send([given])
    assert replay.replayed


@pytest.mark.parametrize("swept", [False, True])
async def test_after_the_deadline_answers_are_refused_and_the_session_has_expired(
    world: World, swept: bool
) -> None:
    user, session = await begun(world, time_limit_seconds=60)
    await world.one(world.answer(user, session, "a1", "q1", "right 1"))
    await world.overdue(session)
    if swept:
        assert await world.parts.sweep.close_overdue() >= 1
    outcomes = await world.send([world.answer(user, session, f"late {n}", "q2", "right 2") for n in range(2)])
    assert reasons(outcomes) == [Reason.DEADLINE_PASSED] * 2
    read = await world.get(user, session)
    assert (read.state, read.close_reason, read.answered) == (Session.EXPIRED, "timed_out", 1)
    assert read.closed_at.ToDatetime() == read.deadline_at.ToDatetime() + GRACE
    assert (round(read.score, 2), read.passed) == (0.33, True)
    await world.deliver()
    stats = await world.stats(user)
    assert (stats.completed_sessions, stats.answers, stats.correct, stats.xp) == (1, 1, 1, 0)


@pytest.mark.parametrize(
    ("ago", "kept"),
    [
        (timedelta(hours=-1), timedelta(0)),
        (timedelta(minutes=5), None),
        (timedelta(hours=47), None),
        (timedelta(hours=49), timedelta(hours=48)),
        (timedelta(days=4000), timedelta(hours=48)),
    ],
)
async def test_what_the_learner_says_of_the_time_is_kept_beside_our_own(
    world: World, ago: timedelta, kept: timedelta | None
) -> None:
    """A time outside of the last 48 hours becomes the nearest one that is believed, and is marked."""
    user, session = await begun(world)
    said = datetime.now(UTC) - ago
    request = sessions_pb2.AnswerQuestionRequest(session_id=session, question_id="q1", choice="right 1")
    request.occurred_at.FromDatetime(said)
    await world.one(world.item(f"/{SESSIONS}/AnswerQuestion", request, user=user, key="a"))
    row = await world.truth.fetchrow(
        "SELECT occurred_at, occurred_at_clamped, answered_at FROM answers WHERE user_id = $1", user
    )
    assert row is not None
    assert abs(row["answered_at"] - datetime.now(UTC)) < timedelta(hours=1)
    expected = said if kept is None else row["answered_at"] - kept
    assert (row["occurred_at"], row["occurred_at_clamped"]) == (expected, kept is not None)


@pytest.mark.parametrize(
    ("seconds", "nanos"),
    [
        (2**60, 0),
        (-(2**60), 0),
        (-62_135_596_800, 0),
        (946_684_799, 0),
        (4_102_444_800, 0),
        (1_700_000_000, -1),
        (1_700_000_000, 10**9),
    ],
)
async def test_a_time_outside_the_range_is_refused_alone(world: World, seconds: int, nanos: int) -> None:
    user, session = await begun(world)
    request = sessions_pb2.AnswerQuestionRequest(session_id=session, question_id="q1", choice="right 1")
    request.occurred_at.seconds = seconds
    request.occurred_at.nanos = nanos
    rude = world.item(f"/{SESSIONS}/AnswerQuestion", request, user=user, key="b")
    outcomes = await world.send([rude, world.answer(user, session, "a", "q1", "right 1")])
    assert reasons(outcomes) == [Reason.INVALID_ARGUMENT, None]
    assert outcomes[0].violations[0].field == "occurredAt"


async def test_an_answer_without_its_session_cannot_exist(world: World) -> None:
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await world.truth.execute(
            "INSERT INTO answers (user_id, session_id, question_id, attempt, choice, correct, answered_at)"
            " VALUES ('nobody', gen_random_uuid(), 'q', 1, '', false, now())"
        )


async def test_answers_that_are_too_late_share_a_transaction_beside_those_in_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = [await begun(world, time_limit_seconds=60) for _ in range(10)]
    for _, session in ready[::2]:
        await world.overdue(session)
    written: list[str] = []
    for name in ("write", "execute_write"):
        original = getattr(Database, name)

        async def counting(*arguments: Any, _original: Any = original, **named: Any) -> Any:
            written.append(named["name"])
            return await _original(*arguments, **named)

        monkeypatch.setattr(Database, name, counting)
    outcomes = await world.send([world.answer(user, session, "a", "q1", "x") for user, session in ready])
    assert reasons(outcomes) == [Reason.DEADLINE_PASSED, None] * 5
    assert not any(outcome.replayed for outcome in outcomes[1::2])
    assert [name for name in written if name in {"write_answers", "change_sessions"}] == [
        "write_answers",
        "change_sessions",
    ]
