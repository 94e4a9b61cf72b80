"""Retries stay within their budget; a breaker limits the calls to a dead upstream."""

from __future__ import annotations

import pytest

from chassis.errors import Reason, ServiceError
from chassis.rpc.retries import Breaker, RetryBudget


def test_retries_are_a_tenth_of_the_calls_once_the_burst_is_spent():
    budget = RetryBudget(ratio=0.1, burst=5)
    assert sum(budget.spend() for _ in range(50)) == 5
    spent = 0
    for _ in range(1000):
        budget.earn()
        spent += budget.spend()
    assert 95 <= spent <= 101


def test_a_breaker_opens_after_failures_in_a_row_and_closes_when_a_probe_succeeds(monkeypatch):
    now = 1000.0
    monkeypatch.setattr("chassis.rpc.retries.time.monotonic", lambda: now)
    breaker = Breaker(failures_max=3, cool_down_seconds=0.5)
    for _ in range(2):
        breaker.failed()
    breaker.succeeded()
    for _ in range(3):
        breaker.check()
        breaker.failed()
    assert breaker.open
    with pytest.raises(ServiceError) as caught:
        breaker.check()
    assert caught.value.reason is Reason.UNAVAILABLE
    assert caught.value.retry_after_seconds == pytest.approx(0.5)
    now += 0.6
    breaker.check()  # the probe
    with pytest.raises(ServiceError):
        breaker.check()  # the others wait for it
    breaker.failed()
    now += 0.6
    breaker.check()
    breaker.succeeded()
    breaker.check()


def test_a_breaker_whose_probe_is_lost_lets_another_one_through(monkeypatch):
    now = 1000.0
    monkeypatch.setattr("chassis.rpc.retries.time.monotonic", lambda: now)
    breaker = Breaker(failures_max=1, cool_down_seconds=0.5)
    breaker.failed()
    for _ in range(3):
        now += 0.6
        breaker.check()  # is never heard of again
        with pytest.raises(ServiceError):
            breaker.check()
    now += 0.6
    breaker.check()
    breaker.undecided()
    breaker.check()  # at once: the last probe found out nothing
    with pytest.raises(ServiceError):
        breaker.check()
    assert breaker.open
    breaker.succeeded()
    breaker.check()


def test_an_open_breaker_lets_only_one_probe_through_per_cool_down(monkeypatch):
    now = 1000.0
    monkeypatch.setattr("chassis.rpc.retries.time.monotonic", lambda: now)
    breaker = Breaker(failures_max=5, cool_down_seconds=0.5)
    for _ in range(5):
        breaker.failed()
    let_through = 0
    for _ in range(10_000):  # ten seconds, a caller each millisecond, each probe fails
        now += 0.001
        try:
            breaker.check()
        except ServiceError:
            continue
        let_through += 1
        breaker.failed()
    assert 18 <= let_through <= 20
