"""Requests about tests as domain objects, and what only this conversion can find wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chassis.batch import Item
from chassis.errors import Reason, ServiceError
from protos.session.v1 import tests_pb2
from session_service.domain.tests import Definition, Kind, NamedTest, Question
from session_service.operations.manage_tests import ImportRequest
from session_service.servicer.messages import KINDS

_KIND_OF: Mapping[Any, Kind] = {number: kind for kind, number in KINDS.items()}


def named_test(message: tests_pb2.PutTestRequest) -> NamedTest:
    def optional(field: str) -> Any:
        return getattr(message, field) if message.HasField(field) else None

    return NamedTest(
        test_id=message.test_id,
        definition=Definition(
            title=message.title,
            kind=_KIND_OF[message.kind],
            difficulty=message.difficulty,
            question_count=message.question_count,
            time_limit_seconds=optional("time_limit_seconds"),
            max_attempts=optional("max_attempts"),
            credit_cost=message.credit_cost,
            counts_toward_daily_limit=message.counts_toward_daily_limit,
            pass_score=optional("pass_score"),
            specialization=optional("specialization"),
            xp=optional("xp"),
            min_engaged_seconds=optional("min_engaged_seconds"),
            identity_checks=optional("identity_checks"),
        ),
    )


def import_request(message: tests_pb2.ImportQuestionsRequest) -> ImportRequest:
    return ImportRequest(
        test_id=message.test_id,
        questions=[
            Question(
                question_id=question.question_id,
                prompt=question.prompt,
                choices=tuple(question.choices),
                accepted=tuple(question.accepted),
                difficulty=question.difficulty if question.HasField("difficulty") else None,
                subject=question.subject if question.HasField("subject") else None,
            )
            for question in message.questions
        ],
    )


def test_id_of(item: Item[tests_pb2.GetTestRequest]) -> str:
    """The test meant; raises ServiceError with NOT_FOUND when none could be called so."""
    if "\0" in item.request.test_id:
        raise ServiceError(Reason.NOT_FOUND, "There is no such test")
    return item.request.test_id
