"""StatisticsService over real gRPC, as session_service and the gateway call it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.batch import Reply
from chassis.context import Context, service_context
from chassis.rpc.client import Upstream
from chassis.errors import Reason, ServiceError
from chassis.telemetry.metrics import Metrics
from chassis.rpc.server import Server
from chassis.telemetry.tracing import Tracing
from progress_service.servicer import statistics as servicer
from protos.progress.v1 import progress_pb2
from tests.progress.conftest import Progress
from tests.progress.results import learner

RECORD = f"/{servicer.NAME}/RecordSessionResult"
GET_STATS = f"/{servicer.NAME}/GetStats"
TOKEN = "a-secret-among-processes"
CLOSED_AT = Timestamp(seconds=1_774_785_600)


@pytest.fixture
async def upstream(progress: Progress) -> AsyncIterator[Upstream]:
    tracing = Tracing(service="test", version="0", sample_ratio=0.0)
    server = Server(
        bind="127.0.0.1:0",
        servicers={
            servicer.NAME: servicer.StatisticsServicer(
                results=progress.results, statistics=progress.statistics
            )
        },
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


async def test_a_time_that_is_none_is_refused_and_its_neighbours_are_recorded(upstream: Upstream) -> None:
    ada = learner("ada")
    outcomes = await tell(
        upstream,
        result(ada, "s1"),
        result(ada, "s2", closed_at=Timestamp(seconds=2**62)),
        result(ada, "s3", closed_at=Timestamp(seconds=1, nanos=2_000_000_000)),
        result(ada, "s4", closed_at=None),
        result(ada, "s5"),
    )
    assert [each.reason for each in outcomes if isinstance(each, ServiceError)] == (
        [Reason.INVALID_ARGUMENT] * 3
    )
    assert (await stats(upstream, ada)).completed_sessions == 2


async def test_a_learner_may_not_tell_results(upstream: Upstream) -> None:
    ada = learner("ada")
    with pytest.raises(ServiceError) as refusal:
        await upstream.call(RECORD, result(ada, "s1"), asking(ada))
    assert refusal.value.reason is Reason.PERMISSION_DENIED
    assert (await stats(upstream, ada)).version == 0
