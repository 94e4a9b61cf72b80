"""The machine and the configuration of a process."""

from __future__ import annotations

import asyncio
import shutil
import time

from chassis.addresses import split_host_port
from chassis.diagnostics.environment.checking import Environment, Probe, Seen
from chassis.diagnostics.findings import Severity
from chassis.rpc.tls import TlsError, TlsIdentity

_GIB = 1024**3
_DAY_SECONDS = 86_400
CONNECT_SECONDS_MAX = 1.0
TARGET_SUFFIX = "_target"


async def look_configuration(probe: Probe) -> list[Seen]:
    environment = probe.environment
    return [
        Seen(Severity.CRITICAL, problem, "a configuration with which the process starts")
        for problem in environment.problems
    ] + [Seen(severity, doubt, "") for severity, doubt in environment.doubts]


async def look_disk(probe: Probe) -> list[Seen]:
    folder = probe.environment.database_folder
    if folder is None:
        return []
    usage = await asyncio.to_thread(shutil.disk_usage, folder)
    limits = probe.limits
    severity = Severity.INFO
    for limit, worse in (
        (limits.disk_bytes_medium, Severity.MEDIUM),
        (limits.disk_bytes_high, Severity.HIGH),
        (limits.disk_bytes_critical, Severity.CRITICAL),
    ):
        if usage.free < limit:
            severity = worse
    return [
        Seen(
            severity,
            f"{usage.free / _GIB:.1f} of {usage.total / _GIB:.1f} GiB are free",
            f"at least {limits.disk_bytes_medium / _GIB:.0f} GiB",
            row={"folder": str(folder)},
        )
    ]


async def look_certificate(probe: Probe) -> list[Seen]:
    files = probe.environment.tls
    if files is None:
        return []
    try:
        expires_at = TlsIdentity(files).expires_at
    except TlsError as error:
        return [Seen(Severity.CRITICAL, str(error), "certificate, key and CA that belong together")]
    days = (expires_at - time.time()) / _DAY_SECONDS
    limits = probe.limits
    severity = Severity.INFO
    if days <= 0:
        severity = Severity.CRITICAL
    elif days < limits.certificate_days_high:
        severity = Severity.HIGH
    elif days < limits.certificate_days_medium:
        severity = Severity.MEDIUM
    observed = f"the certificate expires in {days:.0f} days" if days > 0 else "the certificate has expired"
    return [Seen(severity, observed, f"at least {limits.certificate_days_medium:g} days are left")]


def targets_of(environment: Environment) -> dict[str, tuple[str, int]]:
    """Where the other processes listen, by the name of the setting; port 0 is nowhere."""
    return {
        name: address
        for name, value in environment.settings.items()
        if name.endswith(TARGET_SUFFIX) and (address := split_host_port(value))[1]
    }


async def look_targets(probe: Probe) -> list[Seen]:
    targets = targets_of(probe.environment)
    problems = await asyncio.gather(*(_problem_of(*address) for address in targets.values()))
    return [
        Seen(
            Severity.HIGH,
            f"{name.removesuffix(TARGET_SUFFIX)}_service is not reached at {host}:{port}: {problem}",
            "it listens there",
            row={"setting": f"HOMEROOM_{name.upper()}"},
        )
        for (name, (host, port)), problem in zip(targets.items(), problems, strict=True)
        if problem
    ]


async def _problem_of(host: str, port: int) -> str:
    """Why nothing listens there; empty if something does."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"no answer within {CONNECT_SECONDS_MAX:g} s"
    except OSError as error:
        return error.strerror or str(error)
    writer.close()
    return ""
