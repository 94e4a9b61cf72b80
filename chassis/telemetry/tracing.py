"""Distributed traces, almost free for requests that are not sampled.

The span of a request is a `RequestSpan`. The OpenTelemetry SDK records it when the request is sampled.
Otherwise it is a small object that only passes the incoming `traceparent` on.

A batch has many requests, but a query runs once for all of them. The span of the query is in the trace of the
FIRST sampled request of the batch, with a link to each other sampled request. The spans of those requests
have a link back to it. So every sampled request leads to its queries, and no query is counted twice (this is
the OpenTelemetry convention for messaging batches).
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, Token
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from chassis.context import SAMPLED_DIGITS
from chassis.telemetry.span_export import FileSpanExporter

__all__ = ["AttributeValue", "BatchSpans", "RequestSpan", "SpanKind", "Tracing", "current_batch"]

EXPORT_DELAY_MS = 200
EXPORT_QUEUE_SPANS = 8192
OTLP_TIMEOUT_SECONDS = 3.0  # retries included: a collector that is down must not delay the end of the process

AttributeValue = str | bool | int | float

# https://www.w3.org/TR/trace-context/#traceparent-header: only versions after 00 may have more parts.
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:(?<!^00.{53})-[!-~]*)?\Z"
)
_TRACEPARENT_LENGTH = 55

# The header of a request that the gateway decided not to sample. It is valid, and the next processes do not
# decide again. Its ids name no trace, so one header per process is enough.
_DECIDED_AGAINST = f"00-{random.getrandbits(127) + 1:032x}-{random.getrandbits(63) + 1:016x}-00"

_current_batch: ContextVar[BatchSpans | None] = ContextVar("current_batch", default=None)


def current_batch() -> BatchSpans | None:
    """The spans of the current batch, or None when none of its requests is sampled."""
    return _current_batch.get()


class RequestSpan(Protocol):
    """The span of one request in one process."""

    @property
    def sampled(self) -> bool:
        """Whether this span is recorded."""

    @property
    def traceparent(self) -> str:
        """The header for the next process, which continues this trace; may be empty."""

    def set(self, key: str, value: AttributeValue) -> None: ...

    def add_link(self, traceparent: str) -> None:
        """Link to another request, such as the original of a replay. A malformed traceparent is ignored."""

    def error(self, description: str) -> None: ...

    def end(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class _UnsampledSpan:
    """The span of a request that is not recorded: it only has the header for the next process."""

    __slots__ = ("traceparent",)
    sampled = False

    def __init__(self, traceparent: str) -> None:
        self.traceparent = traceparent

    def set(self, key: str, value: AttributeValue) -> None:
        pass

    def add_link(self, traceparent: str) -> None:
        pass

    def error(self, description: str) -> None:
        pass

    def end(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class _SampledSpan:
    """The span of a request that is recorded."""

    __slots__ = ("otel_span", "traceparent")
    sampled = True

    def __init__(self, otel_span: Span) -> None:
        context = otel_span.get_span_context()
        self.otel_span = otel_span
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-01"

    def set(self, key: str, value: AttributeValue) -> None:
        self.otel_span.set_attribute(key, value)

    def add_link(self, traceparent: str) -> None:
        context = _parse(traceparent)
        if context is not None:
            self.otel_span.add_link(context)

    def error(self, description: str) -> None:
        self.otel_span.set_status(Status(StatusCode.ERROR, description))

    def end(self) -> None:
        self.otel_span.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.error(kind.__name__)
        self.end()


class BatchSpans:
    """The sampled requests of one batch. It makes the spans of work that is done once for all of them."""

    __slots__ = ("_links", "_others", "_parent", "_tracing")

    def __init__(self, tracing: Tracing, parent: Span, others: Sequence[Span], links: Sequence[Link]) -> None:
        self._tracing = tracing
        self._parent = parent
        self._others = others
        self._links = links

    @contextmanager
    def span(
        self, name: str, attributes: Mapping[str, AttributeValue] | None = None
    ) -> Iterator[RequestSpan]:
        """Record work as a child of the first sampled request, with links to the others."""
        otel_span = self._tracing.start(
            name,
            parent=self._parent.get_span_context(),
            kind=SpanKind.INTERNAL,
            links=self._links,
            attributes=attributes,
        )
        for other in self._others:
            other.add_link(otel_span.get_span_context())
        token = _current_batch.set(BatchSpans(self._tracing, otel_span, (), self._links))
        try:
            with _SampledSpan(otel_span) as span:
                yield span
        finally:
            _current_batch.reset(token)


class _BatchScope:
    """Sets `current_batch()` inside a `with` block."""

    __slots__ = ("_batch", "_token")
    _token: Token[BatchSpans | None] | None

    def __init__(self, batch: BatchSpans | None) -> None:
        self._batch = batch
        self._token = None

    def __enter__(self) -> None:
        # None is also set: a long-lived task may have inherited the batch of the request that started it.
        if self._batch is not None or _current_batch.get() is not None:
            self._token = _current_batch.set(self._batch)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _current_batch.reset(self._token)
            self._token = None


class Tracing:
    """The spans of one process. Without an exporter nothing is recorded, and headers are passed on."""

    def __init__(
        self,
        *,
        service: str,
        version: str,
        sample_ratio: float,
        trace_file: Path | None = None,
        otlp_endpoint: str | None = None,
    ) -> None:
        self._provider: TracerProvider | None = None
        self._ratio = 0.0
        self._unsampled_at_edge = _UnsampledSpan("")
        exporters: list[SpanExporter] = []
        if trace_file is not None:
            exporters.append(FileSpanExporter(trace_file))
        if otlp_endpoint is not None:
            exporters.append(_otlp_exporter(otlp_endpoint))
        if not exporters:
            return
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,  # `begin` decides what is sampled
            resource=Resource.create({"service.name": service, "service.version": version}),
            shutdown_on_exit=False,
        )
        for exporter in exporters:
            self._provider.add_span_processor(
                BatchSpanProcessor(
                    exporter, max_queue_size=EXPORT_QUEUE_SPANS, schedule_delay_millis=EXPORT_DELAY_MS
                )
            )
        self._tracer = self._provider.get_tracer("homeroom", version)
        self._ratio = sample_ratio
        self._unsampled_at_edge = _UnsampledSpan(_DECIDED_AGAINST)

    def begin(
        self,
        name: str,
        *,
        traceparent: str,
        kind: SpanKind = SpanKind.SERVER,
        links: Sequence[str] = (),
    ) -> RequestSpan:
        """Begin the span of a request. Its `traceparent` says whether it is sampled.

        Without a `traceparent`, or with a malformed one, the sample ratio decides. `links` are traceparents
        of related requests.
        """
        if traceparent and _TRACEPARENT.match(traceparent):
            if self._provider is None or traceparent[54] not in SAMPLED_DIGITS:
                return _UnsampledSpan(traceparent[:_TRACEPARENT_LENGTH])
            parent = _parse(traceparent)
        else:
            if self._ratio <= random.random():  # noqa: S311 — a coin, not a secret
                return self._unsampled_at_edge
            parent = None
        related = [Link(context) for context in map(_parse, links) if context is not None]
        return _SampledSpan(self.start(name, parent=parent, kind=kind, links=related))

    def batch(self, spans: Sequence[RequestSpan]) -> _BatchScope:
        """Inside `with tracing.batch(spans)`, the current batch has these requests; see `current_batch`."""
        sampled = [span.otel_span for span in spans if isinstance(span, _SampledSpan)]
        if not sampled:
            return _BatchScope(None)
        first, *others = sampled
        links = [Link(other.get_span_context()) for other in others]
        return _BatchScope(BatchSpans(self, first, others, links))

    def start(
        self,
        name: str,
        *,
        parent: SpanContext | None,
        kind: SpanKind,
        links: Sequence[Link],
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> Span:
        """Start a span of the SDK; only this module calls it, when the span is sampled."""
        context = Context()
        if parent is not None:
            context = set_span_in_context(NonRecordingSpan(parent), context)
        return self._tracer.start_span(name, context, kind=kind, attributes=attributes, links=links)

    async def flush(self) -> None:
        """Export every span that has ended."""
        if self._provider is not None:
            await asyncio.to_thread(self._provider.force_flush)

    async def close(self) -> None:
        """Export the remaining spans and stop. Spans that begin afterwards are not recorded."""
        if self._provider is not None:
            provider, self._provider, self._ratio = self._provider, None, 0.0
            await asyncio.to_thread(provider.shutdown)


def _parse(traceparent: str) -> SpanContext | None:
    if not _TRACEPARENT.match(traceparent):
        return None
    return SpanContext(
        trace_id=int(traceparent[3:35], 16),
        span_id=int(traceparent[36:52], 16),
        is_remote=True,
        trace_flags=TraceFlags(int(traceparent[53:55], 16)),
    )


def _otlp_exporter(endpoint: str) -> SpanExporter:
    # Imported only when it is needed: its HTTP client takes longer to load than all other imports.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 — see above
        OTLPSpanExporter,
    )

    is_base = urlsplit(endpoint).path in {"", "/"}
    return OTLPSpanExporter(
        endpoint.rstrip("/") + "/v1/traces" if is_base else endpoint, timeout=OTLP_TIMEOUT_SECONDS
    )
