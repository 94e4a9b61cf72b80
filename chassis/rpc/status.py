"""ServiceError ⇄ google.rpc.Status, by the error model of https://google.aip.dev/193."""

from __future__ import annotations

import math
from typing import Any

from google.protobuf import any_pb2, struct_pb2
from google.rpc import error_details_pb2, status_pb2

from chassis.errors import FieldViolation, Reason, ServiceError
from chassis.rpc.reasons import CODES

ERROR_DOMAIN = "homeroom"
# One message has the refusals of many calls, so a larger refusal is sent without its details.
STATUS_BYTES_MAX = 16 * 1024
DETAIL_CHARACTERS_MAX = 1000


def to_status(error: ServiceError) -> status_pb2.Status:
    """Renders a refusal with ErrorInfo, and with BadRequest, RetryInfo and QuotaFailure where they fit.

    The result is at most STATUS_BYTES_MAX long.
    """
    status = _complete_status(error)
    if status.ByteSize() <= STATUS_BYTES_MAX:
        return status
    return _complete_status(ServiceError(error.reason, error.detail[:DETAIL_CHARACTERS_MAX]))


def is_ours(status: status_pb2.Status) -> bool:
    """Whether a process of ours wrote this status, and not gRPC or a proxy."""
    return any(
        error_details_pb2.ErrorInfo.FromString(detail.value).domain == ERROR_DOMAIN
        for detail in status.details
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)
    )


def _complete_status(error: ServiceError) -> status_pb2.Status:
    details: list[Any] = [
        error_details_pb2.ErrorInfo(
            reason=error.reason.name,
            domain=ERROR_DOMAIN,
            metadata={key: str(value) for key, value in error.metadata.items()},
        )
    ]
    if any(not isinstance(value, str) for value in error.metadata.values()):
        # ErrorInfo has only strings. The struct keeps the types of numbers on the way to the client.
        typed = struct_pb2.Struct()
        typed.update({key: _known_to_a_struct(value) for key, value in error.metadata.items()})
        details.append(typed)
    if error.violations:
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description)
                    for v in error.violations
                ]
            )
        )
    if error.retry_after_seconds is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(math.ceil(error.retry_after_seconds * 1e9))
        details.append(retry)
    if error.reason is Reason.DAILY_LIMIT_REACHED:
        details.append(
            error_details_pb2.QuotaFailure(
                violations=[
                    error_details_pb2.QuotaFailure.Violation(
                        subject="learner:daily-tests", description=error.detail
                    )
                ]
            )
        )
    status = status_pb2.Status(code=CODES[error.reason].grpc.value[0], message=error.detail)
    for detail in details:
        any_pb2.Any.Pack(status.details.add(), detail)
    return status


def from_status(status: status_pb2.Status) -> ServiceError:
    """The refusal that `to_status` wrote. A status without a known reason is INTERNAL."""
    reason = Reason.INTERNAL
    metadata: dict[str, str | int | float] = {}
    violations: list[FieldViolation] = []
    retry_after_seconds: float | None = None
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            reason = Reason.__members__.get(info.reason, Reason.INTERNAL)
            metadata = {**info.metadata, **metadata}
        elif detail.Is(struct_pb2.Struct.DESCRIPTOR):
            typed = struct_pb2.Struct.FromString(detail.value)
            metadata = {**metadata, **{key: _number_or_text(value) for key, value in typed.items()}}
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad_request = error_details_pb2.BadRequest.FromString(detail.value)
            violations = [FieldViolation(v.field, v.description) for v in bad_request.field_violations]
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo.FromString(detail.value)
            retry_after_seconds = max(0.0, retry.retry_delay.ToNanoseconds() / 1e9)
    return ServiceError(
        reason,
        status.message if reason is not Reason.INTERNAL else "",
        metadata=metadata,
        violations=violations,
        retry_after_seconds=retry_after_seconds,
    )


def _known_to_a_struct(value: Any) -> str | float:
    # A value of another type, such as a UUID, becomes text, so that the refusal itself does not fail.
    return value if isinstance(value, (str, int, float)) else str(value)


def _number_or_text(value: Any) -> str | int | float:
    # All numbers of a Struct are doubles. Whole numbers become integers again.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, (str, float)) else str(value)
