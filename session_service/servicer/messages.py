"""Tests as protobuf messages."""

from __future__ import annotations

from protos.session.v1 import tests_pb2
from session_service.domain.tests import Kind, NamedTest

KINDS = {
    Kind.PRACTICE: tests_pb2.Test.PRACTICE,
    Kind.MOCK: tests_pb2.Test.MOCK,
    Kind.QUIZ: tests_pb2.Test.QUIZ,
    Kind.COMPLIANCE: tests_pb2.Test.COMPLIANCE,
    Kind.INTERVIEW: tests_pb2.Test.INTERVIEW,
}


def test_message(test: NamedTest) -> tests_pb2.Test:
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
