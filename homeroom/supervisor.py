"""A whole stack on one machine: databases, cache and the four processes, started, kept running, stopped."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from homeroom import ops_pages, probe, schema, state
from homeroom.data_directory import DataDirectory
from homeroom.embedded.clusters import cluster_of
from homeroom.embedded.postgres import SETTINGS, Cluster
from homeroom.embedded.provisioning import ServiceDatabase, provision
from homeroom.embedded.redis import Redis, find_binary
from homeroom.keys import DevelopmentKeys
from homeroom.ports import free_ports, is_free
from homeroom.secrets_file import SecretsFile
from homeroom.services import GATEWAY, SERVICES, Address, Service, ServiceProcess, environment_of
from homeroom.watch import Child, Watch

READY_SECONDS_MAX = 60.0
_DEATHS_BEFORE_READY_MAX = 3
_POLL_SECONDS_FIRST, _POLL_SECONDS_MAX = 0.02, 0.1


class StackError(RuntimeError):
    """The stack cannot do what was asked; the message says why and what to do."""


class Stack:
    """Everything `homeroom up` runs, as an asynchronous context: ready inside, nothing left running after.

    data_dir: its folder; None makes a temporary one, and the stack is ephemeral.
    port: the gateway's public port; 0 takes a free one. All other ports are free ones.
    ephemeral: delete the data at the end; refused for a folder that is not empty.
    redis: run a Redis if a binary can be found.
    env: additions to the environment of the four processes.
    say: receives each line about what happens.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        port: int = 0,
        ephemeral: bool = False,
        redis: bool = True,
        env: Mapping[str, str] | None = None,
        postgres_settings: Mapping[str, str] = SETTINGS,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._ephemeral = ephemeral or data_dir is None
        if data_dir is None:
            data_dir = Path(tempfile.mkdtemp(prefix="homeroom-"))
        elif ephemeral and data_dir.exists() and any(data_dir.iterdir()):
            raise StackError(f"{data_dir} already holds something, and an ephemeral stack deletes its folder")
        self.data = DataDirectory(data_dir.resolve())
        self._port = port
        self._wants_redis = redis
        self._env = dict(env or {})
        self._postgres_settings = postgres_settings
        self._say = say
        self._lock = ExitStack()
        self._ready = False
        self._services: dict[str, ServiceProcess] = {}
        self._watches: dict[str, Watch] = {}
        self._keys: DevelopmentKeys
        self._secrets: SecretsFile
        self._cluster: Cluster
        self._redis: Redis | None = None

    @property
    def data_dir(self) -> Path:
        return self.data.root

    @property
    def gateway_url(self) -> str:
        return f"http://{self.address(GATEWAY.package).target}"

    @property
    def redis_url(self) -> str | None:
        """None if the stack runs without Redis."""
        return self._redis.url if self._redis else None

    def address(self, name: str) -> Address:
        """Where a process listens; its restarts change nothing about it."""
        return self._services[name].address

    def token(self, user: str, roles: Iterable[str] = ("learner",), *, ttl_seconds: int = 3600) -> str:
        """A bearer token that this stack accepts."""
        return self._keys.token(user, roles, ttl_seconds=ttl_seconds)

    def dsn(self, database: str) -> str:
        """The superuser's address of the database `session`, `subscription` or `progress`, for checks."""
        return self._cluster.dsn(database)

    def pid(self, name: str) -> int | None:
        """The process's pid; None between its death and its next start."""
        return self._watches[name].child.pid

    def restarts(self, name: str) -> int:
        """How often the process was started again after it had died."""
        return self._watches[name].restarts

    async def kill(self, name: str) -> int:
        """SIGKILL a process, as an accident would; the supervisor starts it again. Return the old pid."""
        return await self._end(name, signal.SIGKILL)

    async def terminate(self, name: str) -> int:
        """SIGTERM a process, as an operator would; the supervisor starts it again. Return the old pid.

        Returns when the process has ended: it answers what is under way first.
        """
        return await self._end(name, signal.SIGTERM)

    async def _end(self, name: str, told: signal.Signals) -> int:
        child = self._watches[name].child
        pid = child.pid
        if pid is None:
            raise StackError(f"{name} does not run at the moment")
        os.kill(pid, told)
        await child.wait()
        return pid

    def hurry(self) -> None:
        """While the stack stops: kill the four processes. The databases still stop in order."""
        for name in self._services:
            if pid := self.pid(name):
                os.kill(pid, signal.SIGKILL)

    async def restart_postgres(self, *, immediately: bool = False) -> None:
        """Stop PostgreSQL and start it again. `immediately` makes it a crash, from which it recovers."""
        await self._watches["postgres"].restart(lambda: self._cluster.stop(immediately=immediately))

    async def wait_ready(self, *, seconds_max: float = READY_SECONDS_MAX) -> None:
        """Return when every process is ready and reaches those it calls; StackError with its log if not."""
        deadline = time.monotonic() + seconds_max
        await together(*(self._wait_ready(name, deadline) for name in self._services))

    async def internal_errors(self) -> dict[str, int]:
        """How many calls each living process has failed with a 500, since it started; see `ops_pages`."""
        return await ops_pages.internal_errors(
            {name: service.address.ops_port for name, service in self._services.items()}
        )

    async def __aenter__(self) -> Self:
        """Raises AlreadyRunningError, StackError, or a RuntimeError of the part that cannot start."""
        self._lock.enter_context(self.data.held())
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stop()

    async def _start(self) -> None:
        addresses = self._choose_addresses()
        self._keys = DevelopmentKeys(self.data.keys)
        self._secrets = self.data.secrets()
        await together(self._start_postgres(), self._start_redis())
        await together(*(self._start_service(service, addresses) for service in SERVICES))
        await self.wait_ready()
        self._ready = True
        self._write_state()

    async def _stop(self) -> None:
        """Each process ends before those that it calls; the databases end last."""
        self._ready = False
        for watch in self._watches.values():
            await watch.let_go()
        for name in (*(service.package for service in reversed(SERVICES)), "redis", "postgres"):
            if name in self._watches:
                await self._watches[name].stop()
        self.data.state.unlink(missing_ok=True)
        if self._ephemeral:
            shutil.rmtree(self.data.root, ignore_errors=True)
        self._lock.close()

    def _choose_addresses(self) -> dict[str, Address]:
        if self._port and not is_free(self._port):
            raise StackError(f"port {self._port} is taken by another program: choose another with --port")
        ports = iter(free_ports(2 * len(SERVICES)))
        addresses = {service.package: Address(next(ports), next(ports)) for service in SERVICES}
        if self._port:
            addresses[GATEWAY.package] = Address(self._port, addresses[GATEWAY.package].ops_port)
        return addresses

    async def _start_postgres(self) -> None:
        self._cluster = cluster_of(self.data, self._secrets, settings=self._postgres_settings)
        await self._watch(self._cluster)
        if self._cluster.opened:
            self._say(_opened_way(self._cluster.opened, self._cluster.user))
        self._say("PostgreSQL is ready")

    async def _start_redis(self) -> None:
        binary = find_binary() if self._wants_redis else None
        if binary is None:
            self._say("no Redis: none was found" if self._wants_redis else "no Redis: not asked for")
            return
        self._redis = Redis(binary, run=self.data.run, log=self.data.log("redis"))
        await self._watch(self._redis)
        self._say("Redis is ready")

    async def _start_service(self, service: Service, addresses: Mapping[str, Address]) -> None:
        database = await self._provision(service)
        environment = environment_of(
            service,
            addresses=addresses,
            database=database,
            redis_url=self.redis_url,
            service_token=self._secrets.get("service_token"),
            jwks=self._keys.jwks,
            database_folder=self.data.postgres,
            additions=self._env,
        )
        if database is not None and not await schema.is_current(service, database.owner):
            self._say(f"migrating the database of {service.package}")
            await schema.migrate(service, environment=environment, log=self.data.log(f"{service.package}"))
        process = ServiceProcess(
            service, address=addresses[service.package], environment=environment, data=self.data
        )
        self._services[service.package] = process
        await self._watch(process)

    async def _provision(self, service: Service) -> ServiceDatabase | None:
        if service.database is None:
            return None
        return await provision(self._cluster, self._secrets, service.database)

    async def _watch(self, child: Child) -> None:
        watch = Watch(child, on_change=self._write_state, say=self._say)
        self._watches[child.name] = watch
        await watch.start()

    async def _wait_ready(self, name: str, deadline: float) -> None:
        address = self.address(name)
        # The gateway is ready when its public port is; the other processes say so on their operations port.
        port = address.port if name == GATEWAY.package else address.ops_port
        pause = _POLL_SECONDS_FIRST
        while True:
            answer = await probe.get(port, "/readyz")
            if answer is not None and answer.status == 200 and ops_pages.all_well(answer.body):
                return
            if not self._ready and self._watches[name].deaths_in_a_row >= _DEATHS_BEFORE_READY_MAX:
                raise StackError(f"{name} dies again and again:\n{self._end_of_log(name)}")
            if time.monotonic() > deadline:
                said = answer.body.decode(errors="replace") if answer else "nothing"
                raise StackError(f"{name} is not ready; it says {said}\n{self._end_of_log(name)}")
            await asyncio.sleep(pause)
            pause = min(_POLL_SECONDS_MAX, pause * 1.2)

    def _end_of_log(self, name: str) -> str:
        lines = self.data.log(name).read_text(errors="replace").splitlines()[-15:]
        return "\n".join([*lines, f"(the end of {self.data.log(name)})"])

    def _write_state(self) -> None:
        now = state.StackState(
            supervisor_pid=os.getpid(),
            gateway_url=self.gateway_url if GATEWAY.package in self._services else "",
            ready=self._ready,
            processes=tuple(self._process_state(name, watch) for name, watch in self._watches.items()),
        )
        try:
            state.write(self.data.state, now)
        except OSError as error:  # a full disk must not end the supervision
            self._say(f"the state file cannot be written: {error}")

    def _process_state(self, name: str, watch: Watch) -> state.ProcessState:
        address = self._services[name].address if name in self._services else None
        return state.ProcessState(
            name=name,
            pid=watch.child.pid,
            port=address.port if address else None,
            ops_port=address.ops_port if address else None,
            started_at=watch.started_at.isoformat() if watch.started_at else None,
            restarts=watch.restarts,
        )


async def together(*parts: Coroutine[None, None, None]) -> None:
    """Run all parts at once; the first failure ends the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _opened_way(folders: Iterable[Path], user: str) -> str:
    """Tells root what was changed so that PostgreSQL, as another user, reaches its files."""
    names = ", ".join(map(str, folders))
    return (
        f"PostgreSQL refuses to run as root, so it runs as another system user ({user}). So that this user "
        f"reaches its files, all users may now pass through {names} (chmod o+x), but not list what is in it. "
        "You need not do anything."
    )
