"""Uploads of operations: each counts once, none hinders another, and a repeated upload finishes the work."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from chassis.batch import Item
from chassis.errors import Reason
from chassis.postgres import Database
from protos.session.v1 import uploads_pb2
from tests.session.test_timeline import kinds, timeline
from tests.session.world import Session, World, body, reasons, unique
from tests.support.postgres_proxy import Loss, PostgresProxy

UPLOADS = "homeroom.session.v1.UploadService"

Operation = uploads_pb2.Operation
Status = uploads_pb2.OperationResult.Status


def answered(op_id: str, question: str, choice: str) -> Any:
    return Operation(op_id=op_id, answer=Operation.Answer(question_id=question, choice=choice))


def completed(op_id: str) -> Any:
    return Operation(op_id=op_id, complete=Operation.Complete())


def upload(world: World, user: str, session: str, operations: Sequence[Any]) -> Item[Any]:
    request = uploads_pb2.UploadOperationsRequest(session_id=session, operations=operations)
    return world.item(f"/{UPLOADS}/UploadOperations", request, user=user)


async def begun(world: World, **test: Any) -> tuple[str, str]:
    user = await world.learner()
    return user, (await world.started(user, await world.test(**test), "start")).session_id


async def uploaded(world: World, user: str, session: str, *operations: Any, parts: Any = None) -> list[Any]:
    return list((await world.one(upload(world, user, session, operations), parts)).results)


async def finished(world: World, user: str, session: str, *operations: Any, parts: Any) -> list[Any]:
    """The results of operations that are sent, as a client does, until none of them is worth another try."""
    waiting, results = list(operations), []
    while waiting:
        told = await uploaded(world, user, session, *waiting, parts=parts)
        results += [result for result in told if not result.retryable]
        waiting = [each for each, result in zip(waiting, told, strict=True) if result.retryable]
    return results


def statuses(results: Sequence[Any]) -> list[str]:
    return [Status.Name(result.status) for result in results]


async def test_an_upload_carries_out_its_operations_one_after_the_other(world: World) -> None:
    user, session = await begun(world)
    results = await uploaded(
        world,
        user,
        session,
        answered("1", "q1", "wrong"),
        answered("2", "q1", "right 1"),
        answered("3", "q2", "right 2"),
        completed("4"),
    )
    assert [result.op_id for result in results] == ["1", "2", "3", "4"]
    assert statuses(results) == ["APPLIED"] * 4
    told = [(r.answer.attempts, r.answer.answered, r.answer.correct) for r in results[:3]]
    assert told == [(1, 1, False), (2, 1, True), (1, 2, True)]
    assert (results[3].session.state, round(results[3].session.score, 2)) == (Session.COMPLETED, 0.67)
    assert not results[3].session.questions
    assert kinds(await timeline(world, user, session)) == ["STARTED", *["ANSWERED"] * 3, "COMPLETED"]
    await world.deliver()
    assert await world.units(user) == (0, 1)


async def test_a_completion_comes_last_wherever_it_is_listed(world: World) -> None:
    user, session = await begun(world)
    results = await uploaded(
        world, user, session, completed("c"), answered("1", "q1", "right 1"), completed("c"), completed("d")
    )
    assert statuses(results) == ["APPLIED", "APPLIED", "DUPLICATE", "APPLIED"]
    assert {result.session.answered for result in results if result.HasField("session")} == {1}
    (row,) = await world.sessions(user)
    assert (row["state"], row["answered"], row["score"]) == ("completed", 1, pytest.approx(1 / 3))


async def test_the_same_operations_again_are_duplicates_with_the_same_answers(world: World) -> None:
    user, session = await begun(world)
    operations = [answered("1", "q1", "x"), answered("2", "q2", "right 2"), completed("3")]
    first = await uploaded(world, user, session, *operations)
    before = await world.sessions(user)
    again = await uploaded(world, user, session, *operations, parts=world.assemble())
    assert statuses(again) == ["DUPLICATE"] * 3
    for one, other in zip(first, again, strict=True):
        other.status = one.status
        assert one == other
    assert await world.sessions(user) == before


async def test_an_operation_counts_once_by_an_upload_and_by_its_own_route(world: World) -> None:
    user, session = await begun(world)
    by_route = await world.one(world.answer(user, session, "k1", "q1", "right 1"))
    results = await uploaded(world, user, session, answered("k1", "q1", "right 1"), answered("k2", "q2", "x"))
    assert statuses(results) == ["DUPLICATE", "APPLIED"]
    assert results[0].answer == by_route
    item = world.answer(user, session, "k2", "q2", "x")
    (again,) = await world.send([item])
    assert again.replayed
    assert body(item, again) == results[1].answer
    assert statuses(await uploaded(world, user, session, completed("c"))) == ["APPLIED"]
    done = world.complete(user, session, "c")
    (replay,) = await world.send([done])
    assert (replay.replayed, len(body(done, replay).session.questions)) == (True, 3)


async def test_each_operation_has_its_own_result(world: World) -> None:
    user, session = await begun(world)
    await uploaded(world, user, session, answered("used", "q1", "x"))
    results = await uploaded(
        world,
        user,
        session,
        answered("used", "q1", "another"),
        answered("ok", "q1", "right 1"),
        answered("unknown", "q9", "?"),
        answered("nul", "q2", "nothing\0ness"),
        answered("long", "q2", "x" * 10_001),
        answered("", "q2", "no id"),
        answered("sp ace", "q2", "no key"),
        Operation(op_id="nothing"),
        answered("ok", "q1", "right 1"),
        answered("ok", "q1", "right 2"),
        Operation(op_id="when", answer=Operation.Answer(question_id="q3", occurred_at={"seconds": 2**60})),
        answered("last", "q3", "right 3"),
    )
    assert statuses(results) == [
        *("CONFLICT", "APPLIED", "REFUSED", "REFUSED", "REFUSED", "REFUSED", "REFUSED", "REFUSED"),
        *("DUPLICATE", "CONFLICT", "REFUSED", "APPLIED"),
    ]
    refused = [result for result in results if result.status == Status.Value("REFUSED")]
    assert {result.reason for result in refused} == {"INVALID_ARGUMENT"}
    assert all(result.detail for result in refused)
    assert not any(result.retryable for result in results)
    (row,) = await world.sessions(user)
    assert (row["answers_given"], row["answered"]) == (3, 2)


async def test_a_rude_upload_hurts_nobody_in_its_message(world: World) -> None:
    ready = [await begun(world) for _ in range(6)]
    items = [
        upload(
            world,
            user,
            session if place != 3 else session.upper(),
            [answered("1", "q1", "\0" if place == 1 else "right 1"), completed("2")],
        )
        for place, (user, session) in enumerate(ready)
    ]
    other, _ = ready[0]
    items.append(upload(world, other, ready[5][1], [answered("9", "q1", "x")]))  # somebody else's session
    outcomes = await world.send(items)
    assert reasons(outcomes) == [None, None, None, Reason.NOT_FOUND, None, None, Reason.NOT_FOUND]
    told = {place: statuses(body(items[place], outcomes[place]).results) for place in (0, 1, 2, 4, 5)}
    assert told.pop(1) == ["REFUSED", "APPLIED"]
    assert set(map(tuple, told.values())) == {("APPLIED", "APPLIED")}


async def test_a_clients_clock_never_extends_a_deadline(world: World) -> None:
    user, session = await begun(world, time_limit_seconds=60)
    await world.overdue(session)
    in_time = Operation.Answer(question_id="q1", choice="right 1", occurred_at={"seconds": 1_600_000_000})
    results = await uploaded(world, user, session, Operation(op_id="1", answer=in_time), completed("2"))
    assert [(Status.Name(r.status), r.reason) for r in results] == [
        ("REFUSED", "DEADLINE_PASSED"),
        ("REFUSED", "ILLEGAL_TRANSITION"),
    ]
    assert (await world.get(user, session)).state == Session.EXPIRED


async def test_a_locked_session_is_completed_only_after_its_answers(world: World) -> None:
    user, session = await begun(world)
    polite_user, polite = await begun(world)
    operations = [answered("1", "q1", "right 1"), completed("2")]
    locking = world.truth.transaction()
    await locking.start()
    await world.truth.execute(
        "SELECT 1 FROM sessions WHERE user_id = $1 AND session_id = $2::uuid FOR UPDATE", user, session
    )
    try:
        items = [upload(world, user, session, operations), upload(world, polite_user, polite, operations)]
        outcomes = await world.send(items)
    finally:
        await locking.rollback()
    stuck, fine = (list(body(item, o).results) for item, o in zip(items, outcomes, strict=True))
    assert [(Status.Name(r.status), r.reason, r.retryable) for r in stuck] == [
        ("REFUSED", "UNAVAILABLE", True)
    ] * 2
    assert statuses(fine) == ["APPLIED", "APPLIED"]
    assert statuses(await uploaded(world, user, session, *operations)) == ["APPLIED", "APPLIED"]


@pytest.mark.parametrize("loss", [Loss.REQUEST, Loss.ANSWER])
async def test_an_upload_whose_commit_was_not_answered_is_carried_out_once(world: World, loss: Loss) -> None:
    user, session = await begun(world)
    async with PostgresProxy(world.session_dsn).running() as proxy:
        database = await Database.connect(proxy.dsn, maximum=4)
        parts = world.assemble(database=database)
        proxy.lose(b"COMMIT", loss)
        results = await uploaded(
            world, user, session, answered("1", "q1", "right 1"), completed("2"), parts=parts
        )
        await database.close()
    assert proxy.lost == 1
    assert statuses(results) == ["APPLIED", "APPLIED"]
    (row,) = await world.sessions(user)
    assert (row["answers_given"], row["state"]) == (1, "completed")


def beat(op_id: str, seq: int, *, visible: bool = True) -> Any:
    return Operation(op_id=op_id, heartbeat=Operation.Heartbeat(seq=seq, visible=visible))


async def test_heartbeats_of_an_upload_count_by_their_number(world: World) -> None:
    user, session = await begun(world)
    await world.truth.execute(
        "UPDATE sessions SET started_at = started_at - interval '10 minutes' WHERE session_id = $1::uuid",
        session,
    )
    results = await uploaded(world, user, session, answered("1", "q1", "right 1"), beat("h", 7), beat("i", 0))
    assert statuses(results) == ["APPLIED", "APPLIED", "REFUSED"]
    assert (results[1].heartbeat.seq, results[1].heartbeat.state) == (7, Session.ACTIVE)
    gained = results[1].heartbeat.engaged_seconds
    assert 0 < gained <= 60
    again = await uploaded(world, user, session, beat("h", 7), beat("late", 3))
    assert statuses(again) == ["DUPLICATE", "DUPLICATE"]
    assert {result.heartbeat.engaged_seconds for result in again} == {gained}
    await uploaded(world, user, session, completed("c"))
    (late,) = await uploaded(world, user, session, beat("after", 8))
    assert (Status.Name(late.status), late.reason, late.retryable) == ("REFUSED", "SESSION_CLOSED", False)


async def test_many_uploads_of_one_session_at_once_are_some_serial_order(world: World) -> None:
    """Each operation comes one to three times, in uploads of random sizes, at two replicas at once."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    user, session = await begun(world, questions=4)
    choices = {f"op{n}": (f"q{n % 4 + 1}", f"right {chance.randrange(1, 5)}") for n in range(30)}
    sent = [op_id for op_id in choices for _ in range(chance.randrange(1, 4))]
    chance.shuffle(sent)
    replicas = [world.parts, world.assemble()]
    uploads = []
    while sent:
        size = chance.randrange(1, 9)
        some, sent = sent[:size], sent[size:]
        uploads.append([answered(op_id, *choices[op_id]) for op_id in some])
    found = await asyncio.gather(
        *(
            finished(world, user, session, *operations, parts=replicas[place % 2])
            for place, operations in enumerate(uploads)
        )
    )
    results = [result for some in found for result in some]
    assert set(statuses(results)) <= {"APPLIED", "DUPLICATE"}, seed
    applied = [result.op_id for result in results if result.status == Status.Value("APPLIED")]
    assert sorted(applied) == sorted(choices), seed
    (done,) = await uploaded(world, user, session, completed("end"))
    (row,) = await world.sessions(user)
    right = sum(choice == f"right {question[1:]}" for question, choice in choices.values())
    assert (row["answers_given"], row["answers_correct"], row["answered"]) == (30, right, 4), seed
    latest: dict[str, bool] = {}
    events = await timeline(world, user, session, page_size=20)
    for event in events:
        if event.HasField("answer"):
            latest[event.answer.question_id] = event.answer.correct
    assert done.session.score == pytest.approx(sum(latest.values()) / 4), seed
    assert kinds(events) == ["STARTED", *["ANSWERED"] * 30, "COMPLETED"]


