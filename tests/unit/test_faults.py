"""An error of gRPC without a status of ours is no answer: UNAVAILABLE, and a failure for the breaker."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc._cython import cygrpc
from grpc_status import rpc_status

from chassis.errors import Reason, ServiceError
from chassis.rpc.breakers import Breakers
from chassis.rpc.carrier import PATIENCE_SECONDS, Carrier
from chassis.rpc.faults import (
    PUSHBACK_SECONDS_MAX,
    Fault,
    LineLostError,
    UnreadableAnswerError,
    cancelled_by_caller,
    fault_of,
)
from chassis.rpc.retries import FinalRefusal, RetryPolicy
from chassis.rpc.status import to_status
from chassis.telemetry.metrics import Metrics

Code = grpc.StatusCode


def raised(code: Code, *, details: str = "Internal error from Core", metadata=()) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*metadata), details=details)


def refused(error: ServiceError) -> grpc.aio.AioRpcError:
    """What a client gets for a refusal of ours."""
    status = rpc_status.to_status(to_status(error))
    return raised(status.code, details=status.details, metadata=status.trailing_metadata)


def seen(error: BaseException) -> tuple[Reason, bool]:
    fault: Fault = fault_of(error, upstream="test")
    return fault.error.reason, fault.answered


# What gRPC says by itself. OK is no failure, so nothing raises it.
BY_GRPC = {code: (Reason.UNAVAILABLE, False) for code in Code if code is not Code.OK} | {
    Code.DEADLINE_EXCEEDED: (Reason.DEADLINE_EXCEEDED, False),
    Code.RESOURCE_EXHAUSTED: (Reason.OVERLOADED, True),
}


@pytest.mark.parametrize("code", BY_GRPC, ids=lambda code: code.name)
def test_a_code_without_a_status_of_ours(code):
    assert seen(raised(code)) == BY_GRPC[code]


@pytest.mark.parametrize(
    "error",
    [
        LineLostError(),
        UnreadableAnswerError("3 outcomes for 4 calls"),
        asyncio.CancelledError(),
        asyncio.InvalidStateError("RPC already finished."),
        grpc.aio.UsageError("Channel is closed."),
        grpc.aio.InternalError("failed"),
        cygrpc.ExecuteBatchError("Failed grpc_call_start_batch"),
        grpc.RpcError(),
        RuntimeError("no running event loop"),
        ConnectionResetError(),
        OSError(24, "Too many open files"),
        AttributeError("'NoneType' object has no attribute 'code'"),
        TypeError(),
        ValueError(),
        AssertionError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_any_other_error_is_no_answer(error):
    assert seen(error) == (Reason.UNAVAILABLE, False)
    assert fault_of(error, upstream="test").error.retry_after_seconds


def test_our_own_timeout_is_deadline_exceeded():
    assert seen(TimeoutError()) == (Reason.DEADLINE_EXCEEDED, False)


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.UNAUTHENTICATED])
def test_a_status_of_ours_is_an_answer_and_keeps_its_reason(reason):
    assert seen(refused(ServiceError(reason, "why"))) == (reason, True)


def test_a_refused_service_token_is_our_own_fault_and_not_the_users():
    assert seen(refused(ServiceError(Reason.UNAUTHENTICATED))) == (Reason.INTERNAL, True)


@pytest.mark.parametrize(
    "metadata",
    [
        (("grpc-status-details-bin", b"\xff\xff"),),
        (("grpc-status-details-bin", status_pb2.Status(code=code_pb2.NOT_FOUND).SerializeToString()),),
        (("grpc-status-details-bin", status_pb2.Status(code=code_pb2.INTERNAL).SerializeToString()),),
    ],
    ids=["unreadable", "contradicts the code", "without ErrorInfo"],
)
def test_a_status_that_is_not_ours_says_nothing(metadata):
    assert seen(raised(Code.INTERNAL, details="", metadata=metadata)) == (Reason.UNAVAILABLE, False)


def test_a_status_of_another_domain_is_not_ours():
    status = status_pb2.Status(code=code_pb2.NOT_FOUND, message="no route")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="NOT_FOUND", domain="a-proxy.example"))
    metadata = (("grpc-status-details-bin", status.SerializeToString()),)
    assert seen(raised(Code.NOT_FOUND, details="no route", metadata=metadata)) == (Reason.UNAVAILABLE, False)


@pytest.mark.parametrize(
    ("error", "seconds", "opened"),
    [
        (raised(Code.INTERNAL), 0.1, "upstream"),
        (raised(Code.UNAVAILABLE), 0.1, "upstream"),
        (raised(Code.CANCELLED), 0.1, "upstream"),
        (grpc.aio.UsageError("Channel is closed."), 0.1, "upstream"),
        (UnreadableAnswerError("cut short"), 0.1, "method"),
        (TimeoutError(), PATIENCE_SECONDS, "method"),
        (raised(Code.DEADLINE_EXCEEDED), PATIENCE_SECONDS, "method"),
        (TimeoutError(), PATIENCE_SECONDS - 0.01, ""),
        (raised(Code.RESOURCE_EXHAUSTED), 10.0, ""),
        (refused(ServiceError(Reason.UNAVAILABLE)), 10.0, ""),
    ],
)
async def test_what_is_no_answer_opens_the_breaker_of_its_method_or_of_the_whole_upstream(
    error, seconds, opened
):
    breakers = Breakers(upstream="test", metrics=Metrics(service="test"))
    carrier = Carrier(name="test", target="127.0.0.1:1", service_token="t", breakers=breakers)
    for _ in range(5):
        carrier.failed(error, path="/a.B/C", timeout_seconds=seconds)
    assert breakers.open_for("/a.B/C") is bool(opened)
    assert breakers.open_for("/a.B/D") is (opened == "upstream")
    await carrier.close(None)


@pytest.mark.parametrize(
    ("metadata", "pause_seconds", "final"),
    [
        ((("grpc-retry-pushback-ms", "1500"),), 1.5, False),
        ((("grpc-retry-pushback-ms", "0"),), 0.1, False),
        ((("grpc-retry-pushback-ms", "-1"),), None, True),
        ((("grpc-retry-pushback-ms", "soon"),), None, True),
        ((("grpc-retry-pushback-ms", "9" * 30),), None, True),
        ((("grpc-retry-pushback-ms", "9" * 9),), PUSHBACK_SECONDS_MAX, False),
        ((("retry-after", "7"),), 7.0, False),
        ((("retry-after", "9" * 9),), PUSHBACK_SECONDS_MAX, False),
        ((("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"),), 0.1, False),
        ((), 0.1, False),
    ],
)
def test_what_grpc_or_a_proxy_says_of_a_retry_is_obeyed(metadata, pause_seconds, final):
    error = fault_of(raised(Code.UNAVAILABLE, metadata=metadata), upstream="test").error
    assert isinstance(error, FinalRefusal) is final
    assert error.retry_after_seconds
    if final:
        assert RetryPolicy().pause_seconds(error, 1) is None
    else:
        assert error.retry_after_seconds == pytest.approx(pause_seconds)


async def test_a_cancellation_by_the_caller_is_told_apart_from_a_cancelled_stream():
    seen = []

    async def waits_for_a_stream_that_is_cancelled() -> None:
        stream = asyncio.get_running_loop().create_future()
        stream.cancel()
        try:
            await stream
        except asyncio.CancelledError as error:
            seen.append(cancelled_by_caller(error))

    async def is_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            seen.append(cancelled_by_caller(error))
            raise

    await asyncio.create_task(waits_for_a_stream_that_is_cancelled())
    task = asyncio.create_task(is_cancelled())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert seen == [False, True]
