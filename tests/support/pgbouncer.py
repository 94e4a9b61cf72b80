"""Debian's pgbouncer in transaction mode, in front of a PostgreSQL cluster of the tests."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from socket import create_server
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

PLACES = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin"
SERVER_CONNECTIONS_MAX = 4
SECONDS_MAX = 20.0


@asynccontextmanager
async def pgbouncer(*dsns: str, pool_size: int = SERVER_CONNECTIONS_MAX) -> AsyncIterator[list[str]]:
    """The same databases, behind a pgbouncer that gives a server connection for one transaction at a time.

    Skips the test when pgbouncer is not installed. It refuses to run as root; root starts it as the user of
    the cluster, because only that user may enter the folder of the socket.
    """
    binary = shutil.which("pgbouncer", path=PLACES)
    if binary is None:
        pytest.skip("no pgbouncer: install Debian's package to run this test")
    folder = Path(tempfile.mkdtemp(prefix="homeroom-pgbouncer-"))
    port = _free_port()
    (folder / "users.txt").write_text("".join(f'"{_user(dsn)}" "{_password(dsn)}"\n' for dsn in dsns))
    (folder / "pgbouncer.ini").write_text(
        "[databases]\n"
        + "".join(f"{_name(dsn)} = {_upstream(dsn)}\n" for dsn in dsns)
        + "\n".join(
            (
                "[pgbouncer]",
                "listen_addr = 127.0.0.1",
                f"listen_port = {port}",
                "unix_socket_dir =",
                "auth_type = scram-sha-256",
                f"auth_file = {folder}/users.txt",
                "pool_mode = transaction",
                f"default_pool_size = {pool_size}",
                "max_client_conn = 1000",
                "server_login_retry = 1",  # a server that was away is tried again after so many seconds
                f"logfile = {folder}/log",
                "",
            )
        )
    )
    owner = _socket_directory(dsns[0]).stat()
    if os.getuid() == 0:
        for path in (folder, *folder.iterdir()):
            os.chown(path, owner.st_uid, owner.st_gid)
    child = await asyncio.create_subprocess_exec(
        binary,
        str(folder / "pgbouncer.ini"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        user=owner.st_uid if os.getuid() == 0 else None,
        group=owner.st_gid if os.getuid() == 0 else None,
    )
    try:
        await _until_open(port, child, folder / "log")
        yield [_through(dsn, port) for dsn in dsns]
    finally:
        if child.returncode is None:
            child.kill()  # it does not catch SIGQUIT, and a shell's background jobs ignore that
        await child.wait()
        shutil.rmtree(folder)


async def _until_open(port: int, child: asyncio.subprocess.Process, log: Path) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while True:
            assert child.returncode is None, log.read_text() if log.exists() else "pgbouncer has ended"
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
                continue
            writer.close()
            await writer.wait_closed()
            return


def _free_port() -> int:
    with closing(create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


def _upstream(dsn: str) -> str:
    """Where pgbouncer finds the database, in its own words."""
    query = parse_qs(urlsplit(dsn).query)
    return f"host={query['host'][0]} port={query['port'][0]} dbname={_name(dsn)}"


def _socket_directory(dsn: str) -> Path:
    return Path(parse_qs(urlsplit(dsn).query)["host"][0])


def _through(dsn: str, port: int) -> str:
    credentials = urlsplit(dsn).netloc.rpartition("@")[0]
    return f"postgresql://{credentials}@127.0.0.1:{port}/{_name(dsn)}"


def _name(dsn: str) -> str:
    return unquote(urlsplit(dsn).path.lstrip("/"))


def _user(dsn: str) -> str:
    return unquote(urlsplit(dsn).username or "")


def _password(dsn: str) -> str:
    return unquote(urlsplit(dsn).password or "")
