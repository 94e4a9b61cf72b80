"""The .proto files are the single source of truth, so they must say everything, and agree with their code."""

from __future__ import annotations

import pytest
from google.api import annotations_pb2

from chassis.rpc.methods import Method, find_method, methods_of
from chassis.rpc.validation import validate
from gateway.contract import service_names
from protos import generate
from protos.session.v1 import sessions_pb2, tests_pb2

METHODS = [method for service in service_names() for method in methods_of(service)]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.path)
def test_every_method_says_who_may_call_it_and_has_a_route_unless_internal(method: Method):
    rule = method.descriptor.GetOptions().Extensions[annotations_pb2.http]
    assert method.roles <= {"learner", "instructor", "admin", "service"}
    assert bool(rule.WhichOneof("pattern")) is not method.internal
    if method.safe:
        assert not method.key_required
        assert rule.get or method.internal
    if rule.get:
        assert method.safe


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.path)
def test_a_mutation_is_idempotent_by_nature_or_needs_a_key(method: Method):
    assert method.safe or method.idempotent or method.key_required


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.path)
def test_rules_of_every_request_compile(method: Method):
    validate(method.request_type())


def test_a_violation_names_the_field_as_the_client_wrote_it():
    question = tests_pb2.ImportedQuestion(question_id="q", prompt="p", accepted=["a"])
    broken = tests_pb2.ImportedQuestion(question_id="", prompt="p", accepted=["a"])
    request = tests_pb2.ImportQuestionsRequest(test_id="t", questions=[question, broken])
    error = validate(request)
    assert error is not None
    assert [violation.field for violation in error.violations] == ["questions[1].questionId"]
    error = validate(sessions_pb2.CreateSessionRequest(test_id="t", metadata={"note": "x" * 1001}))
    assert error is not None
    assert [violation.field for violation in error.violations] == ["metadata.note"]


def test_an_unknown_method_is_a_lookup_error():
    with pytest.raises(LookupError):
        find_method("/homeroom.session.v1.SessionService/Nothing")


def test_generated_code_is_current():
    assert generate.stale() == []