async def test_large_uploads_are_split_between_transactions(world: World) -> None:
    ready = [await begun(world) for _ in range(4)]
    operations = [answered(f"{n}", f"q{n % 3 + 1}", "x") for n in range(200)]
    items = [upload(world, user, session, operations) for user, session in ready]
    outcomes = await world.send(items)
    for item, outcome in zip(items, outcomes, strict=True):
        assert set(statuses(body(item, outcome).results)) == {"APPLIED"}
    for user, _ in ready:
        (row,) = await world.sessions(user)
        assert (row["answers_given"], row["answered"]) == (200, 3)


async def test_an_upload_for_no_session_is_refused_as_a_whole(world: World) -> None:
    user, session = await begun(world)
    other = await world.learner()
    nowhere = "019a0000-0000-7000-8000-000000000000"
    items = [
        upload(world, user, nowhere, [Operation(op_id="nothing"), completed(unique("op"))]),
        upload(world, user, nowhere, [Operation(op_id="nothing")]),
        upload(world, user, nowhere, [beat("h", 1)]),
        upload(world, other, session, [Operation(op_id="nothing")]),
        upload(world, user, session, [Operation(op_id="nothing")]),
    ]
    outcomes = await world.send(items)
    assert reasons(outcomes) == [*[Reason.NOT_FOUND] * 4, None]
    assert statuses(body(items[4], outcomes[4]).results) == ["REFUSED"]
