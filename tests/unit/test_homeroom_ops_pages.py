"""The calls that failed with a 500 are read from the operations port of each living process."""

from __future__ import annotations

import pytest

from chassis.telemetry.health import Health, OpsPages, OpsServer
from chassis.telemetry.metrics import Metrics
from homeroom import ops_pages
from homeroom.ports import free_ports


def serving(metrics: Metrics) -> OpsServer:
    pages = OpsPages(service="test", version="1", health=Health(), metrics=metrics)
    return OpsServer(bind="127.0.0.1:0", pages=pages)


async def test_internal_errors_are_summed_over_the_methods_of_each_process() -> None:
    troubled, well = Metrics(service="troubled"), Metrics(service="well")
    for method, times in (("/a/B", 2), ("/a/C", 1)):
        for _ in range(times):
            troubled.observe_call(method, "INTERNAL", 0.1)
    for metrics in (troubled, well):
        metrics.observe_call("/a/B", "OK", 0.1)
        metrics.observe_call("/a/B", "UNAVAILABLE", 0.1)
    one, two = serving(troubled), serving(well)
    await one.start()
    await two.start()
    try:
        found = await ops_pages.internal_errors({"troubled": one.port, "well": two.port})
    finally:
        await one.stop()
        await two.stop()
    assert found == {"troubled": 3, "well": 0}


async def test_a_process_that_is_not_there_is_left_out() -> None:
    (port,) = free_ports(1)
    assert await ops_pages.internal_errors({"gone": port}) == {}


@pytest.mark.parametrize("count", [1, 10, 2_000_000])
async def test_a_count_is_read_however_it_is_written(count: int) -> None:
    metrics = Metrics(service="test")
    metrics.counter("internal_errors", "", ("method",)).add("/a/B", amount=count)
    server = serving(metrics)
    await server.start()
    try:
        assert await ops_pages.internal_errors({"test": server.port}) == {"test": count}
    finally:
        await server.stop()


async def test_a_failed_check_is_seen_even_if_the_process_can_serve_without_it() -> None:
    health, answers = Health(cache_seconds=0.0), [False, True]

    async def reach_neighbour() -> None:
        if not answers.pop(0):
            raise ConnectionError

    health.add("neighbour", reach_neighbour, required=False)
    metrics = Metrics(service="test")
    pages = OpsPages(service="test", version="1", health=health, metrics=metrics)
    page = await pages.get("/readyz")
    assert page is not None
    assert page.status == 200
    assert not ops_pages.all_well(page.body)
    page = await pages.get("/readyz")
    assert page is not None
    assert ops_pages.all_well(page.body)
