"""QuestionService."""

from __future__ import annotations

from typing import Protocol

from chassis.batch import Item
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler, PagedOperation, paged
from protos.session.v1 import questions_pb2, tests_pb2
from session_service.domain.tests import Question
from session_service.servicer.catalog_messages import existing_test

SERVICE = "/homeroom.session.v1.QuestionService"


class Placed(Protocol):
    """A question at its place in the list."""

    @property
    def position(self) -> int: ...

    @property
    def question(self) -> Question: ...


def handlers(*, list_questions: PagedOperation[str, Placed], tokens: PageTokens) -> list[Handler]:
    """The questions of a test, with their answers."""
    return [
        paged(
            f"{SERVICE}/ListQuestions",
            _test_id,
            list_questions,
            lambda placed: _message(placed.question),
            position=lambda placed: (placed.position,),
            tokens=tokens,
        )
    ]


def _test_id(item: Item[questions_pb2.ListQuestionsRequest]) -> str:
    """The id of a test; raises ServiceError with NOT_FOUND if no test can have it."""
    return existing_test(item.request.test_id)


def _message(question: Question) -> tests_pb2.ImportedQuestion:
    return tests_pb2.ImportedQuestion(
        question_id=question.question_id,
        prompt=question.prompt,
        choices=question.choices,
        accepted=question.accepted,
        difficulty=question.difficulty,
        subject=question.subject,
    )
