"""What a refusal of a service looks like to an HTTP client."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from chassis.batch import Item
from chassis.errors import FieldViolation, Reason, ServiceError
from chassis.rpc.reasons import CODES
from chassis.telemetry.logs import configure, hashed
from gateway.request_log import RequestLog
from tests.gateway.backend import Backend
from tests.gateway.running import Answer, Gateway

# The gateway says these itself; a service that did would mean its own caller, the gateway.
SHOWN = [reason for reason in Reason if reason is not Reason.INTERNAL]


async def refused_with(gateway: Gateway, backend: Backend, error: Exception) -> Answer:
    def refuse(_item: Item[Any]) -> ServiceError:
        if isinstance(error, ServiceError):
            return error
        raise error

    backend.answers["CreateSession"] = refuse
    return await gateway.request("POST", "/v1/sessions", body={"testId": "t"})


@pytest.mark.parametrize("reason", SHOWN, ids=lambda reason: reason.name)
async def test_each_reason_keeps_its_meaning(gateway: Gateway, backend: Backend, reason: Reason) -> None:
    answer = await refused_with(gateway, backend, ServiceError(reason, "in these words"))
    assert answer.reason == reason.name
    assert answer.json() == {
        "type": "/problems/" + reason.name.lower().replace("_", "-"),
        "title": reason.title,
        "status": CODES[reason].http,
        "detail": "in these words",
        "instance": "/v1/sessions",
        "reason": reason.name,
        "requestId": answer.headers["X-Request-Id"],
        "retryable": reason.retryable,
    }
    waits = reason in {Reason.UNAVAILABLE, Reason.OVERLOADED, Reason.RATE_LIMITED}
    assert ("Retry-After" in answer.headers) == waits


async def test_metadata_are_members_with_their_own_types(gateway: Gateway, backend: Backend) -> None:
    metadata: dict[str, Any] = {
        "limit": 3,
        "used": 2,
        "held": 1,
        "resetsAt": "2026-02-01T00:00:00Z",
        "ratio": 0.5,
    }
    answer = await refused_with(
        gateway,
        backend,
        ServiceError(Reason.DAILY_LIMIT_REACHED, metadata=metadata, retry_after_seconds=90.2),
    )
    assert answer.status == 429
    assert {name: answer.json()[name] for name in metadata} == metadata
    assert answer.headers["Retry-After"] == "91"


async def test_metadata_cannot_pass_for_the_problems_own_members(gateway: Gateway, backend: Backend) -> None:
    error = ServiceError(
        Reason.ILLEGAL_TRANSITION, "no", metadata={"status": 200, "reason": "OK", "from": "PAUSED"}
    )
    answer = await refused_with(gateway, backend, error)
    assert (answer.status, answer.reason, answer.json()["from"]) == (409, "ILLEGAL_TRANSITION", "PAUSED")


async def test_field_violations_of_a_service_are_shown(gateway: Gateway, backend: Backend) -> None:
    error = ServiceError(Reason.INVALID_ARGUMENT, violations=[FieldViolation("testId", "is not a test")])
    assert (await refused_with(gateway, backend, error)).fields == {"testId": "is not a test"}


async def test_a_services_own_fault_says_nothing(gateway: Gateway, backend: Backend) -> None:
    for error in (RuntimeError("password=hunter2"), ServiceError(Reason.INTERNAL, "password=hunter2")):
        answer = await refused_with(gateway, backend, error)
        assert (answer.status, answer.reason) == (500, "INTERNAL")
        assert b"hunter2" not in answer.body


async def test_a_fault_of_the_gateway_says_nothing_and_logs_everything(
    gateway: Gateway,
    backend: Backend,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    configure(service="gateway", version="0")

    def broken(*_arguments: Any) -> None:
        raise RuntimeError("a very peculiar fault")

    monkeypatch.setattr("gateway.transcoding.responses.ResponseWriter.write", broken)
    answer = await gateway.request("GET", "/v1/stats", headers={"X-Request-Id": "find-me"})
    assert (answer.status, answer.reason) == (500, "INTERNAL")
    assert b"peculiar" not in answer.body
    written = capfdbinary.readouterr().out
    assert b"a very peculiar fault" in written
    assert b'"request_id":"find-me"' in written
    assert backend.items


async def test_a_log_has_neither_tokens_nor_keys(
    gateway: Gateway, backend: Backend, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    configure(service="gateway", version="0")
    answer = await refused_with(gateway, backend, RuntimeError("oops"))
    assert answer.status == 500
    token = gateway.identity.token("eve")
    await gateway.request("POST", "/v1/sessions", token=token, key="my-secret-key", body={"testId": "t"})
    written = capfdbinary.readouterr().out
    assert b'"event":"request_answered"' in written
    assert b"my-secret-key" not in written
    assert token.encode() not in written


async def test_a_key_has_one_hash_in_the_log_however_it_is_written(
    gateway: Gateway, backend: Backend, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    configure(service="gateway", version="0")
    backend.answers["CreateSession"] = lambda _item: ServiceError(Reason.UNAVAILABLE)
    for key in ("k1", '"k1"', "k2"):
        await gateway.request("POST", "/v1/sessions", key=key, body={"testId": "t"})
    lines = [orjson.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    bare, quoted, other = [
        line["idempotency_key"] for line in lines if line.get("event") == "request_answered"
    ]
    assert bare == quoted == hashed("k1")
    assert other != bare


async def test_a_services_long_field_name_is_shortened(gateway: Gateway, backend: Backend) -> None:
    error = ServiceError(
        Reason.INVALID_ARGUMENT, "x" * 5000, violations=[FieldViolation("metadata." + "k" * 5000, "is wrong")]
    )
    answer = await refused_with(gateway, backend, error)
    ((field, description),) = answer.fields.items()
    assert (len(field), description) == (300, "is wrong")
    assert len(answer.json()["detail"]) == 1000


def test_a_storm_of_faults_is_not_a_storm_of_lines(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(service="gateway", version="0")
    now = 100.0
    monkeypatch.setattr("gateway.request_log.time.monotonic", lambda: now)
    log = RequestLog(every_request=False, lines_per_second_max=5)
    for _ in range(1000):
        if log.wants(503, 0.0):
            log.write(status=503, seconds=0.0)
    now = 101.0
    assert log.wants(500, 0.0)
    log.write(status=500, seconds=0.0)
    lines = capfdbinary.readouterr().out.splitlines()
    assert len(lines) == 6
    assert b'"left_out":995' in lines[-1]
    assert not log.wants(404, 0.1)
    assert log.wants(200, 1.5)


async def test_half_a_surrogate_pair_in_a_name_leaves_a_problem_that_strict_readers_can_read(
    gateway: Gateway,
) -> None:
    answer = await gateway.request("POST", "/v1/sessions", data=b'{"\\ud800": 1}')
    assert answer.reason == "INVALID_ARGUMENT"
    assert answer.json()["errors"][0]["field"] == "?"
