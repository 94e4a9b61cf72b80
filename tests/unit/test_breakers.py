"""Breakers stop calls that would get no answer: of an upstream, or of one method alone."""

from __future__ import annotations

import random

import pytest

from chassis.errors import Reason, ServiceError
from chassis.rpc.breakers import Breaker, BreakerLimits, Breakers, BreakerState
from chassis.telemetry.metrics import Metrics


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("chassis.rpc.breakers.time.monotonic", clock)
    return clock


def passes(breaker: Breaker) -> bool:
    try:
        breaker.check()
    except ServiceError:
        return False
    return True


def test_a_breaker_opens_after_failures_in_a_row_and_closes_when_a_probe_succeeds(clock):
    breaker = Breaker(BreakerLimits(failures_max=3, cool_down_seconds=0.5))
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
    clock.now += 0.6
    breaker.check()  # the probe
    with pytest.raises(ServiceError):
        breaker.check()  # the others wait for it
    breaker.failed()
    clock.now += 0.6
    breaker.check()
    breaker.succeeded()
    assert all(passes(breaker) for _ in range(100))


def test_a_breaker_whose_probe_is_lost_lets_another_one_through(clock):
    breaker = Breaker(BreakerLimits(failures_max=1, cool_down_seconds=0.5))
    breaker.failed()
    for _ in range(3):
        clock.now += 0.6
        breaker.check()  # is never heard of again
        with pytest.raises(ServiceError):
            breaker.check()
    clock.now += 0.6
    breaker.check()
    breaker.undecided()
    breaker.check()  # at once: the last probe found out nothing
    with pytest.raises(ServiceError):
        breaker.check()
    assert breaker.open
    breaker.succeeded()
    breaker.check()


def test_an_open_breaker_lets_only_one_probe_through_per_cool_down(clock):
    breaker = Breaker(BreakerLimits(failures_max=5, cool_down_seconds=0.5))
    for _ in range(5):
        breaker.failed()
    let_through = 0
    for _ in range(10_000):  # ten seconds, a caller each millisecond, each probe fails
        clock.now += 0.001
        try:
            breaker.check()
        except ServiceError:
            continue
        let_through += 1
        breaker.failed()
    assert 18 <= let_through <= 20


def test_a_breaker_opens_when_half_of_many_messages_fail_though_never_two_in_a_row(clock):
    causes = []
    limits = BreakerLimits(rate_max=0.5, volume_min=20, window_seconds=10.0)
    breaker = Breaker(limits, moved=lambda state, cause: causes.append((state, cause)))
    for _ in range(9):
        breaker.succeeded()
        breaker.failed()
        clock.now += 0.1
    assert causes == []
    breaker.succeeded()
    breaker.failed()
    assert causes == [(BreakerState.OPEN, "failure_rate")]


def test_failures_that_left_the_window_and_rare_failures_open_nothing(clock):
    breaker = Breaker(BreakerLimits(rate_max=0.5, volume_min=20, window_seconds=10.0))
    for number in range(1000):  # half of the messages fail, but the window has ten of them at most
        breaker.succeeded() if number % 2 else breaker.failed()
        clock.now += 1.0
    assert not breaker.open
    random_ = random.Random(1)
    for _ in range(10_000):  # many messages, a third of which fail
        breaker.failed() if random_.random() < 0.3 and not breaker._failures else breaker.succeeded()
        clock.now += 0.001
    assert not breaker.open


def test_the_late_answer_to_an_old_message_closes_no_open_breaker(clock):
    breaker = Breaker(BreakerLimits(failures_max=1, cool_down_seconds=0.5))
    breaker.failed()
    for _ in range(10):
        breaker.succeeded()
    assert not passes(breaker)
    clock.now += 0.6  # an answer that comes now, as of a health check, is as good as a probe
    breaker.succeeded()
    assert passes(breaker)
    assert passes(breaker)


def test_a_method_that_misses_its_deadlines_shuts_no_neighbour_out(clock):
    breakers = Breakers(upstream="test", metrics=Metrics(service="test"))
    for _ in range(5):
        breakers.check("/slow")
        breakers.failed("/slow", whole_upstream=False)
    assert breakers.open_for("/slow")
    with pytest.raises(ServiceError) as caught:
        breakers.check("/slow")
    assert caught.value.reason is Reason.UNAVAILABLE
    assert caught.value.retry_after_seconds
    for _ in range(100):
        breakers.check("/quick")
        breakers.succeeded("/quick")
    assert breakers.open_for("/slow")


def test_a_lost_upstream_is_lost_for_all_methods_and_found_again_by_any(clock):
    metrics = Metrics(service="test")
    breakers = Breakers(upstream="test", metrics=metrics)
    for _ in range(5):
        breakers.failed("/one", whole_upstream=True)
    for path in ("/one", "/other", "/new"):
        with pytest.raises(ServiceError):
            breakers.check(path)
    page = metrics.render().decode()
    assert 'homeroom_upstream_breaker_state{method="",upstream="test"} 2.0' in page
    assert (
        "homeroom_upstream_breaker_transitions_total"
        '{cause="failures_in_a_row",method="",state="OPEN",upstream="test"} 1.0'
    ) in page
    clock.now += 0.6
    breakers.check("/new")
    breakers.succeeded("/new")
    for path in ("/one", "/other"):
        breakers.check(path)
    assert 'upstream_breaker_state{method="",upstream="test"} 0.0' in metrics.render().decode()
