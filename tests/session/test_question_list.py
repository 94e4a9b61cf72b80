"""The list of a test's questions with their answers: in order, in pages, for its instructors."""

from __future__ import annotations

from typing import Any

import pytest

from chassis.errors import Reason, ServiceError
from protos.session.v1 import questions_pb2 as pb
from protos.session.v1 import tests_pb2
from tests.session.world import TESTS, World, reasons

QUESTIONS = "homeroom.session.v1.QuestionService"


def listing(world: World, test_id: str, **fields: Any) -> Any:
    request = pb.ListQuestionsRequest(test_id=test_id, **fields)
    return world.item(f"/{QUESTIONS}/ListQuestions", request)


async def test_the_questions_are_listed_as_they_were_imported(world: World) -> None:
    test_id = await world.test(questions=0)
    imported = [
        tests_pb2.ImportedQuestion(
            question_id=f"id {n}", prompt=f"Prompt {n}", choices=["a", "b"], accepted=["b"],
            difficulty="HARD" if n % 2 else None, subject=None if n % 2 else "",
        )
        for n in range(7, 0, -1)
    ]  # fmt: skip
    request = tests_pb2.ImportQuestionsRequest(test_id=test_id, questions=imported)
    await world.one(world.item(f"/{TESTS}/ImportQuestions", request))
    found: list[Any] = []
    token = ""
    while True:
        page = await world.one(listing(world, test_id, page_size=3, page_token=token))
        assert len(page.questions) <= 3
        found += page.questions
        token = page.next_page_token
        if not token:
            break
    assert found == imported


async def test_a_mended_question_is_listed_once_at_its_place(world: World) -> None:
    test_id = await world.test(questions=3)
    await world.import_questions(test_id, [2], prompt="Mended")
    page = await world.one(listing(world, test_id))
    assert [each.prompt for each in page.questions] == ["Question 1?", "Mended 2?", "Question 3?"]


async def test_a_test_without_questions_is_empty_and_no_test_is_not_found(world: World) -> None:
    empty = await world.test(questions=0)
    outcomes = await world.send(
        [listing(world, empty), listing(world, "no-such-test"), listing(world, "a\0b")]
    )
    assert reasons(outcomes) == [None, Reason.NOT_FOUND, Reason.NOT_FOUND]
    with pytest.raises(ServiceError):
        await world.one(listing(world, empty, page_token="made up"))
