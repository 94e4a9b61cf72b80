"""The body of a request: JSON of at most one mebibyte, here before the request's time is over."""

from __future__ import annotations

import asyncio

from aiohttp import StreamReader, web

from chassis.errors import Reason, ServiceError
from gateway.request_headers import check_content_encoding, check_content_type

BODY_BYTES_MAX = 1024 * 1024


async def read_body(request: web.BaseRequest, *, timeout_seconds: float) -> bytes:
    """Reads it whole; empty when there is none.

    Raises:
        ServiceError: PAYLOAD_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE, or INVALID_ARGUMENT for a body that is
            broken, or not here in time.
        ConnectionError: the client left.
    """
    payload = request.content
    try:
        if payload.is_eof():  # as nearly always: a small body comes together with its headers
            body = payload.read_nowait()
        else:
            body = await _read_slowly(request, payload, timeout_seconds)
    except (web.RequestPayloadError, ValueError) as error:
        raise ServiceError(Reason.INVALID_ARGUMENT, "The body is not as its headers announce it") from error
    if body:
        if len(body) > BODY_BYTES_MAX:
            raise _too_large()
        headers = request.headers
        check_content_type(headers.get("Content-Type"))
        check_content_encoding(headers.get("Content-Encoding"))
    return body


async def _read_slowly(request: web.BaseRequest, payload: StreamReader, timeout_seconds: float) -> bytes:
    if (request.content_length or 0) > BODY_BYTES_MAX:
        raise _too_large()
    chunks = bytearray()
    try:
        async with asyncio.timeout(timeout_seconds):
            if request.headers.get("Expect", "").lower() == "100-continue":
                await _say_continue(request)
            while chunk := await payload.readany():
                chunks += chunk
                if len(chunks) > BODY_BYTES_MAX:
                    raise _too_large()
    except TimeoutError:
        raise ServiceError(
            Reason.INVALID_ARGUMENT, f"The body did not arrive within {timeout_seconds:g} s"
        ) from None
    return bytes(chunks)


async def _say_continue(request: web.BaseRequest) -> None:
    writer = request.writer
    await writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    writer.output_size = 0  # else the answer would count as sent already


def _too_large() -> ServiceError:
    return ServiceError(Reason.PAYLOAD_TOO_LARGE, f"The body must be at most {BODY_BYTES_MAX} bytes")
