"""Connections whose clients take too long: closing thousands of them stops nobody else."""

from __future__ import annotations

import asyncio
from typing import cast

from chassis.telemetry.metrics import Metrics
from gateway.connections import CLOSED_PER_TURN_MAX, Connection, ConnectionLimits, Connections


class Overdue:
    """A connection whose client never sent its headers."""

    address = "192.0.2.7"

    def __init__(self) -> None:
        self.closed = 0

    def overdue(self, _now: float) -> str:
        return "headers_too_slow"

    def cut_off(self) -> None:
        self.closed += 1


async def test_connections_that_are_overdue_at_once_are_closed_in_many_turns_of_the_loop() -> None:
    metrics = Metrics(service="gateway")
    connections = Connections(limits=ConnectionLimits(), metrics=metrics)
    crowd = [Overdue() for _ in range(1000)]
    for each in crowd:
        assert connections.enter(cast("Connection", each))
    sweeping = asyncio.create_task(connections.sweep())
    await asyncio.sleep(0)
    assert sum(each.closed for each in crowd) == CLOSED_PER_TURN_MAX
    gone = next(each for each in crowd if not each.closed)
    connections.leave(cast("Connection", gone))
    await sweeping
    assert [each for each in crowd if each.closed != 1] == [gone]
    page = metrics.render().decode()
    assert 'homeroom_connections_ended_total{reason="headers_too_slow"} 999.0' in page
