"""The four processes: the environment of each, and how it is run."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import homeroom
from homeroom.data_directory import DataDirectory
from homeroom.embedded.process import Program, Spawned, end, end_leftover, holder, spawn, until
from homeroom.embedded.provisioning import ServiceDatabase
from homeroom.keys import AUDIENCE, ISSUER

_STOP_SECONDS_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Service:
    """A process of Homeroom: its package, its database (the gateway has none), and which ones it may call."""

    package: str
    database: str | None
    upstreams: tuple[str, ...]


SUBSCRIPTION = Service("subscription_service", "subscription", ())
PROGRESS = Service("progress_service", "progress", ("subscription_service",))
SESSION = Service("session_service", "session", ("subscription_service", "progress_service"))
GATEWAY = Service("gateway", None, ("session_service", "progress_service", "subscription_service"))

SERVICES = (SUBSCRIPTION, PROGRESS, SESSION, GATEWAY)
"""Each process comes after those that it calls; they are stopped in the opposite order."""


STORES: Mapping[str, Service] = {
    service.database: service for service in (SESSION, PROGRESS, SUBSCRIPTION) if service.database is not None
}
"""The services that have a database, by its name. Each comes before those that it calls."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a process listens on 127.0.0.1: for its callers, and for its operators."""

    port: int
    ops_port: int

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def ops_target(self) -> str:
        return f"127.0.0.1:{self.ops_port}"


def environment_of(
    service: Service,
    *,
    addresses: Mapping[str, Address],
    database: ServiceDatabase | None,
    redis_url: str | None,
    service_token: str,
    jwks: Path,
    additions: Mapping[str, str],
    database_folder: Path | None = None,
) -> dict[str, str]:
    """The environment of the service: our own, then what this stack decides, then `additions`."""
    own = addresses[service.package]
    told = {
        "PYTHONPATH": import_path(),
        "HOMEROOM_MODE": "development",
        "HOMEROOM_BIND": own.target,
        "HOMEROOM_OPS_BIND": own.ops_target,
        "HOMEROOM_SERVICE_TOKEN": service_token,
        "HOMEROOM_REDIS_URL": redis_url or "",
    }
    for upstream in service.upstreams:
        told[f"HOMEROOM_{upstream.removesuffix('_service').upper()}_TARGET"] = addresses[upstream].target
    if database is None:
        told |= {
            "HOMEROOM_JWKS": str(jwks),
            "HOMEROOM_JWT_ISSUER": ISSUER,
            "HOMEROOM_JWT_AUDIENCE": AUDIENCE,
            # On the developer's own machine the caller decides which requests are traced.
            "HOMEROOM_TRACE_TRUSTED_NETWORKS": "127.0.0.0/8",
            "HOMEROOM_DRAIN_SECONDS": "0",  # there is no load balancer to wait for
        }
    else:
        told |= {
            "HOMEROOM_DATABASE_URL": database.service,
            "HOMEROOM_MIGRATION_DATABASE_URL": database.owner,
            "HOMEROOM_DATABASE_FOLDER": "" if database_folder is None else str(database_folder),
        }
    told |= additions
    # A secret must not be given twice: as a value by us, and as a file by the environment around us.
    overruled = {f"{name}_FILE" for name in told}
    return {name: value for name, value in os.environ.items() if name not in overruled} | told


def import_path() -> str:
    """Where the children find the packages beside this one, even if nothing is installed."""
    source = str(Path(homeroom.__file__).resolve().parent.parent)
    return os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))


class ServiceProcess(Spawned):
    """One service as a child process, which can be started, ended and started again."""

    def __init__(
        self, service: Service, *, address: Address, environment: Mapping[str, str], data: DataDirectory
    ) -> None:
        self.name = service.package
        self.address = address
        self.log = data.log(service.package)
        self._program = Program(
            name=service.package,
            command=module_command(service.package),
            environment=environment,
            log=self.log,
            lock=data.lock(service.package),
        )
        self._hold = data.hold(service.package)

    async def start(self) -> None:
        """Start the process; it is ready later. First end what an earlier, killed supervisor left behind.

        While a command has the process on hold, because it replaces its database, this waits.
        """
        await until(lambda: holder(self._hold) is None, seconds_max=math.inf)
        await end_leftover(self._program.lock, self._program.stop_signal, grace_seconds=_STOP_SECONDS_MAX)
        self._process = await spawn(self._program)

    async def stop(self) -> None:
        if self._process is not None:
            await end(self._process, self._program.stop_signal, grace_seconds=_STOP_SECONDS_MAX)


def module_command(package: str) -> list[str]:
    return [sys.executable, "-P", "-m", package]  # -P: the working folder must not shadow a package
