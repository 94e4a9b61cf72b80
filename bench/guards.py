"""`python -m bench.guards`: the CPU that admission, breakers and the count of attempts add to one call.

None of them waits here: this is a gateway with room, whose upstreams answer.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable

import uvloop

from chassis.rpc.breakers import Breakers
from chassis.rpc.clocks import PeerClock
from chassis.rpc.methods import find_method
from chassis.rpc.retries import RetryBudget, RetryMetrics
from chassis.telemetry.metrics import Metrics
from gateway.admission import Admission, Limits
from protos.session.v1 import sessions_pb2

CALLS = 50_000
ROUNDS = 15
UPSTREAM = "session"


async def main() -> None:
    service = sessions_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name
    method = find_method(f"/{service}/CreateSession")
    metrics = Metrics(service="bench")
    admission = Admission(limits=Limits(), metrics=metrics)
    breakers = Breakers(upstream=UPSTREAM, metrics=metrics)
    retries, budget = RetryMetrics(metrics), RetryBudget()

    async def nothing() -> None:
        pass

    async def admitted() -> None:
        door = admission.door(UPSTREAM, method)
        door.refuse_if_full()
        place = await door.enter(learner="ada", address="127.0.0.1")
        place.leave()

    async def checked() -> None:
        breakers.check(method.path)

    async def answered() -> None:
        breakers.succeeded(method.path)

    async def counted() -> None:
        budget.earn()
        retries.ended(method.path, 1)

    clock = PeerClock()

    async def timed() -> None:
        clock.reading(5.0)
        clock.note(1, sent_at=5.0, received_at=7.0, answered_at=7.1, arrived_at=5.2)

    print(f"CPU in µs, median of {ROUNDS} rounds (least, most), without the coroutine itself\n")
    for title, act in (
        ("admission of a request", admitted),
        ("check of the breakers, per call", checked),
        ("answer to the breakers, per message", answered),
        ("budget and attempts, per call", counted),
        ("clock of the other process, per message", timed),
    ):
        costs = [await cpu_us(act) - await cpu_us(nothing) for _ in range(ROUNDS)]
        print(f"{title:40}{statistics.median(costs):6.2f} ({min(costs):.2f}, {max(costs):.2f})")


async def cpu_us(act: Callable[[], Awaitable[None]]) -> float:
    began = time.process_time()
    for _ in range(CALLS):
        await act()
    return (time.process_time() - began) / CALLS * 1e6


if __name__ == "__main__":
    uvloop.run(main())
