"""Rate, errors and duration of every method, in Prometheus text.

Counters and histograms are our own, because prometheus_client's are made for threads: an observation costs
1.8 µs there and 0.3 µs here (`python -m bench.metrics`), and a request needs several. prometheus_client
renders the page, from families that are built for each request of the page. Only the thread of the event loop
counts and renders.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from chassis.telemetry.logs import get_logger

CONTENT_TYPE = CONTENT_TYPE_LATEST
CALL_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCH_BUCKETS_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
NAMESPACE = "homeroom_"  # put before every name here
SERIES_MAX = 2000  # series of one metric; further label values are counted as "other"
OTHER = "other"
# The codes of a call, besides the names of the reasons.
OK = "OK"
CANCELLED = "CANCELLED"
INTERNAL = "INTERNAL"

Labels = tuple[str, ...]

log = get_logger(__name__)


class Counter:
    """A count per combination of labels that only grows."""

    def __init__(self, name: str, doc: str, labels: Sequence[str]) -> None:
        self._name = NAMESPACE + name
        self._doc = doc
        self._labels = tuple(labels)
        self._values: dict[Labels, float] = {}

    def add(self, *labels: str, amount: float = 1) -> None:
        """Add to the count of these label values; they have the order of the counter's labels."""
        values = self._values
        count = values.get(labels)
        if count is None:
            labels = _within_limit(values, labels, len(self._labels))
            count = values.get(labels, 0)
        values[labels] = count + amount

    def family(self) -> Metric:
        family = CounterMetricFamily(self._name, self._doc, labels=self._labels)
        for labels, value in self._values.items():
            family.add_metric(labels, value)
        return family


class Histogram:
    """A distribution per combination of labels."""

    def __init__(self, name: str, doc: str, labels: Sequence[str], buckets: Sequence[float]) -> None:
        self._name = NAMESPACE + name
        self._doc = doc
        self._labels = tuple(labels)
        self._bounds = tuple(buckets)
        self._titles = (*(str(float(bound)) for bound in buckets), "+Inf")
        self._series: dict[Labels, list[float]] = {}  # a count per bucket, and the sum as last element

    def observe(self, labels: Labels, value: float, *, times: int = 1) -> None:
        """Count a value so many times; the label values have the order of the histogram's labels."""
        try:
            series = self._series[labels]
        except KeyError:
            labels = _within_limit(self._series, labels, len(self._labels))
            series = self._series.setdefault(labels, [0] * len(self._titles) + [0.0])
        series[bisect_left(self._bounds, value)] += times
        series[-1] += value * times

    def family(self) -> Metric:
        family = HistogramMetricFamily(self._name, self._doc, labels=self._labels)
        for labels, series in self._series.items():
            buckets: list[tuple[str, float]] = []
            cumulated = 0.0
            for title, count in zip(self._titles, series, strict=False):  # the sum stays out
                cumulated += count
                buckets.append((title, cumulated))
            family.add_metric(labels, buckets, series[-1])
        return family


class _Gauge:
    def __init__(
        self, name: str, doc: str, labels: Sequence[str], read: Callable[[], float | Mapping[Labels, float]]
    ) -> None:
        self._name = NAMESPACE + name
        self._doc = doc
        self._labels = tuple(labels)
        self._read = read

    def family(self) -> Metric:
        family = GaugeMetricFamily(self._name, self._doc, labels=self._labels)
        try:
            value = self._read()
            values = value if isinstance(value, Mapping) else {(): value}
            for labels, each in values.items():
                family.add_metric(labels, float(each))
        except Exception:
            log.warning("gauge_not_read", gauge=self._name, exc_info=True)
        return family


_Source = TypeVar("_Source", Counter, Histogram)


