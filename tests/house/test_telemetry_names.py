"""Log events and metrics have names that a query can rely on."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.house.sources import PROCESSES, Source, calls, last_name, literal, source_of, sources, told

LOGGING = ("chassis", *PROCESSES, "homeroom")
LEVELS = frozenset({"debug", "info", "warning", "error", "exception", "critical"})
METRIC_KINDS = frozenset({"counter", "gauge", "gauge_of", "gauges_of", "histogram"})
SNAKE_CASE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

# The methods of this module pass on the names that their callers give.
METRICS_MODULE = "chassis.telemetry.metrics"


def is_logger(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return last_name(node.func) == "get_logger"
    return last_name(node).lstrip("_") in {"log", "logger"}


def test_log_events_are_literal_and_snake_case() -> None:
    faults = [fault for source in sources(LOGGING) for fault in faults_of_events(source)]
    assert not faults, told(faults)


def faults_of_events(source: Source) -> Iterator[str]:
    for call, method in calls(source):
        if not is_logger(method.value) or method.attr not in LEVELS:
            continue
        event = literal(call.args[0]) if len(call.args) == 1 else None
        if event is None:
            yield source.at(call, "an event is one literal; what varies is a field")
        elif not SNAKE_CASE.fullmatch(event):
            yield source.at(call, f"the event {event!r} is not snake_case")


@pytest.mark.parametrize(
    "line",
    [
        'log.info("It is served")',
        'log.info(f"served_{port}")',
        "log.info(event)",
        'log.info("served %s", port)',
        'self._log.error("Served")',
        'get_logger(__name__).warning("served-late")',
    ],
)
def test_the_check_of_events_finds_what_is_wrong(line: str) -> None:
    assert len(list(faults_of_events(source_of(line)))) == 1
    assert not list(faults_of_events(source_of('log.info("served", port=1)')))


def test_a_logger_is_called_log() -> None:
    faults = [
        source.at(node, "write: log = get_logger(__name__)")
        for source in sources(LOGGING)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and last_name(node.value.func) == "get_logger"
        and [last_name(target) for target in node.targets] != ["log"]
    ]
    assert not faults, told(faults)


def test_metric_names_are_literal_snake_case_and_without_what_is_added() -> None:
    faults = [fault for source in sources(LOGGING) for fault in faults_of_metrics(source)]
    assert not faults, told(faults)


def faults_of_metrics(source: Source) -> Iterator[str]:
    receivers = {"metrics", "self"} if source.module == METRICS_MODULE else {"metrics"}
    for call, method in calls(source):
        if last_name(method.value).lstrip("_") not in receivers or method.attr not in METRIC_KINDS:
            continue
        name = literal(call.args[0]) if call.args else None
        if name is None:
            if source.module != METRICS_MODULE:
                yield source.at(call, "the name of a metric is a literal")
        elif not SNAKE_CASE.fullmatch(name):
            yield source.at(call, f"the metric {name!r} is not snake_case")
        elif name.startswith("homeroom_"):
            yield source.at(call, f"the metric {name!r}: the prefix homeroom_ is added to each name")
        elif method.attr == "counter" and name.endswith("_total"):
            yield source.at(call, f"the metric {name!r}: _total is added to each counter")


@pytest.mark.parametrize(
    "line",
    [
        'metrics.counter("homeroom_sessions", "")',
        'self._metrics.counter("sessions_total", "")',
        'metrics.gauge("openSessions", "", read)',
        "metrics.histogram(name, doc, (), buckets)",
    ],
)
def test_the_check_of_metrics_finds_what_is_wrong(line: str) -> None:
    assert len(list(faults_of_metrics(source_of(line)))) == 1
    assert not list(faults_of_metrics(source_of('metrics.counter("sessions", "")')))
