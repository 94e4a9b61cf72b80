"""Tests and their questions, between protobuf and the domain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chassis.batch import Item
from chassis.errors import invalid_field
from protos.session.v1 import tests_pb2
from session_service.domain.missing import no_such_test
from session_service.domain.tests import Definition, ImportCounts, Kind, NamedTest, Question
from session_service.operations.manage_tests import ImportRequest

KINDS = {
    Kind.PRACTICE: tests_pb2.Test.PRACTICE,
    Kind.MOCK: tests_pb2.Test.MOCK,
    Kind.QUIZ: tests_pb2.Test.QUIZ,
    Kind.COMPLIANCE: tests_pb2.Test.COMPLIANCE,
    Kind.INTERVIEW: tests_pb2.Test.INTERVIEW,
}
_KIND_OF: Mapping[Any, Kind] = {number: kind for kind, number in KINDS.items()}


def named_test(item: Item[tests_pb2.PutTestRequest]) -> NamedTest:
    """The definition that the test is to have."""
    message = item.request

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


def import_request(item: Item[tests_pb2.ImportQuestionsRequest]) -> ImportRequest:
    """The questions to import; raises ServiceError for an id or a text that cannot be stored."""
    return ImportRequest(
        test_id=existing_test(item.request.test_id),
        questions=[
            _question(question, f"questions[{place}]")
            for place, question in enumerate(item.request.questions)
        ],
    )


def test_id_of(item: Item[tests_pb2.GetTestRequest]) -> str:
    """The id of a test; raises ServiceError with NOT_FOUND if no test can have it."""
    return existing_test(item.request.test_id)


def test_message(test: NamedTest) -> tests_pb2.Test:
    """A test as everyone may see it."""
    definition = test.definition
    return tests_pb2.Test(
        test_id=test.test_id,
        title=definition.title,
        kind=KINDS[definition.kind],
        difficulty=definition.difficulty,
        question_count=definition.question_count,
        time_limit_seconds=definition.time_limit_seconds,
        max_attempts=definition.max_attempts,
        credit_cost=definition.credit_cost,
        counts_toward_daily_limit=definition.counts_toward_daily_limit,
        pass_score=definition.pass_score,
        specialization=definition.specialization,
        xp=definition.xp,
        min_engaged_seconds=definition.min_engaged_seconds,
        identity_checks=definition.identity_checks,
    )


def import_response(counts: ImportCounts) -> tests_pb2.ImportQuestionsResponse:
    """The answer to an import."""
    return tests_pb2.ImportQuestionsResponse(
        created=counts.created, updated=counts.updated, unchanged=counts.unchanged, total=counts.total
    )


def _question(message: tests_pb2.ImportedQuestion, field: str) -> Question:
    texts = (message.question_id, message.prompt, *message.choices, *message.accepted)
    if any("\0" in text for text in (*texts, message.difficulty, message.subject)):
        raise invalid_field(field, "holds a NUL character")
    return Question(
        question_id=message.question_id,
        prompt=message.prompt,
        choices=tuple(message.choices),
        accepted=tuple(message.accepted),
        difficulty=message.difficulty if message.HasField("difficulty") else None,
        subject=message.subject if message.HasField("subject") else None,
    )


def existing_test(test_id: str) -> str:
    """The id, if it has no NUL: PostgreSQL refuses a NUL even in a lookup, and with it the whole batch."""
    if "\0" in test_id:
        raise no_such_test(test_id)
    return test_id
