"""The `diagnose` command of a process: checks its environment from the configuration alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import orjson

from chassis.diagnostics.environment import (
    ENVIRONMENT_CHECKS,
    Environment,
    EnvironmentCheck,
    Limits,
    run_environment,
)
from chassis.diagnostics.findings import Finding, Severity
from chassis.postgres import Database
from chassis.process.config import ProcessConfig, Secret, read
from chassis.process.doubts import doubts_of
from chassis.process.version import version
from chassis.rpc.tls import TlsFiles
from chassis.telemetry import logs
from chassis.telemetry.logs import LogLevel

EXIT_CRITICAL = 1


def environment_of(
    name: str,
    config: type[ProcessConfig],
    environ: Mapping[str, str],
    *,
    migrations: Mapping[str, Path],
    database: Database | None = None,
    limits: Limits | None = None,
) -> Environment:
    """The environment of a process, as far as its configuration can be read.

    A service that runs gives its open database, which is then asked with few connections.
    """
    given, problems = read(config, environ)
    return Environment(
        process=name,
        settings=given,
        problems=problems,
        doubts=doubts_of(config, given),
        database_url=_revealed(given.get("database_url")),
        database=database,
        database_connections_max=given.get("database_connections_max", 8),
        statement_cache=given.get("database_statement_cache", 256),
        migrations=migrations,
        redis_url=_revealed(given.get("redis_url")),
        database_folder=given.get("database_folder"),
        tls=_tls_files(given),
        secrets=tuple(value.reveal() for value in given.values() if isinstance(value, Secret)),
        limits=limits or Limits(),
    )


def run_diagnosis(
    name: str,
    config: type[ProcessConfig],
    *,
    migrations: Mapping[str, Path] | None = None,
    checks: Sequence[EnvironmentCheck] = (),
) -> NoReturn:
    """Check the environment, write the findings as JSON lines, and end the process.

    Args:
        name: of the process.
        config: the class of its configuration.
        migrations: those of its database, if it has one.
        checks: its own, beside those of every process.

    A line is a finding with `process`, `check`, `severity`, `observed`, `expected`, `row`, `evidence`,
    `means` and `action`. The last line has `checked`: the checks that were run. Exit code 1: one is critical.
    """
    output = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # where log lines go meanwhile
        logs.configure(service=name, version=version(), level=LogLevel.ERROR)
        environment = environment_of(name, config, os.environ, migrations=migrations or {})
        every = (*ENVIRONMENT_CHECKS, *checks)
        began = time.monotonic()
        findings = asyncio.run(run_environment(environment, every))
    by_id = {check.id: check for check in every}
    for finding in findings:
        line = {"process": name, **as_json(finding, by_id[finding.check])}
        output.write(orjson.dumps(line).decode() + "\n")
    checked = [check.id for check in every if check.applies(environment)]
    last = {"process": name, "checked": checked, "seconds": round(time.monotonic() - began, 3)}
    output.write(orjson.dumps(last).decode() + "\n")
    output.flush()
    worst = max((finding.severity for finding in findings), default=Severity.INFO)
    sys.exit(EXIT_CRITICAL if worst is Severity.CRITICAL else 0)


def as_json(finding: Finding, check: EnvironmentCheck) -> dict[str, Any]:
    """A finding with what it means, in the names that the HTTP API uses."""
    return {
        "check": finding.check,
        "severity": finding.severity.name,
        "observed": finding.observed,
        "expected": finding.expected,
        "row": dict(finding.row),
        "evidence": dict(finding.evidence),
        "means": check.means,
        "action": check.action,
    }


def _revealed(value: object) -> str | None:
    return value.reveal() if isinstance(value, Secret) else None


def _tls_files(given: Mapping[str, Any]) -> TlsFiles | None:
    certificate, key, authority = (given.get(f"tls_{each}") for each in ("certificate", "key", "ca"))
    if certificate is None or key is None or authority is None:
        return None
    return TlsFiles(certificate, key, authority)
