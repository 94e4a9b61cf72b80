"""The pause before the next attempt grows, is random, and has a limit."""

from __future__ import annotations

import random

import pytest

from chassis.backoff import full_jitter


@pytest.mark.parametrize(("attempt", "ceiling"), [(1, 1.0), (2, 2.0), (4, 8.0), (10, 60.0), (10_000, 60.0)])
def test_the_longest_pause_doubles_up_to_a_limit(
    monkeypatch: pytest.MonkeyPatch, attempt: int, ceiling: float
) -> None:
    monkeypatch.setattr(random, "uniform", lambda _low, high: high)
    assert full_jitter(attempt, base_seconds=0.5, seconds_max=60.0) == ceiling


def test_pauses_are_spread_from_zero_to_the_longest() -> None:
    pauses = [full_jitter(20, base_seconds=0.05, seconds_max=1.0) for _ in range(200)]
    assert all(0 <= pause <= 1.0 for pause in pauses)
    assert len({round(pause, 6) for pause in pauses}) > 100
