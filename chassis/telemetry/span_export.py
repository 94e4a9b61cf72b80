"""Writes finished spans as JSON lines to a file of bounded size, for machines without a collector."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import format_span_id, format_trace_id

FILE_BYTES_MAX = 256 * 1024 * 1024


class FileSpanExporter(SpanExporter):
    """Append one JSON object per finished span. Several processes may share the file.

    Each batch is one write, under a lock, with O_APPEND. So lines of different processes do not mix. A file
    of `file_bytes_max` is renamed to `<name>.1`, which replaces an older one, and a new file begins. A new
    file also begins when another process has moved or removed the file.
    """

    def __init__(self, path: Path, *, file_bytes_max: int = FILE_BYTES_MAX) -> None:
        self._path = path
        self._full_path = path.with_name(path.name + ".1")
        self._largest_file_bytes = file_bytes_max
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor: int | None = self._open()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write the batch. This runs in the span processor's thread, never in the event loop."""
        if self._descriptor is None:
            return SpanExportResult.FAILURE
        lines = b"".join(orjson.dumps(span_as_json(span), default=str) + b"\n" for span in spans)
        self._descriptor = self._lock_file_with_room(self._descriptor)
        try:
            while lines:
                lines = lines[os.write(self._descriptor, lines) :]
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002 — the SDK's signature; nothing waits here
        return True

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _lock_file_with_room(self, descriptor: int) -> int:
        """Lock the file that is at the path now; a full file is moved away first.

        Two attempts are enough, unless other processes also move the file at this moment.
        """
        for _ in range(8):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            ours = os.fstat(descriptor)
            is_current = self._is_at_path(ours)
            if is_current and ours.st_size < self._largest_file_bytes:
                break
            if is_current:
                self._path.replace(self._full_path)
            reopened = self._open()
            os.close(descriptor)  # this also releases the lock
            self._descriptor = descriptor = reopened
        return descriptor

    def _is_at_path(self, ours: os.stat_result) -> bool:
        try:
            return os.path.samestat(ours, self._path.stat())
        except FileNotFoundError:
            return False


def span_as_json(span: ReadableSpan) -> dict[str, Any]:
    """A span as plain values: ids in hex as in `traceparent`, times in Unix nanoseconds."""
    context = span.get_span_context()
    return {
        "trace_id": format_trace_id(context.trace_id) if context else "",
        "span_id": format_span_id(context.span_id) if context else "",
        "parent_span_id": format_span_id(span.parent.span_id) if span.parent else None,
        "name": span.name,
        "kind": span.kind.name,
        "service": span.resource.attributes.get("service.name"),
        "start_ns": span.start_time,
        "end_ns": span.end_time,
        "attributes": dict(span.attributes or {}),
        "links": [
            {
                "trace_id": format_trace_id(link.context.trace_id),
                "span_id": format_span_id(link.context.span_id),
                "attributes": dict(link.attributes or {}),
            }
            for link in span.links
        ],
        "status": span.status.status_code.name,
        "status_description": span.status.description,
    }
