"""Tests are defined and shown, questions imported; every change holds at once, and none twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chassis.batch import Item
from chassis.errors import Reason
from protos.session.v1 import tests_pb2
from tests.session.world import TESTS, World, reasons, unique

FULL: dict[str, Any] = {
    "title": "Everything",
    "kind": tests_pb2.Test.COMPLIANCE,
    "difficulty": "HARD",
    "question_count": 7,
    "time_limit_seconds": 60,
    "max_attempts": 2,
    "credit_cost": 3,
    "counts_toward_daily_limit": True,
    "pass_score": 0.8,
    "specialization": "physics",
    "xp": 50,
    "min_engaged_seconds": 10,
    "identity_checks": 1,
}


def put(world: World, test: str, **fields: Any) -> Item[Any]:
    return world.item(f"/{TESTS}/PutTest", tests_pb2.PutTestRequest(test_id=test, **fields))


def get(world: World, test: str) -> Item[Any]:
    return world.item(f"/{TESTS}/GetTest", tests_pb2.GetTestRequest(test_id=test))


def imported(test: str, *questions: tests_pb2.ImportedQuestion) -> tests_pb2.ImportQuestionsRequest:
    return tests_pb2.ImportQuestionsRequest(test_id=test, questions=questions)


def question(name: str, prompt: str = "?", **fields: Any) -> tests_pb2.ImportedQuestion:
    return tests_pb2.ImportedQuestion(question_id=name, prompt=prompt, accepted=["yes"], **fields)


async def revisions(world: World, test: str) -> list[list[str]]:
    rows = await world.truth.fetch(
        "SELECT question_ids FROM test_revisions WHERE test_id = $1 ORDER BY revision", test
    )
    return [row["question_ids"] for row in rows]


@pytest.mark.parametrize("fields", [FULL, {"title": "Bare", "kind": tests_pb2.Test.QUIZ}])
async def test_what_is_put_can_be_got(world: World, fields: dict[str, Any]) -> None:
    name = unique("test")
    answered = (await world.one(put(world, name, **fields))).test
    assert answered == tests_pb2.Test(test_id=name, **fields)
    assert (await world.one(get(world, name))).test == answered


async def test_putting_the_same_again_changes_nothing(world: World) -> None:
    name = unique("test")
    for _ in range(3):
        await world.one(put(world, name, **FULL))
    assert len(await revisions(world, name)) == 1
    await world.one(put(world, name, **{**FULL, "title": "Other"}))
    assert len(await revisions(world, name)) == 2


async def test_a_test_that_is_not_there_is_not_found(world: World) -> None:
    outcomes = await world.send([get(world, unique("no-such")), get(world, await world.test())])
    assert reasons(outcomes) == [Reason.NOT_FOUND, None]
    assert reasons(await world.send([get(world, "\0")])) == [Reason.NOT_FOUND]
    name = unique("no-such")
    request = imported(name, question("q"))
    assert reasons(await world.send([world.item(f"/{TESTS}/ImportQuestions", request)])) == [Reason.NOT_FOUND]
    assert not await world.truth.fetchval("SELECT count(*) FROM tests WHERE test_id = $1", name)


async def test_many_who_put_one_new_test_at_once_all_succeed(world: World) -> None:
    name = unique("test")
    found = await asyncio.gather(
        *(world.send([put(world, name, **{**FULL, "title": f"T{n}"})]) for n in range(8))
    )
    assert [reason for batch in found for reason in reasons(batch)] == [None] * 8
    assert len(await revisions(world, name)) == 8


async def test_an_import_adds_replaces_and_counts(world: World) -> None:
    name = await world.test(questions=0, question_count=3)

    async def send(*questions: tests_pb2.ImportedQuestion) -> tuple[int, int, int, int]:
        counts = await world.one(world.item(f"/{TESTS}/ImportQuestions", imported(name, *questions)))
        return counts.created, counts.updated, counts.unchanged, counts.total

    assert await send(question("b"), question("a", choices=["yes", "no"])) == (2, 0, 0, 2)
    assert await send(question("b"), question("c"), question("a", "mended")) == (1, 1, 1, 3)
    assert await send(question("d")) == (1, 0, 0, 4)
    assert await send(question("d"), question("a", "mended", choices=["yes"])) == (0, 1, 1, 4)
    # A revision for each change of what is asked, in the order of import; none for the fourth question.
    assert await revisions(world, name) == [[], ["b", "a"], ["b", "a", "c"]]


async def test_all_of_a_question_survives_the_way_to_the_database(world: World) -> None:
    name = await world.test(questions=0, question_count=5)
    odd = tests_pb2.ImportedQuestion(
        question_id='q "1" {,}\\',
        prompt="Zwölf Boxkämpfer\njagen 'Viktor'; 20 °C → NULL?",
        choices=["", "{a,b}", '"quoted"', "NULL", "ß \\ \t"],
        accepted=["NULL", "{}", 'say "yes"'],
        difficulty="HARD",
        subject="",
    )
    await world.one(world.item(f"/{TESTS}/ImportQuestions", imported(name, odd)))
    again = await world.one(world.item(f"/{TESTS}/ImportQuestions", imported(name, odd)))
    assert (again.created, again.updated, again.unchanged) == (0, 0, 1)
    user = await world.learner()
    session = await world.started(user, name, "k")
    assert [(q.question_id, q.prompt, list(q.choices)) for q in session.questions] == [
        (odd.question_id, odd.prompt, list(odd.choices))
    ]
    answer = await world.one(world.answer(user, session.session_id, "a", odd.question_id, ' SAY "YES"'))
    assert answer.correct


async def test_a_question_named_twice_is_refused_by_name_and_nothing_is_imported(world: World) -> None:
    name = await world.test(questions=0, question_count=5)
    request = imported(name, question("a"), question("b"), question("a"))
    (refusal,) = await world.send([world.item(f"/{TESTS}/ImportQuestions", request)])
    assert refusal.reason is Reason.INVALID_ARGUMENT
    assert refusal.violations[0].field == "questions[2].questionId"
    assert not await world.truth.fetchval("SELECT count(*) FROM questions WHERE test_id = $1", name)


async def test_what_cannot_be_stored_is_refused_alone(world: World) -> None:
    name = await world.test(questions=0, question_count=5)
    outcomes = await world.send(
        [
            world.item(f"/{TESTS}/ImportQuestions", imported(name, question("a", "x\0y"))),
            world.item(f"/{TESTS}/ImportQuestions", imported(name, question("b"))),
        ]
    )
    assert reasons(outcomes) == [Reason.INVALID_ARGUMENT, None]


async def test_a_test_that_someone_else_is_changing_is_busy(world: World) -> None:
    name = await world.test()
    locking = world.truth.transaction()
    await locking.start()
    await world.truth.execute("SELECT 1 FROM tests WHERE test_id = $1 FOR UPDATE", name)
    outcomes = await world.send([put(world, name, **FULL), put(world, unique("test"), **FULL)])
    await locking.rollback()
    assert reasons(outcomes) == [Reason.UNAVAILABLE, None]


async def test_tests_are_listed_in_pages(fresh_world: World) -> None:
    world = fresh_world
    names = sorted([await world.test(questions=0) for _ in range(5)])
    seen: list[list[str]] = []
    token = ""
    for _ in range(4):
        request = tests_pb2.ListTestsRequest(page_size=2, page_token=token)
        page = await world.one(world.item(f"/{TESTS}/ListTests", request))
        seen.append([test.test_id for test in page.tests])
        token = page.next_page_token
        if not token:
            break
    assert seen == [names[:2], names[2:4], names[4:]]
    request = tests_pb2.ListTestsRequest(page_token="\0")
    assert reasons(await world.send([world.item(f"/{TESTS}/ListTests", request)])) == [
        Reason.INVALID_ARGUMENT
    ]
    everything = await world.one(world.item(f"/{TESTS}/ListTests", tests_pb2.ListTestsRequest()))
    assert len(everything.tests) == 5
