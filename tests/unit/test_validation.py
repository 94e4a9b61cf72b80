"""A violation names the field as the client spells it, and the number of violations is bounded."""

from __future__ import annotations

from chassis.errors import Reason
from chassis.rpc.validation import VIOLATIONS_MAX, validate
from protos.session.v1 import tests_pb2


def imported(questions: int) -> tests_pb2.ImportQuestionsRequest:
    valid = tests_pb2.ImportedQuestion(question_id="q", prompt="p", accepted=["a"])
    request = tests_pb2.ImportQuestionsRequest(test_id="t", questions=[valid] * questions)
    request.questions[-1].accepted.append("x" * 2001)
    return request


def test_a_violation_names_the_field_as_json_spells_it():
    error = validate(imported(3))
    assert error.reason is Reason.INVALID_ARGUMENT
    assert [violation.field for violation in error.violations] == ["questions[2].accepted[1]"]
    assert error.detail.startswith("questions[2].accepted[1]: ")


def test_a_valid_message_has_no_violation():
    request = imported(2)
    del request.questions[-1].accepted[-1]
    assert validate(request) is None


def test_a_message_that_is_wrong_everywhere_has_a_bounded_number_of_violations():
    error = validate(wrong_everywhere(questions=150))
    assert len(error.violations) == VIOLATIONS_MAX
    assert error.violations[0].field == "questions[0].questionId"


def test_only_the_first_violation_of_a_large_message_is_reported():
    error = validate(wrong_everywhere(questions=1000))
    assert [violation.field for violation in error.violations] == ["questions[0].questionId"]


def wrong_everywhere(*, questions: int) -> tests_pb2.ImportQuestionsRequest:
    return tests_pb2.ImportQuestionsRequest(
        test_id="t", questions=[tests_pb2.ImportedQuestion() for _ in range(questions)]
    )
