"""Reads the body of a request: JSON, within the size of its method and within a time limit."""

from __future__ import annotations

import asyncio

from aiohttp import web

from chassis.errors import Reason, ServiceError
from chassis.rpc.methods import Method
from gateway.admission import Admission, Body
from gateway.request_headers import (
    CONTENT_ENCODING,
    CONTENT_TYPE,
    check_content_encoding,
    check_content_type,
)

BODY_SECONDS_MAX = 10.0


class BodyReader:
    """Reads bodies. Each has a time limit, and all of them together have a size limit.

    Args:
        seconds_max: how long a body may take, even if its request has more time.
    """

    def __init__(self, *, admission: Admission, seconds_max: float = BODY_SECONDS_MAX) -> None:
        self._admission = admission
        self._seconds_max = seconds_max

    async def read(
        self,
        request: web.BaseRequest,
        method: Method,
        *,
        owner: str,
        timeout_seconds: float,
    ) -> bytes:
        """The whole body of a call of this method; empty when there is none.

        While it arrives it counts for its owner: a learner, or an address. If it may hold a token, the JSON
        may have the type text/plain.

        Raises:
            ServiceError: PAYLOAD_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE, RATE_LIMITED, OVERLOADED, or
                INVALID_ARGUMENT for a body that is broken or does not arrive in time.
            ConnectionError: the client left.
        """
        payload, size_max = request.content, method.body_bytes_max
        try:
            if payload.is_eof():  # most bodies are small, and arrive together with their headers
                body = payload.read_nowait()
                if len(body) > size_max:
                    raise _too_large(size_max)
            else:
                with self._admission.receiving(owner) as received:
                    body = await _receive(
                        request, received, size_max, min(timeout_seconds, self._seconds_max)
                    )
        except (web.RequestPayloadError, ValueError) as error:
            raise ServiceError(
                Reason.INVALID_ARGUMENT, "The body does not match its Content-Length or Transfer-Encoding"
            ) from error
        if body:
            headers = request.headers
            check_content_type(headers.get(CONTENT_TYPE), text_allowed=bool(method.token_in_body))
            check_content_encoding(headers.get(CONTENT_ENCODING))
        return body


async def _receive(request: web.BaseRequest, received: Body, size_max: int, timeout_seconds: float) -> bytes:
    if (request.content_length or 0) > size_max:
        raise _too_large(size_max)
    chunks = bytearray()
    timer = asyncio.timeout(timeout_seconds)
    try:
        async with timer:
            if request.headers.get("Expect", "").lower() == "100-continue":
                await _say_continue(request)
            while chunk := await _next_chunk(request):
                received.grow(len(chunk))
                chunks += chunk
                if len(chunks) > size_max:
                    raise _too_large(size_max)
    except OSError as error:
        if timer.expired():
            raise ServiceError(
                Reason.INVALID_ARGUMENT, f"The body did not arrive within {timeout_seconds:g} s"
            ) from None
        raise ConnectionResetError("The client left") from error
    return bytes(chunks)


async def _next_chunk(request: web.BaseRequest) -> bytes:
    if request.transport is None:  # aiohttp would raise RuntimeError
        raise ConnectionResetError("The client left")
    return await request.content.readany()


async def _say_continue(request: web.BaseRequest) -> None:
    writer = request.writer
    await writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    writer.output_size = 0  # otherwise the answer would count as sent already


def _too_large(size_max: int) -> ServiceError:
    return ServiceError(Reason.PAYLOAD_TOO_LARGE, f"The body must be at most {size_max} bytes")
