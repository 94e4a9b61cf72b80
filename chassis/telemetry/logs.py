"""Logs: one JSON object per line on standard output, with request and trace ids, and without secrets."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar, Token
from enum import StrEnum
from types import TracebackType
from typing import Any, cast

import orjson
import structlog

from chassis.telemetry.redaction import Redactor, redacted

Logger = structlog.typing.FilteringBoundLogger

_LIBRARIES_AT_WARNING = ("grpc", "aiohttp.access", "asyncio", "opentelemetry", "urllib3")

_request: ContextVar[tuple[str, str]] = ContextVar("log_request", default=("", ""))
_redactor = Redactor()
_configured = False


class LogLevel(StrEnum):
    """The lowest severity of the log lines that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def configure(*, service: str, version: str, level: LogLevel = LogLevel.INFO, hash_secret: str = "") -> None:
    """Write the logs of this process, structlog's and the standard library's, to standard output as JSON.

    `hash_secret` is the secret of the hashes of idempotency keys; processes with the same secret write the
    same hashes. A later call replaces an earlier one. Uncaught exceptions of all threads are also logged.
    """
    global _redactor, _configured  # noqa: PLW0603 — logging is configured per process, as structlog itself is
    _redactor = Redactor(hash_secret=hash_secret)
    _configured = True
    threshold = logging.getLevelNamesMapping()[level.name]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _identity(service, version),
            structlog.processors.format_exc_info,
            _redact,
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=_StandardOutput,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_ToStructlog()]
    root.setLevel(threshold)
    for name in _LIBRARIES_AT_WARNING:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_crash
    threading.excepthook = _log_thread_crash


def is_configured() -> bool:
    """Whether `configure` was called in this process."""
    return _configured


def get_logger(name: str) -> Logger:
    """The logger of a module: `get_logger(__name__)`."""
    return cast("Logger", structlog.get_logger(name))


def hashed(key: str) -> str:
    """How an idempotency key appears in a log."""
    return _redactor.hashed(key)


def bind_request(request_id: str, traceparent: str = "") -> Token[tuple[str, str]]:
    """Add these ids to every line that this task logs from now on; `unbind_request` removes them."""
    return _request.set((request_id, traceparent))


def unbind_request(token: Token[tuple[str, str]]) -> None:
    _request.reset(token)


def _identity(service: str, version: str) -> structlog.typing.Processor:
    pid = os.getpid()

    def add(
        logger: _StandardOutput, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        if logger.name:
            event["logger"] = logger.name
        event["service"] = service
        event["version"] = version
        event["pid"] = pid
        request_id, traceparent = _request.get()
        if request_id:
            event.setdefault("request_id", request_id)
        if traceparent:
            event.setdefault("trace_id", traceparent[3:35])
        return event

    return add


def _redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return _redactor.fields(event)


def _render(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(event, default=_shown, option=orjson.OPT_PASSTHROUGH_DATACLASS)
    except TypeError:  # orjson refuses huge integers and lone surrogates; the line is still written
        return json.dumps(event, default=_shown, ensure_ascii=False).encode(errors="replace")


def _shown(value: object) -> str:
    """A value that JSON cannot express, as text. The line is written even if `repr` raises."""
    try:
        return redacted(repr(value))
    except Exception:  # noqa: BLE001 — `repr` may raise anything
        return f"<unprintable {type(value).__name__}>"


class _StandardOutput:
    """The output of the pipeline: one write per line. A failed write is not an error for the caller."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def msg(self, line: bytes) -> None:
        try:
            stream = sys.stdout.buffer
            stream.write(line + b"\n")
            stream.flush()
        except (OSError, ValueError):  # nobody reads the output any more; the process goes on
            return

    debug = info = warning = error = critical = exception = log = fatal = warn = msg


class _ToStructlog(logging.Handler):
    """Writes the log records of libraries, which use `logging`, in the same form."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level = max(record.levelno, logging.DEBUG)
            get_logger(record.name).log(level, record.getMessage(), exc_info=record.exc_info)
        except Exception:  # noqa: BLE001 — logging's own rule: a log call never breaks its caller
            self.handleError(record)


def _log_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    get_logger(__name__).critical("crashed", exc_info=(kind, error, trace))


def _log_thread_crash(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_value is not None:
        get_logger(__name__).critical(
            "thread_crashed",
            thread=crash.thread.name if crash.thread else None,
            exc_info=(crash.exc_type, crash.exc_value, crash.exc_traceback),
        )
