"""A process knows when a message was sent, though the sender has another clock."""

from __future__ import annotations

import math
import random

import pytest

from chassis.rpc.clocks import MEASURED_SECONDS_MAX, UNKNOWN, PeerClock

THERE = 7


class World:
    """Two clocks; the other one is ahead by `offset`. Messages take a while, and so does the work."""

    def __init__(self, offset: float) -> None:
        self.offset = offset
        self.now = 1000.0
        self.clock = PeerClock()

    def exchange(self, *, there: float, work: float = 0.01, back: float, clock: int = THERE) -> None:
        sent_at = self.now
        received_at = sent_at + there + self.offset
        self.now += there + work + back
        self.clock.note(
            clock,
            sent_at=sent_at,
            received_at=received_at,
            answered_at=received_at + work,
            arrived_at=self.now,
        )

    def error(self) -> float:
        """By how much a message of this moment seems to be sent later than it is."""
        reading = self.clock.reading(self.now)
        assert reading.clock == THERE
        return reading.at - (self.now + self.offset)


def test_before_the_first_answer_nothing_is_known():
    assert PeerClock().reading(5.0) == UNKNOWN


@pytest.mark.parametrize("offset", [-1e6, 0.0, 12345.6])
def test_one_exchange_is_enough_and_a_quicker_one_is_better(offset):
    world = World(offset)
    world.exchange(there=0.4, back=0.2)
    assert 0.0 <= world.error() <= 0.6
    world.exchange(there=0.0001, back=0.0001)
    assert 0.0 <= world.error() <= 0.0003
    world.exchange(there=2.0, back=2.0)  # latency that comes later spoils nothing
    assert 0.0 <= world.error() <= 0.0003


def test_no_message_ever_seems_to_be_sent_earlier_than_it_was():
    random_ = random.Random(1)
    for _ in range(200):
        world = World(random_.uniform(-1e4, 1e4))
        for _ in range(10):
            world.exchange(there=random_.expovariate(5), work=random_.random(), back=random_.expovariate(5))
            assert world.error() >= -1e-6


def test_the_clock_of_another_process_and_an_old_measurement_are_replaced():
    world = World(5.0)
    world.exchange(there=0.001, back=0.001, clock=3)
    world.offset = -50.0
    world.exchange(there=0.1, back=0.1)
    assert world.clock.reading(world.now).clock == THERE
    assert 0.0 <= world.error() <= 0.21
    world.exchange(there=0.001, back=0.001)
    world.offset += 0.02  # the clocks have drifted apart
    world.now += MEASURED_SECONDS_MAX
    world.exchange(there=0.1, back=0.1)
    assert 0.0 <= world.error() <= 0.21


@pytest.mark.parametrize("paused_seconds", [20.0, -20.0])
def test_a_machine_that_was_paused_is_noticed_with_the_next_answer(paused_seconds):
    world = World(5.0)
    world.exchange(there=0.0001, back=0.0001)
    world.offset += paused_seconds  # the clock of one of the two stood still
    world.exchange(there=0.1, back=0.1)
    assert 0.0 <= world.error() <= 0.21


@pytest.mark.parametrize(("received_at", "answered_at"), [(0.0, 1e9), (math.nan, 1.0), (1.0, math.inf)])
def test_times_that_cannot_be_right_change_nothing(received_at, answered_at):
    world = World(5.0)
    world.exchange(there=0.001, back=0.001)
    before = world.clock.reading(1.0)
    world.clock.note(
        THERE, sent_at=1000.0, received_at=received_at, answered_at=answered_at, arrived_at=1000.1
    )
    assert world.clock.reading(1.0) == before


def test_a_process_that_says_nothing_of_its_clock_changes_nothing():
    world = World(5.0)
    world.exchange(there=0.001, back=0.001)
    before = world.clock.reading(1.0)
    world.exchange(there=0.0, back=0.0, clock=0)
    assert world.clock.reading(1.0) == before
