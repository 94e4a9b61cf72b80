"""The machine of a result, so that another person can judge or repeat it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import msgspec

from bench.systems.tables import connected

PACKAGES = (
    "aiohttp", "asyncpg", "cryptography", "fastapi", "grpcio", "httptools", "joserfc", "msgspec", "orjson",
    "protobuf", "protovalidate", "pydantic", "sqlalchemy", "uvicorn", "uvloop",
)  # fmt: skip
ROOT = Path(__file__).parents[1]


class Machine(msgspec.Struct, frozen=True):
    """Hardware and versions; `commit` ends in "+" when files were changed since."""

    cpu: str
    cores: int
    memory_mib: int
    system: str
    python: str
    postgres: str
    wrk: str
    commit: str
    packages: Mapping[str, str]
    postgres_settings: Mapping[str, str]

    @property
    def slug(self) -> str:
        """The machine as a part of a file's name."""
        words = re.sub(r"[^a-z0-9]+", "-", self.cpu.lower()).strip("-")
        return f"{words}-{self.cores}-cores"


async def describe_machine(dsn: str) -> Machine:
    async with connected(dsn) as connection:
        settings = await connection.fetch(
            "SELECT name, setting FROM pg_settings WHERE source IN ('command line', 'configuration file')"
            " AND name NOT LIKE '%director%' AND name <> 'port' ORDER BY name"
        )
        version = await connection.fetchval("SHOW server_version")
    return Machine(
        cpu=_cpu_model(),
        cores=os.cpu_count() or 1,
        memory_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        postgres=version,
        wrk=_output(["wrk", "--version"]).split(" Copyright")[0],
        commit=_commit(),
        packages={name: metadata.version(name) for name in PACKAGES},
        postgres_settings={record["name"]: record["setting"] for record in settings},
    )


def _cpu_model() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except FileNotFoundError:
        found = None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def _commit() -> str:
    commit = _output(["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]).strip()
    changed = _output(["git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no"])
    return f"{commit}+" if changed else commit


def _output(command: list[str]) -> str:
    """The output of the command, also if it fails (`wrk --version` exits with 1); "" if there is none."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout
    except FileNotFoundError:
        return ""
