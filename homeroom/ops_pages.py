"""What the processes of a stack show on their operations ports."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping

from homeroom import probe

_INTERNAL_ERRORS = re.compile(rb"^homeroom_internal_errors_total\{[^}]*\} ([0-9.e+]+)$", re.MULTILINE)


def all_well(readyz: bytes) -> bool:
    """Whether a `/readyz` shows no failed check, not even one that the process can serve without."""
    return all(check["ok"] for check in json.loads(readyz).get("checks", ()))


async def internal_errors(ops_ports: Mapping[str, int]) -> dict[str, int]:
    """How many calls each process has failed with a 500, since it started, by the process's name.

    A process that does not answer on its operations port is left out: it is not running.
    """
    counts = await asyncio.gather(*(_internal_errors_of(port) for port in ops_ports.values()))
    return {name: count for name, count in zip(ops_ports, counts, strict=True) if count is not None}


async def _internal_errors_of(port: int) -> int | None:
    page = await probe.get(port, "/metrics")
    if page is None or page.status != 200:
        return None
    return sum(int(float(count)) for count in _INTERNAL_ERRORS.findall(page.body))
