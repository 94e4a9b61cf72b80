"""A learner is shown and graded by what the session began with, whatever is imported meanwhile."""

from __future__ import annotations

import pytest

from chassis.errors import Reason, ServiceError
from protos.session.v1 import tests_pb2
from tests.session.world import TESTS, World, unique


async def imports(world: World, test: str, prompt: str, *, choices: list[str], accepted: list[str]) -> None:
    question = tests_pb2.ImportedQuestion(question_id="q1", prompt=prompt, choices=choices, accepted=accepted)
    request = tests_pb2.ImportQuestionsRequest(test_id=test, questions=[question])
    await world.one(world.item(f"/{TESTS}/ImportQuestions", request))


async def test_an_import_changes_no_session_under_way(world: World) -> None:
    early, late = await world.learner(), await world.learner()
    test = await world.test(questions=0, question_count=1)
    await imports(world, test, "2 + 2?", choices=["4", "5"], accepted=["5"])
    session = await world.started(early, test, "k")
    await imports(world, test, "2 plus 2?", choices=["4", "6"], accepted=["4"])
    restarted = world.assemble()

    for parts in (world.parts, restarted):
        resumed = (await world.one(world.start(early, test, unique("again")), parts)).session
        assert (resumed.session_id, resumed.resumed) == (session.session_id, True)
        assert [(q.prompt, list(q.choices)) for q in resumed.questions] == [("2 + 2?", ["4", "5"])]
        replayed = (await world.one(world.start(early, test, "k"), parts)).session
        assert replayed == session
    assert list((await world.get(early, session.session_id)).questions) == list(session.questions)
    for parts, choice, correct in ((world.parts, "4", False), (restarted, "5", True)):
        answer = world.answer(early, session.session_id, unique("a"), "q1", choice)
        assert (await world.one(answer, parts)).correct is correct
    ended = (await world.one(world.complete(early, session.session_id, "done"), restarted)).session
    assert (ended.score, [q.prompt for q in ended.questions]) == (1.0, ["2 + 2?"])

    fresh = await world.started(late, test, "k")
    assert [(q.prompt, list(q.choices)) for q in fresh.questions] == [("2 plus 2?", ["4", "6"])]
    assert (await world.one(world.answer(late, fresh.session_id, "a", "q1", "4"))).correct


async def test_a_definition_changes_no_session_under_way(world: World) -> None:
    user = await world.learner()
    test = await world.test(questions=2, pass_score=0.5)
    session = await world.started(user, test, "k")
    await world.test(questions=0, question_count=1, test_id=test, pass_score=1.0)
    await world.one(world.answer(user, session.session_id, "a", "q1", "right 1"))
    ended = (await world.one(world.complete(user, session.session_id, "done"), world.assemble())).session
    assert (ended.total, ended.score, ended.passed) == (2, 0.5, True)


async def test_a_question_that_came_later_cannot_be_answered(world: World) -> None:
    user = await world.learner()
    test = await world.test(questions=1, question_count=5)
    session = await world.started(user, test, "k")
    await world.import_questions(test, [2])
    with pytest.raises(ServiceError) as refused:
        await world.one(world.answer(user, session.session_id, "a", "q2", "right 2"))
    assert refused.value.reason is Reason.INVALID_ARGUMENT
