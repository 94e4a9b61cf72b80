"""One small GET to an HTTP listener of a local process, without the cost of an HTTP library."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

_ANSWER_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes


async def get(port: int, path: str, *, seconds_max: float = 2.0) -> Answer | None:
    """What 127.0.0.1:port answers; None if there is no answer in time, or one that is not HTTP."""
    try:
        async with asyncio.timeout(seconds_max):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                # HTTP/1.0: the server sends no chunks, and closes the connection
                writer.write(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
                raw = await reader.read(_ANSWER_BYTES_MAX)
                while more := await reader.read(_ANSWER_BYTES_MAX - len(raw)):
                    raw += more
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError):
        return None
    head, _, body = raw.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[1].isdigit():
        return None
    return Answer(status=int(words[1]), body=body)
