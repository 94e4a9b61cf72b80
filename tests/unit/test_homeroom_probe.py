"""A probe reads one answer, and takes anything else for none, in bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from homeroom import probe
from homeroom.ports import free_ports


@asynccontextmanager
async def listener(answer: bytes, *, silent: bool = False) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Something that answers every request with these bytes, or never."""
    heard: list[bytes] = []
    released = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        if silent:
            await released.wait()
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], heard
    finally:
        released.set()
        server.close()
        await server.wait_closed()


async def test_it_reads_the_status_and_the_body() -> None:
    async with listener(b"HTTP/1.0 503 Busy\r\nServer: x\r\n\r\n" + b"not yet" * 20_000) as (port, heard):
        answer = await probe.get(port, "/readyz")
    assert answer == probe.Answer(status=503, body=b"not yet" * 20_000)
    assert heard[0].startswith(b"GET /readyz HTTP/1.0\r\n")


@pytest.mark.parametrize("nonsense", [b"", b"\r\n\r\n", b"SSH-2.0-OpenSSH", b"HTTP/1.1 fine OK\r\n\r\n"])
async def test_nonsense_is_no_answer(nonsense: bytes) -> None:
    async with listener(nonsense) as (port, _):
        assert await probe.get(port, "/") is None


async def test_silence_is_no_answer() -> None:
    async with listener(b"", silent=True) as (port, _):
        assert await probe.get(port, "/", seconds_max=0.05) is None


async def test_nobody_there_is_no_answer() -> None:
    (port,) = free_ports(1)
    assert await probe.get(port, "/") is None
