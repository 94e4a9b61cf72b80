"""The embedded Redis answers on a closed socket, keeps nothing, and is started again after a crash."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio

from homeroom.embedded.redis import Redis, find_binary

pytestmark = pytest.mark.skipif(find_binary() is None, reason="no Redis binary on this machine")


def redis_in(folder: Path) -> Redis:
    binary = find_binary()
    assert binary is not None
    return Redis(binary, run=folder / "run", log=folder / "redis.log")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Redis]:
    server = redis_in(tmp_path)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


async def keys(server: Redis) -> int:
    client = redis.asyncio.from_url(server.url)
    try:
        return await client.dbsize()
    finally:
        await client.aclose()


async def write_a_key(server: Redis) -> None:
    client = redis.asyncio.from_url(server.url)
    try:
        await client.set("kept", "no")
    finally:
        await client.aclose()


async def test_it_answers_at_its_url(server: Redis) -> None:
    await write_a_key(server)
    assert await keys(server) == 1


async def test_only_its_owner_may_connect(server: Redis) -> None:
    socket = Path(server.url.removeprefix("unix://"))
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700


async def test_it_keeps_nothing_over_a_restart(server: Redis) -> None:
    await write_a_key(server)
    await server.stop()
    await server.start()
    assert await keys(server) == 0


async def test_it_starts_again_after_a_crash(server: Redis) -> None:
    pid = server.pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    assert await server.wait() == -signal.SIGKILL
    await server.start()
    assert await keys(server) == 0


async def test_nothing_outside_its_folder_is_left_after_a_stop(server: Redis) -> None:
    await server.stop()
    assert not Path(server.url.removeprefix("unix://")).parent.exists()


async def test_a_program_that_is_no_redis_is_refused_with_its_log(tmp_path: Path) -> None:
    impostor = Redis(Path("/bin/echo"), run=tmp_path / "run", log=tmp_path / "redis.log")
    with pytest.raises(RuntimeError, match=r"does not start(.|\n)*--unixsocket"):
        await impostor.start()


def test_a_machine_without_redis_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_binary() is None


def test_a_server_on_the_path_will_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "valkey-server").touch(mode=0o755)
    assert find_binary() == tmp_path / "valkey-server"
