"""The embedded PostgreSQL: durable, closed to other users, and able to start after any kind of end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from homeroom.embedded.postgres import Cluster, find_binaries
from homeroom.embedded.process import Owner, holder, until
from homeroom.embedded.sockets import claim
from homeroom.embedded.system_user import database_owner
from homeroom.ports import free_ports

PASSWORD = "a password of this test"


def cluster_in(folder: Path, *, tcp_port: int | None = None) -> Cluster:
    return Cluster(
        folder / "postgres",
        password=PASSWORD,
        run=folder / "run",
        log=folder / "postgres.log",
        tcp_port=tcp_port,
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's own: it closes its folders to others at every start, also to PostgreSQL's user."""
    folder = Path(tempfile.mkdtemp(prefix="homeroom-tests-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    cluster = cluster_in(folder)
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop(immediately=True)


START_AND_STOP = """
import asyncio, sys
from pathlib import Path
from homeroom.embedded.postgres import Cluster
folder = Path(sys.argv[1])
async def main():
    cluster = Cluster(folder / "postgres", password="p", run=folder / "run", log=folder / "postgres.log")
    await cluster.start()
    await cluster.stop()
    print("served")
asyncio.run(main())
"""


NO_FORK = """
import ctypes
libc = ctypes.CDLL(None)
libc.__register_atfork(None, None, libc.abort, None)  # what gRPC does in a forked child may end like this
"""


async def start_as(user: Owner, code: str, *arguments: str) -> asyncio.subprocess.Process:
    """Run Python code as another user, with an interpreter that this user may run."""
    for interpreter in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        try:
            return await asyncio.create_subprocess_exec(
                *(interpreter, "-c", code, *arguments),
                stdout=asyncio.subprocess.PIPE,
                env={"PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path]), "PATH": os.defpath},
                user=user.uid,
                group=user.gid,
                extra_groups=[],
            )
        except (PermissionError, FileNotFoundError):
            continue
    pytest.skip(f"{user.name} may not run any Python {sys.version_info.major}.{sys.version_info.minor} here")


async def value(cluster: Cluster, sql: str) -> object:
    connection = await asyncpg.connect(cluster.dsn("postgres"))
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def write_a_row(cluster: Cluster) -> None:
    connection = await asyncpg.connect(cluster.dsn("postgres"))
    try:
        await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    finally:
        await connection.close()


async def test_it_is_postgresql_18_and_durable(cluster: Cluster) -> None:
    assert str(await value(cluster, "SHOW server_version")).startswith("18.")
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert await value(cluster, f"SHOW {setting}") == "on"
    assert await value(cluster, "SHOW data_checksums") == "on"
    assert await value(cluster, "SHOW timezone") == "UTC"


async def test_it_never_runs_as_root(cluster: Cluster, folder: Path) -> None:
    owner = database_owner(folder / "postgres")
    expected = owner.uid if owner else os.geteuid()
    assert expected != 0
    assert (cluster.socket_directory / ".s.PGSQL.5432").stat().st_uid == expected


async def test_nobody_enters_without_the_password(cluster: Cluster) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(cluster.dsn("postgres", password="wrong"))


async def test_its_socket_folder_is_closed_to_others(cluster: Cluster) -> None:
    assert stat.S_IMODE(cluster.socket_directory.stat().st_mode) == 0o700


async def test_it_listens_on_tcp_only_when_asked_and_with_a_password(folder: Path) -> None:
    (port,) = free_ports(1)
    cluster = cluster_in(folder, tcp_port=port)
    try:
        await cluster.start()
        connection = await asyncpg.connect(cluster.tcp_dsn("postgres"))
        assert await connection.fetchval("SHOW listen_addresses") == "127.0.0.1"
        await connection.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(cluster.tcp_dsn("postgres", password="wrong"))
    finally:
        await cluster.stop(immediately=True)
    with pytest.raises(RuntimeError, match="Unix socket only"):
        cluster_in(folder).tcp_dsn("postgres")


async def test_rows_survive_a_clean_restart(cluster: Cluster) -> None:
    await write_a_row(cluster)
    await cluster.restart()
    assert await value(cluster, "SELECT answer FROM kept") == 42


async def test_rows_survive_a_crash_of_the_server(cluster: Cluster) -> None:
    await write_a_row(cluster)
    pid = cluster.pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    assert await cluster.wait() == -signal.SIGKILL
    await cluster.start()
    assert await value(cluster, "SELECT answer FROM kept") == 42


async def test_nothing_outside_the_data_folder_is_left_after_a_stop(cluster: Cluster, folder: Path) -> None:
    await cluster.stop()
    assert not cluster.socket_directory.exists()
    assert holder(folder / "run" / "postgres.lock") is None


async def test_a_first_start_that_was_killed_leaves_no_half_cluster(folder: Path) -> None:
    draft = folder / "postgres.new"
    draft.mkdir()
    (draft / "PG_VERSION").write_text("18\n")
    cluster = cluster_in(folder)
    try:
        await cluster.start()
        assert await value(cluster, "SELECT 1") == 1
        assert not draft.exists()
    finally:
        await cluster.stop(immediately=True)


async def test_a_stale_pid_file_that_names_another_program_does_not_stop_it(folder: Path) -> None:
    cluster = cluster_in(folder)
    try:
        await cluster.start()
        await cluster.stop()
        (folder / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n{folder}/postgres\n1\n5432\n")
        await cluster.start()
        assert await value(cluster, "SELECT 1") == 1
    finally:
        await cluster.stop(immediately=True)


@pytest.mark.skipif(sys.platform != "linux", reason="registers a handler of glibc")
async def test_it_starts_in_a_process_in_which_forked_children_crash(folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", NO_FORK + START_AND_STOP, str(folder)), stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await asyncio.wait_for(process.communicate(), 120)
    assert printed == b"served\n"


async def test_a_first_start_that_is_cancelled_leaves_nothing_that_writes(folder: Path) -> None:
    cluster = cluster_in(folder)
    lock = folder / "run" / "postgres.lock"
    starting = asyncio.create_task(cluster.start())
    assert await until((folder / "postgres.new" / "base").exists, seconds_max=60)
    starting.cancel()
    await asyncio.wait({starting})
    assert starting.cancelled()
    assert holder(lock) is None
    try:
        await cluster.start()
        assert await value(cluster, "SELECT 1") == 1
    finally:
        await cluster.stop(immediately=True)


async def test_a_server_started_by_hand_on_the_folder_is_ended_first(folder: Path) -> None:
    cluster = cluster_in(folder)
    owner = database_owner(folder / "postgres")
    try:
        await cluster.start()
        await cluster.stop()
        claim(cluster.socket_directory, owner)
        stray = await asyncio.create_subprocess_exec(
            *(find_binaries() / "postgres", "-D", folder / "postgres", "--listen_addresses="),
            f"--unix_socket_directories={cluster.socket_directory}",
            stderr=asyncio.subprocess.DEVNULL,
            user=owner.uid if owner else None,
            group=owner.gid if owner else None,
            extra_groups=[] if owner else None,
            cwd="/",
        )
        pid_file = folder / "postgres" / "postmaster.pid"
        assert await until(lambda: pid_file.exists() and "ready" in pid_file.read_text(), seconds_max=60)

        await cluster.start()

        assert await asyncio.wait_for(stray.wait(), 30) == 0
        assert cluster.pid != stray.pid
        assert await value(cluster, "SELECT 1") == 1
    finally:
        await cluster.stop(immediately=True)


async def test_it_says_why_it_cannot_start(folder: Path) -> None:
    cluster = Cluster(
        folder / "postgres",
        password=PASSWORD,
        run=folder / "run",
        log=folder / "postgres.log",
        settings={"shared_buffers": "nonsense"},
    )
    with pytest.raises(RuntimeError, match=r"ended with code 1(.|\n)*shared_buffers"):
        await cluster.start()
    await cluster.stop()


async def test_it_refuses_a_socket_folder_that_is_somebody_elses(folder: Path) -> None:
    cluster = cluster_in(folder)
    cluster.socket_directory.symlink_to(folder)
    try:
        with pytest.raises(RuntimeError, match="belongs to another user"):
            await cluster.start()
    finally:
        cluster.socket_directory.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to lend PostgreSQL another user")
async def test_root_may_start_it_below_a_folder_closed_to_others(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    cluster = cluster_in(closed / "data")
    try:
        await cluster.start()
        assert await value(cluster, "SELECT 1") == 1
        assert stat.S_IMODE(closed.stat().st_mode) == 0o701
        assert closed in cluster.opened
        assert stat.S_IMODE((closed / "data" / "postgres").stat().st_mode) == 0o700
    finally:
        await cluster.stop(immediately=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start another user's data")
async def test_data_stays_with_the_user_it_belongs_to(folder: Path) -> None:
    cluster = cluster_in(folder)
    try:
        await cluster.start()
        await write_a_row(cluster)
        await cluster.stop()
        for path in (folder / "postgres", *(folder / "postgres").rglob("*")):
            os.chown(path, 12345, 12345)
        cluster = cluster_in(folder)
        await cluster.start()
        assert await value(cluster, "SELECT answer FROM kept") == 42
        assert (folder / "postgres" / "postmaster.pid").stat().st_uid == 12345
    finally:
        await cluster.stop(immediately=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
async def test_a_normal_user_may_start_it(folder: Path) -> None:
    user = database_owner(folder / "postgres")
    assert user is not None
    theirs = folder / "theirs"
    theirs.mkdir()
    os.chown(theirs, user.uid, user.gid)
    folder.chmod(0o711)
    process = await start_as(user, START_AND_STOP, str(theirs))
    output, _ = await asyncio.wait_for(process.communicate(), 120)
    assert output == b"served\n"
    assert (theirs / "postgres" / "PG_VERSION").stat().st_uid == user.uid
