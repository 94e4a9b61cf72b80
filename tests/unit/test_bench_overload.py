"""The arithmetic of the bench of overload: the schedule, the windows, the shares and the percentiles."""

from __future__ import annotations

import asyncio
import gc
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Self

import pytest

from bench.__main__ import parse_parts, parse_service
from bench.load.open_loop import Generator
from bench.load.plan import GIVEN_UP, Kind, Outcome, Plan, Requests, count_by_kind, due_until
from bench.load.slow_connections import BEGINNING, SlowClients, connections_possible
from bench.overload.figures import (
    Call,
    between,
    calls_of,
    good_share,
    goodput,
    healed_after,
    latency_ms,
    percentile,
    problems_of,
    ratio,
)
from bench.overload.school import Attempts, difference, sum_of
from bench.overload.section import at_least, at_most

PAGE = """# TYPE homeroom_upstream_call_attempts histogram
homeroom_upstream_call_attempts_sum{method="/homeroom.progress.v1.LessonService/Check"} 120.0
homeroom_upstream_call_attempts_sum{method="/homeroom.progress.v1.StatisticsService/GetStats"} 5.0
homeroom_upstream_call_attempts_sum{method="/homeroom.session.v1.SessionService/GetSession"} 900.0
homeroom_upstream_retries_total{method="/homeroom.progress.v1.LessonService/Check",reason="UNAVAILABLE"} 7.0
homeroom_connections 12.0
"""


def call(*, due: float = 0.0, seconds: float = 0.01, status: int = 200, lag_seconds: float = 0.0) -> Call:
    return Call("list", due, seconds, seconds, lag_seconds, status)


def plan(**changes: Any) -> Plan:
    kind = Kind(
        name="answer", method="POST", path="/v1/x", callers=(1, 2), bodies=('{"n":0}', '{"n":1}'), keyed=True
    )
    values: dict[str, Any] = {"port": 1, "tokens": ["a", "b", "c"], "kinds": [kind], "mix": [0]}
    return Plan(**{"seconds": 1.0, **values, **changes})


@pytest.mark.parametrize(
    ("now", "due"), [(9.9, 0), (10.0, 1), (10.009, 1), (10.011, 2), (10.5, 51), (99.0, 80)]
)
def test_requests_are_due_at_an_even_rate_and_no_more_than_there_are(now, due):
    assert due_until(now, begin=10.0, rate=100.0, total=80) == due


def test_callers_take_turns_and_each_round_has_its_body():
    requests = Requests(plan())
    texts = [requests.text(0).decode() for _ in range(4)]
    assert [text.split("Bearer ")[1][0] for text in texts] == ["b", "c", "b", "c"]
    assert [text.rsplit("\r\n", 1)[1] for text in texts] == ['{"n":0}', '{"n":0}', '{"n":1}', '{"n":1}']
    assert len({text.split("Idempotency-Key: ")[1].split("\r\n")[0] for text in texts}) == 4
    assert all("Content-Length: 7\r\n" in text for text in texts)


def outcome() -> Outcome:
    return Outcome(
        began=1.0,
        kinds=[0, 0, 0],
        due=[1.0, 2.0, 3.0],
        taken=[1.0, 2.5, 3.0],
        sent=[1.0, 2.6, 0.0],
        ended=[1.2, 3.0, 0.0],
        statuses=[200, 503, 0],
        cpu_seconds=0.1,
        connections=2,
    )


def test_a_latency_counts_from_the_scheduled_time_and_is_endless_without_an_answer():
    first, late, lost = calls_of(outcome(), ["answer"])
    assert first.seconds == pytest.approx(0.2)
    assert (late.seconds, late.wire_seconds, late.lag_seconds) == pytest.approx((1.0, 0.4, 0.5))
    assert (lost.seconds, lost.good) == (math.inf, False)


def test_the_requests_of_a_run_are_counted_by_kind():
    assert count_by_kind(plan(), outcome()) == {"answer": 3}


@pytest.mark.parametrize(("percent", "value"), [(50, 50), (99, 99), (100, 100), (0.5, 1)])
def test_a_percentile_is_one_of_the_values(percent, value):
    assert percentile(range(100, 0, -1), percent) == value


def test_nothing_has_no_percentile_no_share_and_no_ratio():
    assert (percentile([], 99), good_share([]), ratio(1.0, 0.0)) == (0.0, 0.0, math.inf)


def test_windows_go_by_the_scheduled_time_and_goodput_by_the_time_of_the_answer():
    calls = [call(due=0.5), call(due=0.9, seconds=0.5), call(due=1.2), call(due=1.3, status=503)]
    assert between(calls, 0.0, 1.0) == calls[:2]
    assert goodput(calls, 1.0, 2.0) == 2.0
    assert good_share(calls) == 0.75


def test_latencies_are_those_of_good_answers():
    assert latency_ms([call(), call(seconds=9.0, status=503)], 99) == pytest.approx(10.0)


def test_healed_is_the_first_second_from_which_all_are_good():
    bad = [call(due=second + 0.5, status=503) for second in (0, 2)]
    good = [call(due=second + 0.5) for second in (1, 3, 4)]
    assert healed_after([*bad, *good], 0.0, wanted=0.95, until=5.0) == 3.0
    assert healed_after([*bad, *good], 0.0, wanted=0.95, until=3.0) is None
    assert healed_after([], 0.0, wanted=0.95, until=3.0) is None


