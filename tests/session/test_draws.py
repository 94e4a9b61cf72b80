"""What a session draws from a test's questions is fixed at its start, and seen the same ever after."""

from __future__ import annotations

from typing import Any

import pytest

from chassis.errors import Reason, ServiceError
from protos.session.v1 import tests_pb2
from tests.session.world import TESTS, World, body, reasons, unique


async def new_test(world: World, questions: int, count: int, **fields: Any) -> str:
    """A test that asks `count` of its questions, whose difficulties are easy and hard in turn."""
    test = await world.test(questions=0, question_count=count, **fields)
    request = tests_pb2.ImportQuestionsRequest(
        test_id=test,
        questions=[
            tests_pb2.ImportedQuestion(
                question_id=f"q{n}",
                prompt=f"{n}?",
                accepted=[f"right {n}"],
                difficulty=("easy", "hard")[n % 2],
            )
            for n in range(questions)
        ],
    )
    await world.one(world.item(f"/{TESTS}/ImportQuestions", request))
    return test


def ids(session: Any) -> list[str]:
    return [question.question_id for question in session.questions]


@pytest.mark.parametrize(("questions", "count"), [(12, 5), (1003, 1000)])
async def test_a_draw_is_seen_the_same_by_everyone_and_for_good(
    world: World, questions: int, count: int
) -> None:
    user, test = await world.learner(), await new_test(world, questions, count)
    item = world.start(user, test, "k")
    (first,) = await world.send([item])
    session = body(item, first).session
    assert len(set(ids(session))) == session.total == count
    await world.import_questions(test, range(5), prompt="Mended")
    await world.import_questions(test, range(5000, 5003))
    for parts in (world.parts, world.assemble()):
        (replayed,) = await world.send([item], parts)
        assert (replayed.replayed, replayed.payload()) == (True, first.payload())
        resumed = (await world.one(world.start(user, test, unique("again")), parts)).session
        assert (resumed.resumed, list(resumed.questions)) == (True, list(session.questions))
    assert list((await world.get(user, session.session_id)).questions) == list(session.questions)
    done = (await world.one(world.complete(user, session.session_id, "c"))).session
    assert list(done.questions) == list(session.questions)


async def test_only_drawn_questions_can_be_answered(world: World) -> None:
    user, test = await world.learner(), await new_test(world, 12, 5)
    session = await world.started(user, test, "k")
    drawn = ids(session)
    others = [f"q{n}" for n in range(12) if f"q{n}" not in drawn]
    for question in drawn:
        answer = world.answer(
            user, session.session_id, f"a{question}", question, f"right {question.removeprefix('q')}"
        )
        assert (await world.one(answer)).correct
    outcomes = await world.send(
        [world.answer(user, session.session_id, f"a{question}", question, "") for question in others]
    )
    assert reasons(outcomes) == [Reason.INVALID_ARGUMENT] * 7
    done = (await world.one(world.complete(user, session.session_id, "c"))).session
    assert (done.answered, done.total, done.score) == (5, 5, 1.0)


async def test_learners_draw_differently_and_each_draw_has_its_seed(world: World) -> None:
    test = await new_test(world, 40, 20)
    users = [await world.learner() for _ in range(4)]
    drawn = [tuple(ids(await world.started(user, test, "k"))) for user in users]
    assert len(set(drawn)) == len(users)
    seeds = [(await world.sessions(user))[0]["seed"] for user in users]
    assert len({*seeds, None}) == len(users) + 1


async def test_a_difficulty_chooses_among_the_questions(world: World) -> None:
    user, test = await world.learner(), await new_test(world, 12, 8)
    session = await world.started(user, test, "k", difficulty=" HARD")
    assert ids(session) == [f"q{n}" for n in range(1, 12, 2)]
    assert (session.total, session.difficulty) == (6, " HARD")
    (row,) = await world.sessions(user)
    assert (row["seed"], row["drawn"]) == (None, [1, 3, 5, 7, 9, 11])


async def test_a_difficulty_that_no_question_has_is_refused_and_costs_nothing(world: World) -> None:
    user, test = await world.learner(limit=1), await new_test(world, 12, 8)
    with pytest.raises(ServiceError) as refused:
        await world.one(world.start(user, test, "k", difficulty="odd"))
    assert refused.value.reason is Reason.INVALID_ARGUMENT
    assert [violation.field for violation in refused.value.violations] == ["difficulty"]
    assert await world.holds(user) == {}
    strangers = [await world.learner() for _ in range(2)]
    outcomes = await world.send(
        [
            world.start(strangers[0], test, "k"),
            world.start(user, test, "k", difficulty="odd"),
            world.start(strangers[1], test, "k"),
        ]
    )
    assert reasons(outcomes) == [None, Reason.INVALID_ARGUMENT, None]
    assert (await world.started(user, test, "k", difficulty="easy")).total == 6


async def test_a_session_that_draws_nothing_stores_nothing_of_it(world: World) -> None:
    """The two columns cost such a row no byte: they are only bits of its null bitmap."""
    test, all_asked = await new_test(world, 12, 5), await new_test(world, 12, 12)
    user, other = await world.learner(), await world.learner()
    await world.started(user, all_asked, "k")
    await world.started(other, test, "k")
    sizes = (
        "SELECT pg_column_size(seed) AS seed, pg_column_size(drawn) AS drawn FROM sessions WHERE user_id = $1"
    )
    assert tuple(await world.truth.fetchrow(sizes, user) or ()) == (None, None)
    # A header of 20 bytes, and 2 bytes for each question, as pg_column_size counts a short array.
    assert tuple(await world.truth.fetchrow(sizes, other) or ()) == (8, 31)
