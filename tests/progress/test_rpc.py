"""StatisticsService over real gRPC, as session_service and the gateway call it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.batch import Reply
from chassis.context import Context, service_context
from chassis.errors import Reason, ServiceError
from chassis.rpc.client import Upstream
from chassis.rpc.server import Server
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.tracing import Tracing
from progress_service.servicer.statistics import GET_STATS, RECORD_SESSION_RESULT, handlers
from protos.progress.v1 import progress_pb2
from tests.progress.conftest import Progress
from tests.progress.results import learner

RECORD = RECORD_SESSION_RESULT
TOKEN = "a-secret-among-processes"
CLOSED_AT = Timestamp(seconds=1_774_785_600)


@pytest.fixture
async def upstream(progress: Progress) -> AsyncIterator[Upstream]:
    tracing = Tracing(service="test", version="0", sample_ratio=0.0)
    server = Server(
        bind="127.0.0.1:0",
        handlers=handlers(results=progress.results, statistics=progress.statistics),
        service_token=TOKEN,
        tracing=tracing,
        metrics=Metrics(service="test"),
    )
    await server.start()
    client = Upstream(
        name="progress_service",
        target=f"127.0.0.1:{server.port}",
        service_token=TOKEN,
        tracing=tracing,
        metrics=Metrics(service="test"),
    )
    yield client
    await client.close()
    await server.stop(grace_seconds=0)


def result(user_id: str, session_id: str, **changes: Any) -> progress_pb2.RecordSessionResultRequest:
    fields: dict[str, Any] = {
        "user_id": user_id,
        "session_id": session_id,
        "test_id": "physics-01",
        "specialization": "physics",
        "completed": True,
        "answered": 3,
        "total": 4,
        "answers": 5,
        "correct": 2,
        "score": 0.5,
        "passed": True,
        "xp": 10,
        "closed_at": CLOSED_AT,
    }
    return progress_pb2.RecordSessionResultRequest(**{**fields, **changes})


def asking(user_id: str, *, roles: frozenset[str] = frozenset({"learner"})) -> Context:
    return Context(
        method=GET_STATS,
        user_id=user_id,
        roles=roles,
        idempotency_key="",
        request_id="r1",
        deadline=time.monotonic() + 10,
        traceparent="",
    )


async def tell(
    upstream: Upstream, *results: progress_pb2.RecordSessionResultRequest
) -> list[Reply[Any] | ServiceError]:
    call = service_context(RECORD, timeout_seconds=10)
    return await upstream.call_many(RECORD, [(each, call) for each in results])


async def stats(upstream: Upstream, user_id: str) -> progress_pb2.Stats:
    reply = await upstream.call(GET_STATS, progress_pb2.GetStatsRequest(), asking(user_id))
    return progress_pb2.GetStatsResponse.FromString(reply.payload()).stats


async def test_what_was_told_is_what_the_learner_reads(upstream: Upstream) -> None:
    ada = learner("ada")
    (told,) = await tell(upstream, result(ada, "s1"))
    assert isinstance(told, Reply)
    assert told.message == progress_pb2.RecordSessionResultResponse(recorded=True, version=1)

    read = await stats(upstream, ada)
    assert abs(read.updated_at.ToSeconds() - time.time()) < 60
    read.ClearField("updated_at")
    assert read == progress_pb2.Stats(
        user_id=ada,
        completed_sessions=1,
        questions_answered=3,
        answers=5,
        correct=2,
        xp=10,
        version=1,
    )


async def test_telling_again_says_so(upstream: Upstream) -> None:
    ada = learner("ada")
    _, told = await tell(upstream, result(ada, "s1"), result(ada, "s1"))
    assert isinstance(told, Reply)
    assert told.message == progress_pb2.RecordSessionResultResponse(recorded=False, version=1)


async def test_a_learner_of_whom_nothing_was_recorded_reads_zeros_and_no_time(upstream: Upstream) -> None:
    nobody = learner("nobody")
    assert await stats(upstream, nobody) == progress_pb2.Stats(user_id=nobody)


BEYOND = {
    "no time": {"closed_at": None},
    "a time beyond all calendars": {"closed_at": Timestamp(seconds=2**62)},
    "nanoseconds beyond a second": {"closed_at": Timestamp(seconds=1_774_785_600, nanos=2_000_000_000)},
    "the zero time of some languages": {"closed_at": Timestamp(seconds=-62135596800)},
    "the first time not allowed any more": {"closed_at": Timestamp(seconds=4102444800)},
    "too many answers": {"answers": 100_000_001},
    "too many right answers": {"answers": 100_000_000, "correct": 100_000_001},
    "too many questions": {"total": 100_000_001},
    "too many questions answered": {"answered": 100_000_001},
    "too much XP": {"xp": 1_000_001},
    "a score that is no number": {"score": float("nan")},
}


async def test_what_is_out_of_bounds_is_refused_and_the_neighbours_are_recorded(upstream: Upstream) -> None:
    ada = learner("ada")
    bad = [result(ada, f"bad{number}", **changes) for number, changes in enumerate(BEYOND.values())]
    first, *refused, last = await tell(upstream, result(ada, "s1"), *bad, result(ada, "s2"))
    reasons = [each.reason if isinstance(each, ServiceError) else each for each in refused]
    assert dict(zip(BEYOND, reasons, strict=True)) == dict.fromkeys(BEYOND, Reason.INVALID_ARGUMENT)
    assert isinstance(first, Reply)
    assert isinstance(last, Reply)
    assert (await stats(upstream, ada)).completed_sessions == 2


async def test_the_largest_result_of_the_contract_is_recorded(upstream: Upstream) -> None:
    most = dict.fromkeys(("answered", "total", "answers", "correct"), 100_000_000)
    for closed_at in (Timestamp(seconds=946684800), Timestamp(seconds=4102444799, nanos=999_999_000)):
        (told,) = await tell(upstream, result(learner(), "s1", xp=1_000_000, closed_at=closed_at, **most))
        assert isinstance(told, Reply), told


async def test_a_learner_may_not_tell_results(upstream: Upstream) -> None:
    ada = learner("ada")
    with pytest.raises(ServiceError) as refusal:
        await upstream.call(RECORD, result(ada, "s1"), asking(ada))
    assert refusal.value.reason is Reason.PERMISSION_DENIED
    assert (await stats(upstream, ada)).version == 0
