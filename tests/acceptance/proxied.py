"""A stack whose gateway reaches session_service through a proxy, which can make the way longer."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from homeroom.services import SESSION, Address
from homeroom.supervisor import Stack
from tests.support.proxy import Proxy, proxying


class ProxiedStack(Stack):
    """`way` leads from the gateway to session_service; `spans` is the file of all spans."""

    way: Proxy
    spans: Path

    def _choose_addresses(self) -> dict[str, Address]:
        addresses = super()._choose_addresses()
        self.way._target_port = addresses[SESSION.package].port
        return addresses


@asynccontextmanager
async def proxied_stack(env: Mapping[str, str]) -> AsyncIterator[ProxiedStack]:
    # Not pytest's own folder: as root it is closed to the user that PostgreSQL runs as.
    root = Path(tempfile.mkdtemp(prefix="homeroom-proxied-"))
    spans = root / "spans.jsonl"
    async with proxying(0) as way:
        own = {"HOMEROOM_SESSION_TARGET": f"127.0.0.1:{way.port}", "HOMEROOM_TRACE_FILE": str(spans)}
        stack = ProxiedStack(data_dir=root / "data", port=0, ephemeral=True, redis=False, env={**own, **env})
        stack.way, stack.spans = way, spans
        async with stack:
            yield stack
    shutil.rmtree(root)
