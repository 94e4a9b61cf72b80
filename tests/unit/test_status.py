"""One error vocabulary crosses gRPC intact."""

from __future__ import annotations

import decimal
import uuid

import pytest
from google.rpc import error_details_pb2, status_pb2

from chassis.errors import FieldViolation, Reason, ServiceError
from chassis.rpc.reasons import CODES
from chassis.rpc.status import STATUS_BYTES_MAX, from_status, is_ours, to_status


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_survives_the_wire(reason):
    error = ServiceError(
        reason,
        "what happened",
        metadata={"limit": 3, "share": 0.5, "resetsAt": "2026-01-01T00:00:00Z", "user": "42", "none": None},
        violations=[FieldViolation("questions[3].prompt", "is empty")],
        retry_after_seconds=1.25,
    )
    status = status_pb2.Status.FromString(to_status(error).SerializeToString())
    assert status.code == CODES[reason].grpc.value[0]
    back = from_status(status)
    assert back.reason is reason
    assert back.metadata == {"limit": 3, "share": 0.5, "resetsAt": "2026-01-01T00:00:00Z", "user": "42"}
    assert isinstance(back.metadata["limit"], int)
    assert back.violations == error.violations
    assert back.retry_after_seconds == 1.25
    assert back.detail == ("what happened" if reason is not Reason.INTERNAL else Reason.INTERNAL.title)


def test_a_pause_below_zero_is_no_pause():
    status = to_status(ServiceError(Reason.UNAVAILABLE))
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromSeconds(-30)
    status.details.add().Pack(retry)
    assert from_status(status).retry_after_seconds == 0.0


def test_a_reached_limit_carries_a_quota_failure():
    status = to_status(ServiceError(Reason.DAILY_LIMIT_REACHED, metadata={"limit": 3}))
    assert any(detail.Is(error_details_pb2.QuotaFailure.DESCRIPTOR) for detail in status.details)


def test_a_status_without_a_known_reason_is_internal_and_says_nothing():
    status = status_pb2.Status(code=13, message="password=hunter2")
    back = from_status(status)
    assert back.reason is Reason.INTERNAL
    assert "hunter2" not in back.detail


def test_a_status_is_ours_if_its_error_info_says_so():
    assert is_ours(to_status(ServiceError(Reason.NOT_FOUND)))
    assert not is_ours(status_pb2.Status(code=5, message="Method not found!"))
    of_a_proxy = status_pb2.Status(code=5)
    of_a_proxy.details.add().Pack(error_details_pb2.ErrorInfo(reason="NOT_FOUND", domain="proxy.example"))
    assert not is_ours(of_a_proxy)


def test_a_refusal_that_is_too_large_loses_its_details_and_keeps_its_reason():
    violations = [FieldViolation("metadata." + "k" * 1000, "is too long")] * 100
    status = to_status(ServiceError(Reason.INVALID_ARGUMENT, "x" * 100_000, violations=violations))
    assert status.ByteSize() <= STATUS_BYTES_MAX
    back = from_status(status)
    assert (back.reason, back.violations, len(back.detail)) == (Reason.INVALID_ARGUMENT, (), 1000)


def test_metadata_of_any_type_can_be_sent():
    session_id = uuid.UUID(int=7)
    metadata = {"session": session_id, "balance": decimal.Decimal("1.5"), "count": 2}
    back = from_status(to_status(ServiceError(Reason.SESSION_CLOSED, metadata=metadata)))
    assert back.metadata == {"session": str(session_id), "balance": "1.5", "count": 2}


@pytest.mark.parametrize(
    ("reason", "http_status"),
    [
        ("INVALID_ARGUMENT", 400),
        ("IDEMPOTENCY_KEY_MISSING", 400),
        ("IDEMPOTENCY_KEY_REUSED", 422),
        ("REQUEST_ABORTED", 409),
        ("INVALID_USER_REFERENCE", 400),
        ("EMAIL_NOT_VERIFIED", 403),
        ("INSUFFICIENT_CREDITS", 403),
        ("DAILY_LIMIT_REACHED", 429),
        ("SUBSCRIPTION_INACTIVE", 403),
        ("LESSON_LOCKED", 403),
        ("ILLEGAL_TRANSITION", 409),
        ("SESSION_CLOSED", 409),
        ("VERSION_MISMATCH", 412),
        ("NOT_FOUND", 404),
        ("UNAUTHENTICATED", 401),
        ("PERMISSION_DENIED", 403),
        ("RATE_LIMITED", 429),
        ("OVERLOADED", 503),
        ("UNAVAILABLE", 503),
        ("DEADLINE_EXCEEDED", 504),
    ],
)
def test_each_reason_has_its_http_status(reason, http_status):
    assert CODES[Reason[reason]].http == http_status
