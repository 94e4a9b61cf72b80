"""A crowded gateway puts off the collection of garbage, but not for ever."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from gateway.garbage import GarbagePauses


@pytest.fixture(autouse=True)
def _collecting() -> Iterator[None]:
    yield
    gc.enable()


async def test_the_collector_is_off_while_the_gateway_is_crowded():
    crowded = False
    pauses = GarbagePauses(crowded=lambda: crowded)
    seen = []
    for crowded in (False, True, True, False, True):  # noqa: B007 - the pauses read it
        await pauses.check()
        seen.append(gc.isenabled())
    assert seen == [True, False, False, True, False]


async def test_a_pause_ends_in_a_crowd_that_does_not_and_the_next_one_begins():
    now = 0.0
    pauses = GarbagePauses(crowded=lambda: True, seconds_max=60.0, clock=lambda: now)
    seen = []
    for now in (1.0, 59.0, 60.0, 60.5, 119.0, 121.0):  # noqa: B007 - the clock reads it
        await pauses.check()
        seen.append(gc.isenabled())
    assert seen == [False, False, True, False, False, True]


async def test_a_pause_is_counted_from_the_last_moment_in_which_garbage_was_collected():
    now, crowded = 0.0, False
    pauses = GarbagePauses(crowded=lambda: crowded, seconds_max=60.0, clock=lambda: now)
    for now in range(0, 600, 10):  # noqa: B007 - the clock reads it
        await pauses.check()
    crowded = True
    await pauses.check()
    assert not gc.isenabled()


async def test_a_pause_ends_when_too_many_objects_are_there():
    class Node:
        pass

    pauses = GarbagePauses(crowded=lambda: True, objects_max=20_000)
    gc.collect()
    await pauses.check()
    assert not gc.isenabled()
    for _ in range(30_000):  # each is garbage that only the collector finds
        node = Node()
        node.itself = node
    await pauses.check()
    assert gc.isenabled()
    for _ in range(100):
        Node().itself = []  # the next objects make it collect
    assert gc.get_count()[0] < 20_000
    await pauses.check()
    assert not gc.isenabled()
