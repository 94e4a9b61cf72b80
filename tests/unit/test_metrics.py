"""What is counted appears on the page, in a format that Prometheus reads."""

from __future__ import annotations

from functools import partial

import pytest
from prometheus_client.parser import text_string_to_metric_families

from chassis.telemetry.metrics import (
    BATCH_BUCKETS_ITEMS,
    CALL_BUCKETS_SECONDS,
    CONTENT_TYPE,
    SERIES_MAX,
    Metrics,
)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(service="session_service", version="1.2.3")


def read(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return read(metrics).get((name, frozenset(labels.items())))


def test_calls_are_counted_by_method_and_code(metrics: Metrics) -> None:
    for seconds in (0.004, 0.006):
        metrics.observe_call("/svc/A", "OK", seconds)
    metrics.observe_call("/svc/A", "NOT_FOUND", 0.2)
    metrics.observe_call("/svc/B", "OK", 100.0)
    assert value(metrics, "homeroom_call_seconds_count", method="/svc/A", code="OK") == 2
    assert value(metrics, "homeroom_call_seconds_sum", method="/svc/A", code="OK") == pytest.approx(0.01)
    assert value(metrics, "homeroom_call_seconds_count", method="/svc/A", code="NOT_FOUND") == 1
    assert value(metrics, "homeroom_call_seconds_count", method="/svc/B", code="OK") == 1


@pytest.mark.parametrize(
    ("seconds", "first_bucket"),
    [(0.0, "0.001"), (0.001, "0.001"), (0.0011, "0.0025"), (10.0, "10.0"), (11.0, "+Inf")],
)
def test_a_duration_counts_in_every_bucket_that_holds_it(
    metrics: Metrics, seconds: float, first_bucket: str
) -> None:
    metrics.observe_call("/svc/A", "OK", seconds)
    titles = [*map(str, CALL_BUCKETS_SECONDS), "+Inf"]
    counts = [
        value(metrics, "homeroom_call_seconds_bucket", method="/svc/A", code="OK", le=le) for le in titles
    ]
    first = titles.index(first_bucket)
    assert counts == [0] * first + [1] * (len(titles) - first)


def test_batch_sizes_are_counted_by_method(metrics: Metrics) -> None:
    metrics.observe_batch("/svc/A", 1)
    metrics.observe_batch("/svc/A", 33)
    assert value(metrics, "homeroom_batch_items_sum", method="/svc/A") == 34
    assert value(metrics, "homeroom_batch_items_bucket", method="/svc/A", le="32.0") == 1
    assert (
        value(metrics, "homeroom_batch_items_bucket", method="/svc/A", le=str(float(BATCH_BUCKETS_ITEMS[-1])))
        == 2
    )


def test_counters_and_histograms_are_made_once_per_name(metrics: Metrics) -> None:
    metrics.counter("retries", "Attempts after the first.", ("upstream",)).add("progress")
    metrics.counter("retries", "Attempts after the first.", ("upstream",)).add("progress", amount=2)
    assert value(metrics, "homeroom_retries_total", upstream="progress") == 3
    with pytest.raises(TypeError, match="retries is a Counter already"):
        metrics.histogram("retries", "", (), (1.0,))


def test_a_counter_without_labels_counts(metrics: Metrics) -> None:
    metrics.counter("beats", "Beats.").add()
    assert value(metrics, "homeroom_beats_total") == 1


def test_a_gauge_shows_the_value_of_the_moment(metrics: Metrics) -> None:
    waiting = [1]
    metrics.gauge("waiting", "What waits.", lambda: len(waiting))
    assert value(metrics, "homeroom_waiting") == 1
    waiting.append(2)
    assert value(metrics, "homeroom_waiting") == 2


def test_a_gauge_may_show_several_labelled_values(metrics: Metrics) -> None:
    metrics.gauge("pool", "Connections.", lambda: {("idle",): 3, ("busy",): 5}, ("state",))
    assert value(metrics, "homeroom_pool", state="idle") == 3
    assert value(metrics, "homeroom_pool", state="busy") == 5


def test_a_gauge_that_fails_costs_only_itself(metrics: Metrics, capsys: pytest.CaptureFixture[str]) -> None:
    metrics.gauge("broken", "Fails.", lambda: 1 / 0)
    metrics.observe_call("/svc/A", "OK", 0.1)
    samples = read(metrics)
    assert not [name for name, _ in samples if name == "homeroom_broken"]
    assert ("homeroom_call_seconds_count", frozenset({("method", "/svc/A"), ("code", "OK")})) in samples
    assert "broken" in capsys.readouterr().out


def test_too_many_label_values_are_counted_as_other(metrics: Metrics) -> None:
    counter = metrics.counter("flood", "Flood.", ("who",))
    for number in range(SERIES_MAX + 50):
        counter.add(str(number))
        metrics.observe_batch(str(number), 1)
    counter.add("0")
    assert value(metrics, "homeroom_flood_total", who="other") == 50
    assert value(metrics, "homeroom_flood_total", who="0") == 2
    assert value(metrics, "homeroom_batch_items_count", method="other") == 50


def test_the_wrong_number_of_labels_is_refused(metrics: Metrics) -> None:
    counter = metrics.counter("labelled", "Labelled.", ("a", "b"))
    with pytest.raises(ValueError, match="2 label values are needed, not 1"):
        counter.add("only one")


def test_label_values_survive_the_text_format(metrics: Metrics) -> None:
    strange = 'quote " backslash \\ newline \n end'
    metrics.counter("strange", "Strange.", ("what",)).add(strange)
    assert value(metrics, "homeroom_strange_total", what=strange) == 1


def test_the_page_says_which_process_it_is_and_what_it_uses(metrics: Metrics) -> None:
    assert value(metrics, "homeroom_process_info", service="session_service", version="1.2.3") == 1
    assert (value(metrics, "process_resident_memory_bytes") or 0) > 1_000_000
    assert CONTENT_TYPE.startswith("text/plain")


def test_two_processes_in_one_interpreter_do_not_mix_their_counts(metrics: Metrics) -> None:
    other = Metrics(service="gateway")
    metrics.observe_call("/svc/A", "OK", 0.1)
    assert value(other, "homeroom_call_seconds_count", method="/svc/A", code="OK") is None


def test_one_gauge_has_a_series_for_each_label():
    metrics = Metrics(service="gateway")
    for number, upstream in enumerate(("session_service", "progress_service")):
        metrics.gauge_of("waiting", "Waiting.", partial(float, number), label="upstream", value=upstream)
    page = metrics.render().decode()
    assert 'homeroom_waiting{upstream="session_service"} 0.0' in page
    assert 'homeroom_waiting{upstream="progress_service"} 1.0' in page