class Metrics(Collector):
    """The metrics of one process."""

    def __init__(self, *, service: str, version: str = "") -> None:
        self._service = service
        self._version = version
        self._sources: dict[str, Counter | Histogram | _Gauge] = {}
        self._readers: dict[str, dict[Labels, Callable[[], float]]] = {}
        self._owners: dict[str, dict[str, Callable[[], Mapping[Labels, float]]]] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._calls = self.histogram(
            "call_seconds",
            "Calls answered, by method and code; the count is the rate, codes other than OK are the errors.",
            ("method", "code"),
            CALL_BUCKETS_SECONDS,
        )
        self._internal_errors = self.counter(
            "internal_errors",
            "Calls that failed because of a fault of ours, by method; each one is a bug.",
            ("method",),
        )
        self._batches = self.histogram(
            "batch_items",
            "Requests in one batch, by method.",
            ("method",),
            BATCH_BUCKETS_ITEMS,
        )

    def observe_call(self, method: str, code: str, seconds: float, *, times: int = 1) -> None:
        """Count calls that ended together: code is OK, CANCELLED, or the name of the error's reason."""
        self._calls.observe((method, code), seconds, times=times)
        if code == INTERNAL:
            self._internal_errors.add(method, amount=times)

    def observe_batch(self, method: str, size: int) -> None:
        """Count one batch of `size` requests."""
        self._batches.observe((method,), size)

    def counter(self, name: str, doc: str, labels: Sequence[str] = ()) -> Counter:
        """Make a counter, or return the one with this name. Its name gets the suffix `_total`."""
        return self._own(Counter(name, doc, labels), name)

    def histogram(self, name: str, doc: str, labels: Sequence[str], buckets: Sequence[float]) -> Histogram:
        """Make a histogram with these upper bounds, or return the one with this name."""
        return self._own(Histogram(name, doc, labels, buckets), name)

    def gauge(
        self,
        name: str,
        doc: str,
        read: Callable[[], float | Mapping[Labels, float]],
        labels: Sequence[str] = (),
    ) -> None:
        """Add a gauge: each page shows what `read` returns, a number or one number per tuple of label values.

        A gauge with the same name is replaced.
        """
        self._sources[name] = _Gauge(name, doc, labels, read)

    def gauge_of(self, name: str, doc: str, read: Callable[[], float], *, label: str, value: str) -> None:
        """Add one series to a gauge that has several, such as one upstream of many."""
        readers = self._readers.setdefault(name, {})
        readers[(value,)] = read
        self.gauge(name, doc, lambda: {labels: each() for labels, each in readers.items()}, labels=(label,))

    def gauges_of(
        self,
        name: str,
        doc: str,
        read: Callable[[], Mapping[Labels, float]],
        *,
        labels: Sequence[str],
        owner: str,
    ) -> None:
        """Add the series of one owner to a gauge that several share, such as the breakers of an upstream.

        `read` returns one number per tuple of label values; an owner that comes again replaces its series.
        """
        owners = self._owners.setdefault(name, {})
        owners[owner] = read
        self.gauge(
            name, doc, lambda: {key: each for of in owners.values() for key, each in of().items()}, labels
        )

    def render(self) -> bytes:
        """The page, in the text format named by CONTENT_TYPE."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        yield InfoMetricFamily(
            NAMESPACE + "process",
            "The name and the version of this process.",
            value={"service": self._service, "version": self._version},
        )
        for source in self._sources.values():
            yield source.family()

    def _own(self, made: _Source, name: str) -> _Source:
        """Register a metric, or return the one of this name and kind."""
        source = self._sources.setdefault(name, made)
        if not isinstance(source, type(made)):
            raise TypeError(f"{name} is a {type(source).__name__} already")
        return source


def _within_limit(series: Mapping[Labels, object], labels: Labels, expected: int) -> Labels:
    """The label values of a new series: these, or "other" when there are too many series."""
    if len(labels) != expected:
        raise ValueError(f"{expected} label values are needed, not {len(labels)}")
    return labels if len(series) < SERIES_MAX else (OTHER,) * expected
