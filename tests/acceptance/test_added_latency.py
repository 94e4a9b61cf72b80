"""Two seconds of latency before a service: nothing is worked on after its caller has stopped waiting."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter

import pytest

from tests.acceptance.proxied import proxied_stack
from tests.support.http_client import HttpClient, unique

LATENCY_SECONDS = 1.0  # in each direction
TIMEOUTS_SECONDS = (1.0, 2.5, 4.0)
WORKERS = 40
REQUESTS = 6
LATE_SECONDS_MAX = 0.2
REFUSAL_SECONDS_MAX = 0.005
# The outbox delivers these when their request has been answered, under a deadline of its own.
DELIVERIES = ("CommitHold", "ReleaseHold", "RecordSessionResult")
NS = 1_000_000_000

pytestmark = [pytest.mark.fault, pytest.mark.nightly]


@pytest.mark.timeout(300)
async def test_no_work_goes_on_past_its_deadline() -> None:
    async with proxied_stack({"HOMEROOM_DRAIN_SECONDS": "0"}) as stack:
        http = HttpClient(base_url=stack.gateway_url, token=stack.token)
        test = unique("test")
        users = [unique("learner") for _ in range(WORKERS)]
        await http.put_test(test, questions=1)
        for user in users:
            await http.put_account(user)
        timeouts: dict[str, float] = {}
        statuses: Counter[int] = Counter()

        async def work(user: str, number: int) -> None:
            for request in range(REQUESTS):
                trace = secrets.token_hex(16)
                seconds = timeouts[trace] = TIMEOUTS_SECONDS[(number + request) % len(TIMEOUTS_SECONDS)]
                headers = {
                    "Request-Timeout": str(seconds),
                    "traceparent": f"00-{trace}-{secrets.token_hex(8)}-01",
                }
                answer = await http.start(user, test, key=f"k{request}", headers=headers)
                statuses[answer.status] += 1

        assert (await http.start(users[0], test, key="first")).status == 201
        stack.way.latency_seconds = LATENCY_SECONDS
        await asyncio.gather(*(work(user, number) for number, user in enumerate(users)))
        stack.way.latency_seconds = 0.0
        await http.close()
        assert set(statuses) <= {200, 201, 503, 504}, statuses
        assert statuses[201], statuses
        assert statuses[504], statuses
        spans_file = stack.spans
        await stack.wait_ready()
        spans = [json.loads(line) for line in spans_file.read_text().splitlines()]
    late, seen = [], 0
    began = {
        span["trace_id"]: span["start_ns"]
        for span in spans
        if (span["service"], span["kind"]) == ("gateway", "SERVER")
    }
    for span in spans:
        seconds, start = timeouts.get(span["trace_id"]), began.get(span["trace_id"])
        if seconds is None or start is None or span["name"].endswith(DELIVERIES):
            continue
        if span["status"] == "ERROR" and span["end_ns"] - span["start_ns"] < REFUSAL_SECONDS_MAX * NS:
            continue  # it arrived too late, and was refused instead of being worked on
        seen += 1
        past_seconds = (span["end_ns"] - start) / NS - seconds
        if past_seconds > LATE_SECONDS_MAX:
            worked_seconds = round((span["end_ns"] - span["start_ns"]) / NS, 4)
            late.append(
                (
                    span["service"],
                    span["name"].rpartition("/")[2],
                    seconds,
                    round(past_seconds, 3),
                    worked_seconds,
                    span["status_description"],
                )
            )
    assert seen > WORKERS * REQUESTS
    assert not late, f"{len(late)} of {seen}: {late[:8]}"
