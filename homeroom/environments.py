"""The environment variables that each process is configured with, wherever they are kept."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from homeroom.data_directory import DataDirectory
from homeroom.embedded.postgres import SUPERUSER, Cluster
from homeroom.embedded.provisioning import ServiceDatabase, service_database
from homeroom.embedded.redis import Redis, find_binary
from homeroom.services import SERVICES, Address, Service, environment_of, import_path
from homeroom.state import StackState

PREFIX = "HOMEROOM_"
FILE_BYTES_MAX = 1024 * 1024
_LINE = re.compile(r"(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=\s*(?P<value>.*)")
_NOWHERE = Address(0, 0)


class NoConfigurationError(Exception):
    """No process is configured there; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Configured:
    """A process, and the environment that it is, or would be, started with."""

    service: Service
    environment: Mapping[str, str]


def of_stack(directory: DataDirectory, state: StackState | None) -> list[Configured]:
    """The processes of the stack on this folder, which runs as `state` says; None: it does not run.

    Nothing is written: a folder on which no stack was ever started raises NoConfigurationError.
    """
    names = [SUPERUSER, "service_token"] + [
        f"{service.database}_{kind}"
        for service in SERVICES
        if service.database
        for kind in ("service", "owner")
    ]
    secrets = directory.secrets()
    if not all(secrets.has(name) for name in names):
        raise NoConfigurationError(f"no stack was ever started on {directory.root}")
    cluster = Cluster(
        directory.postgres,
        password=secrets.get(SUPERUSER),
        run=directory.run,
        log=directory.log(SUPERUSER),
    )
    running = {process.name: process for process in state.processes} if state else {}
    addresses = {service.package: _NOWHERE for service in SERVICES}
    for name, process in running.items():
        if name in addresses and process.port and process.ops_port:
            addresses[name] = Address(process.port, process.ops_port)
    binary = find_binary() if "redis" in running else None
    redis = Redis(binary, run=directory.run, log=directory.log("redis")) if binary else None

    def database(service: Service) -> ServiceDatabase | None:
        if service.database is None:
            return None
        return service_database(cluster, secrets, database=service.database, service=service.database)

    return [
        Configured(
            service,
            environment_of(
                service,
                addresses=addresses,
                database=database(service),
                database_folder=directory.postgres,
                redis_url=redis.url if redis else None,
                service_token=secrets.get("service_token"),
                jwks=directory.keys / "jwks.json",
                additions={},
            ),
        )
        for service in SERVICES
    ]


def of_files(given: Sequence[str]) -> list[Configured]:
    """The processes with these files: `PROCESS=FILE`, or a FILE that is named after its process.

    The HOMEROOM_ variables around this command are left out. Raises NoConfigurationError.
    """
    ours = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    configured = []
    for each in given:
        name, equals, path = each.partition("=")
        if not equals:
            name, path = Path(each).name.partition(".")[0], each
        told = read_env_file(Path(path))
        configured.append(Configured(_service(name, each), ours | told | {"PYTHONPATH": import_path()}))
    return configured


def of_current(names: Sequence[str]) -> list[Configured]:
    """These processes with the environment of this command. Raises NoConfigurationError."""
    environment = {**os.environ, "PYTHONPATH": import_path()}
    return [Configured(_service(name, name), environment) for name in names]


def read_env_file(path: Path) -> dict[str, str]:
    """The variables of a file with a `NAME=value` on each line, as Docker reads it; quotes are removed.

    Raises NoConfigurationError.
    """
    try:
        with path.open(encoding="utf-8") as file:
            lines = file.read(FILE_BYTES_MAX).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise NoConfigurationError(f"{path} cannot be read: {why}") from error
    found = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _LINE.fullmatch(text)
        if match is None:
            raise NoConfigurationError(f"{path}: line {number} is not NAME=value")
        value = match["value"]
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        found[match["name"]] = value
    return found


def _service(name: str, given: str) -> Service:
    for service in SERVICES:
        if service.package == name:
            return service
    names = ", ".join(service.package for service in SERVICES)
    raise NoConfigurationError(f"{given}: {name!r} is none of {names}")
