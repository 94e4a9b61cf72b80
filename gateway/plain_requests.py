"""Requests that are whole and plain, found in received bytes without a parser.

A crowded gateway refuses most of what it receives, and a parser, a request object and a task cost several
times as much as a refusal. What is found here is one request as nearly all clients send it: HTTP/1.1, a
method that routes have, and at most one body, with a Content-Length. Everything else is left to the parser,
which knows all of HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

HEAD_BYTES_MAX = 8_000
"""A longer head is left to the parser, which has a limit for each line."""
HEADERS_MAX = 64

_LINE = rb"(GET|POST|PUT|PATCH|DELETE) (/[!-\"$-~]*+) HTTP/1\.1\r\n"
_NAME = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
# The values may have any byte but CR here; `_only_printable` looks at them, which is faster.
_LINES = rb"(?:" + _NAME + rb":[^\r]*+\r\n)*+"
_HEAD = re.compile(_LINE + rb"(" + _LINES + rb")\r\n")
_BEGINNING = re.compile(
    rb"[A-Z]{1,7}(?: /[!-\"$-~]*)?|" + _LINE + rb"(" + _LINES + rb"(?:" + _NAME + rb"(?::[^\r]*+)?)?)\r?"
)
_PRINTABLE = bytes(range(ord(" "), ord("~") + 1)) + b"\t"
# What a refusal needs to know, and what changes how the bytes behind the head are read.
_NOTED = re.compile(
    rb"\n(host|content-length|connection|transfer-encoding|trailer|expect|upgrade|http2-settings"
    rb"|x-request-id|origin|x-forwarded-for|forwarded):[\t ]*([^\r]*)",
    re.IGNORECASE,
)
_LEFT_TO_THE_PARSER = frozenset({"transfer-encoding", "trailer", "expect", "upgrade", "http2-settings"})


class PlainRequest(NamedTuple):
    """A request; of its headers only those that a refusal needs, by their names in lower case."""

    http_method: str
    target: str
    headers: Mapping[str, str]


def plain_request(data: bytes) -> PlainRequest | None:
    """The request, if these bytes are one whole plain request and nothing else."""
    head = _HEAD.match(data, 0, HEAD_BYTES_MAX)
    if head is None:
        return None
    http_method, target, lines = head.groups()
    if not _only_printable(lines):
        return None
    # From the end of the request line, so that each name is behind a line feed.
    noted = _NOTED.findall(data, head.start(3) - 1, head.end())
    headers = {name.decode().lower(): value.decode().rstrip() for name, value in noted}
    if len(headers) != len(noted) or "host" not in headers or not _LEFT_TO_THE_PARSER.isdisjoint(headers):
        return None
    if "connection" in headers and headers["connection"].lower() != "keep-alive":
        return None
    length = headers.get("content-length", "0")
    if len(length) > 7 or not length.isdigit() or len(data) != head.end() + int(length):
        return None
    return PlainRequest(http_method.decode(), target.decode(), headers)


def may_become_plain(data: bytes) -> bool:
    """Whether these bytes may be the beginning of a plain request whose head has no end yet."""
    if len(data) > HEAD_BYTES_MAX:
        return False
    beginning = _BEGINNING.fullmatch(data)
    return beginning is not None and _only_printable(beginning[3] or b"")


def _only_printable(lines: bytes) -> bool:
    """Whether header lines have only printable ASCII, tabs and their line ends, and are not too many."""
    rest = lines.translate(None, _PRINTABLE)
    return len(rest) <= 2 * HEADERS_MAX and not rest.replace(b"\r\n", b"")