def test_attempts_are_those_at_one_service():
    name = "homeroom_upstream_call_attempts_sum"
    assert sum_of([PAGE, PAGE, ""], name, "/homeroom.progress.") == 250.0
    assert sum_of([PAGE], "homeroom_upstream_retries_total", "/homeroom.progress.") == 7.0
    assert difference(Attempts(5.0, 7.0, 2.0), Attempts(1.0, 1.0, 0.0)) == Attempts(4.0, 6.0, 2.0)


def test_a_run_with_a_fault_is_invalid_and_a_refusal_is_no_fault():
    refused = [call(), call(status=503), call(status=504), call(status=429)]
    assert problems_of(refused, planned=4) == []
    assert "1 × 500" in problems_of([call(status=500)], planned=1)[0]  # noqa: RUF001 - a multiplication sign is meant
    assert "no answer" in problems_of([call(status=0)], planned=1)[0]
    assert "1 of 2" in problems_of([call()], planned=2)[0]
    assert "lagged" in problems_of([call(lag_seconds=0.3)], planned=1)[0]


def test_goals_include_their_bounds():
    assert at_most("x", 1.1, 1.1).reached
    assert not at_most("x", math.inf, 1.1).reached
    assert at_least("x", 0.8, 0.8).reached
    assert not at_least("x", 0.79, 0.8).reached


def test_the_parts_and_the_service_are_checked():
    assert parse_parts("slow, failing") == ["failing", "slow"]
    assert parse_service("session_service") == "session_service"
    with pytest.raises(ValueError, match="no part fast"):
        parse_parts("fast")
    with pytest.raises(ValueError, match="one of session_service"):
        parse_service("gateway")


def test_no_more_slow_connections_than_there_are_descriptors():
    assert connections_possible(5) == 5
    assert connections_possible(10**9) < 10**9


def test_slow_clients_without_a_server_end_in_time():
    crowd = SlowClients(1, 3, 1.0).run(0.05)
    assert (crowd.wanted, crowd.bytes_sent) == (3, 0)


class Server:
    """Answers each request with a little JSON; every fourth one with a refusal that closes the connection."""

    def __init__(self) -> None:
        self.port = 0
        self._serving: set[asyncio.Task[None]] = set()
        self.heads: list[bytes] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                await reader.readexactly(7)
                refuse = len(self.heads) % 4 == 0
                head = b"HTTP/1.1 503 No\r\nConnection: close\r\n" if refuse else b"HTTP/1.1 200 OK\r\n"
                writer.write(head + b"Content-Length: 2\r\n\r\n")
                await writer.drain()
                await asyncio.sleep(0)
                writer.write(b"{}")
                if refuse:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture
def collected() -> Iterator[None]:
    """A generator stops the collection of garbage, in its own process; here it goes on afterwards."""
    yield
    gc.unfreeze()
    gc.enable()


async def test_an_open_loop_sends_each_request_once_and_keeps_what_became_of_it(collected):
    async with Server() as server:
        made = await asyncio.to_thread(
            Generator(plan(port=server.port, seconds=0.3, rate=400.0, connections=10)).run
        )
    assert Counter(made.statuses) == {200: 90, 503: 30}
    assert made.due[40] - made.due[0] == pytest.approx(0.1)
    assert all(
        due <= taken <= sent <= ended
        for due, taken, sent, ended in zip(made.due, made.taken, made.sent, made.ended, strict=True)
    )
    assert made.connections <= 10
    assert problems_of(calls_of(made, ["answer"]), planned=120) == []


async def test_connections_are_opened_ahead_and_who_finds_none_gives_up(collected):
    async with Server() as server:
        run = plan(port=server.port, seconds=0.01, rate=50_000.0, connections=4, ahead=4, timeout_seconds=0)
        made = await asyncio.to_thread(Generator(run).run)
    assert made.connections == 4
    assert set(made.statuses) == {200, 503, GIVEN_UP}
    assert len(server.heads) == sum(status != GIVEN_UP for status in made.statuses)
    assert good_share(calls_of(made, ["answer"])) < 1
    assert problems_of(calls_of(made, ["answer"]), planned=500) == []


async def test_a_closed_loop_keeps_its_connections_busy_and_opens_them_again(collected):
    async with Server() as server:
        made = await asyncio.to_thread(Generator(plan(port=server.port, seconds=0.2, connections=3)).run)
    assert len(made.statuses) == len(server.heads) > 10
    assert set(made.statuses) == {200, 503}
    assert made.connections == 3


async def test_a_server_that_is_gone_gives_calls_without_an_answer(collected):
    async with Server() as server:
        port = server.port
    made = await asyncio.to_thread(
        Generator(plan(port=port, seconds=0.1, rate=100.0, drain_seconds_max=1.0)).run
    )
    assert made.statuses == [0] * 10


async def test_slow_clients_hold_their_connections_and_send_a_byte_now_and_then():
    async with Server() as server:
        crowd = await asyncio.to_thread(SlowClients(server.port, 20, 0.1).run, 0.5)
    assert (crowd.open_max, crowd.opened, crowd.closed_by_gateway) == (20, 20, 0)
    assert crowd.full_at > 0
    assert crowd.bytes_sent > 20 * len(BEGINNING)
