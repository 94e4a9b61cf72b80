"""What a failed message means: one table for all errors of gRPC's channels and streams."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from chassis.errors import Reason, ServiceError
from chassis.rpc.retries import FinalRefusal
from chassis.rpc.status import from_status, is_ours
from chassis.telemetry.logs import get_logger

log = get_logger(__name__)


class LineLostError(Exception):
    """The upstream ended a stream without an answer. It may or may not have read the message."""


class UnreadableAnswerError(Exception):
    """The bytes that arrived are not an answer to the message that was sent."""


class Fault(NamedTuple):
    """The refusal for the callers of a failed message, whether there was an answer, and who failed if not."""

    error: ServiceError
    answered: bool
    whole_upstream: bool = True
    """Whether a missing answer speaks of the whole upstream; otherwise only of the method that was called."""


class _Meaning(NamedTuple):
    reason: Reason
    retry_after_seconds: float | None
    answered: bool
    whole_upstream: bool = True


# A status without our ErrorInfo comes from gRPC itself. Only these two codes mean more than "no answer".
_WITHOUT_STATUS_OF_OURS: Mapping[grpc.StatusCode, _Meaning] = {
    grpc.StatusCode.DEADLINE_EXCEEDED: _Meaning(
        Reason.DEADLINE_EXCEEDED, None, answered=False, whole_upstream=False
    ),
    # The server's limit of concurrent RPCs, or a message above its size limit.
    grpc.StatusCode.RESOURCE_EXHAUSTED: _Meaning(Reason.OVERLOADED, 1.0, answered=True),
}
# All other errors, of any type. A killed server causes UNAVAILABLE, CANCELLED, UNKNOWN, or INTERNAL
# ("Internal error from Core", during a write). A closed channel causes UsageError or CancelledError. A stream
# that has ended causes InvalidStateError.
_NO_ANSWER = _Meaning(Reason.UNAVAILABLE, 0.1, answered=False)
_UNREADABLE = _Meaning(Reason.UNAVAILABLE, 0.1, answered=False, whole_upstream=False)

# What a server or a proxy may send with a status of its own: gRPC's pushback in milliseconds (gRFC A6), and
# the header of HTTP in seconds.
PUSHBACK_MS = "grpc-retry-pushback-ms"
RETRY_AFTER = "retry-after"
PUSHBACK_DIGITS_MAX = 9
# Clients are told to wait. Nobody shall tell them to wait for years.
PUSHBACK_SECONDS_MAX = 300.0
# What a client is told when the upstream asks for no retry at all.
FINAL_RETRY_AFTER_SECONDS = 5.0

# These errors are normal when a process stops or dies, so they are not logged.
_ORDINARY_CODES = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
_ORDINARY_ERRORS = (
    LineLostError,
    TimeoutError,
    asyncio.CancelledError,
    asyncio.InvalidStateError,
    grpc.aio.UsageError,
)


def fault_of(error: BaseException, *, upstream: str) -> Fault:
    """The meaning of an error of a message, a stream or a health check.

    A status of ours (google.rpc.Status with our ErrorInfo) is an answer. An error without one is no answer:
    it means UNAVAILABLE, or as the table says. The caller must first exclude its own cancellation with
    `cancelled_by_caller`.
    """
    refusal = _refusal_of(error)
    if refusal is not None:
        return Fault(_for_callers(refusal, upstream=upstream), answered=True)
    meaning = _meaning_of(error)
    _log_unusual(error, upstream=upstream)
    return Fault(_told(error, meaning), meaning.answered, meaning.whole_upstream)


def cancelled_by_caller(error: BaseException) -> bool:
    """Whether this error is the cancellation of the current task.

    A CancelledError also comes from a stream whose channel was closed, and from another task that was
    cancelled. The current task is not cancelled then.
    """
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def _meaning_of(error: BaseException) -> _Meaning:
    if isinstance(error, TimeoutError):  # our own time limit
        return _WITHOUT_STATUS_OF_OURS[grpc.StatusCode.DEADLINE_EXCEEDED]
    if isinstance(error, grpc.aio.AioRpcError):
        return _WITHOUT_STATUS_OF_OURS.get(error.code(), _NO_ANSWER)
    return _UNREADABLE if isinstance(error, UnreadableAnswerError) else _NO_ANSWER


def _told(error: BaseException, meaning: _Meaning) -> ServiceError:
    """The refusal, with the pause that the other side asks for."""
    pushback = _pushback_of(error) if isinstance(error, grpc.aio.AioRpcError) else None
    if pushback is None:
        return ServiceError(meaning.reason, retry_after_seconds=meaning.retry_after_seconds)
    if pushback < 0.0:
        return FinalRefusal(meaning.reason, retry_after_seconds=FINAL_RETRY_AFTER_SECONDS)
    pause_seconds = max(min(pushback, PUSHBACK_SECONDS_MAX), meaning.retry_after_seconds or 0.0)
    return ServiceError(meaning.reason, retry_after_seconds=pause_seconds)


def _pushback_of(error: grpc.aio.AioRpcError) -> float | None:
    """The seconds to wait; negative for "do not retry", which a value that is no number also means (A6)."""
    metadata = dict([*(error.initial_metadata() or ()), *(error.trailing_metadata() or ())])
    pushback = metadata.get(PUSHBACK_MS)
    if pushback is not None:
        return int(pushback) / 1000 if _is_number(pushback) else -1.0
    retry_after = metadata.get(RETRY_AFTER)  # it may also be a date, which is not read here
    return float(retry_after) if retry_after is not None and _is_number(retry_after) else None


def _is_number(text: str | bytes) -> bool:
    return isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= PUSHBACK_DIGITS_MAX


def _refusal_of(error: BaseException) -> ServiceError | None:
    """The refusal in a status of ours; None for every other error."""
    if not isinstance(error, grpc.aio.AioRpcError):
        return None
    try:
        status = rpc_status.from_call(error)
        return from_status(status) if status is not None and is_ours(status) else None
    except (ValueError, DecodeError):  # the details contradict the code, or are not a Status
        return None


def _for_callers(refusal: ServiceError, *, upstream: str) -> ServiceError:
    if refusal.reason is not Reason.UNAUTHENTICATED:
        return refusal
    # The service token or the certificate is not accepted. That is a fault of this process: the user's own
    # token is valid.
    log.error("caller_refused", upstream=upstream, problem=refusal.detail)
    return ServiceError(Reason.INTERNAL)


def _log_unusual(error: BaseException, *, upstream: str) -> None:
    if isinstance(error, grpc.aio.AioRpcError):
        if error.code() not in _ORDINARY_CODES:
            log.warning("rpc_failed", upstream=upstream, code=error.code().name, details=error.details())
    elif isinstance(error, UnreadableAnswerError):
        log.error("answer_unreadable", upstream=upstream, problem=str(error))
    elif not isinstance(error, _ORDINARY_ERRORS):
        log.error("line_failed", upstream=upstream, exc_info=error)
