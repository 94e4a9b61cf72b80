"""Calls are sent again as their method's policy says, and retries stay within their budget."""

from __future__ import annotations

import pytest

from chassis.errors import Reason, ServiceError
from chassis.rpc.methods import Priority, find_method
from chassis.rpc.retries import RetryBudget, RetryPolicy
from protos.progress.v1 import progress_pb2
from protos.session.v1 import sessions_pb2

RESULT = f"/{progress_pb2.DESCRIPTOR.services_by_name['StatisticsService'].full_name}/RecordSessionResult"
SESSIONS = f"/{sessions_pb2.DESCRIPTOR.services_by_name['SessionService'].full_name}"


def test_retries_are_a_tenth_of_the_calls_once_the_burst_is_spent():
    budget = RetryBudget(ratio=0.1, burst=5)
    assert sum(budget.spend() for _ in range(50)) == 5
    spent = 0
    for _ in range(1000):
        budget.earn()
        spent += budget.spend()
    assert 95 <= spent <= 101


def test_a_call_is_sent_again_as_often_and_after_the_refusals_that_its_policy_says():
    usual, patient = RetryPolicy(), RetryPolicy(attempts_max=5, after=frozenset({Reason.OVERLOADED}))
    for reason in Reason:
        again = [usual.pause_seconds(ServiceError(reason), attempt) is not None for attempt in (1, 2, 3)]
        assert again == ([True, True, False] if reason is Reason.UNAVAILABLE else [False] * 3)
    assert patient.pause_seconds(ServiceError(Reason.OVERLOADED), 4) is not None
    assert patient.pause_seconds(ServiceError(Reason.OVERLOADED), 5) is None
    assert patient.pause_seconds(ServiceError(Reason.UNAVAILABLE), 1) is None


def test_no_call_is_sent_again_earlier_than_its_refusal_says():
    refusal = ServiceError(Reason.UNAVAILABLE, retry_after_seconds=2.0)
    pauses = [RetryPolicy(backoff_seconds=0.1).pause_seconds(refusal, 1) for _ in range(200)]
    assert all(pause is not None and 2.0 <= pause <= 2.2 for pause in pauses)


def test_the_contract_has_a_policy_for_a_method_and_defaults_for_the_others():
    assert find_method(RESULT).retry == RetryPolicy(attempts_max=1)
    assert find_method(f"{SESSIONS}/CompleteSession").retry == RetryPolicy(
        after=frozenset({Reason.UNAVAILABLE, Reason.OVERLOADED})
    )
    assert find_method(f"{SESSIONS}/CreateSession").retry == RetryPolicy()


@pytest.mark.parametrize(
    ("name", "priority"),
    [
        ("CompleteSession", Priority.HIGH),
        ("AnswerQuestion", Priority.HIGH),
        ("CreateSession", Priority.NORMAL),
        ("GetSession", Priority.NORMAL),
        ("ListSessions", Priority.LOW),
    ],
)
def test_the_contract_says_what_is_refused_first(name, priority):
    method = find_method(f"{SESSIONS}/{name}")
    assert method.priority is priority
    assert (
        method.in_flight_limit(100) == {Priority.HIGH: 125, Priority.NORMAL: 100, Priority.LOW: 75}[priority]
    )
