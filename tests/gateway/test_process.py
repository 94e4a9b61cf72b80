"""`python -m gateway` as a process: what it refuses to start with, and an orderly life."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import orjson
import pytest

from tests.gateway.backend import SERVICE_TOKEN, Backend
from tests.gateway.tokens import AUDIENCE, ISSUER, IdentityProvider
from tests.support.waiting import eventually

SECONDS_MAX = 30.0
CONFIGURATION_ERROR = 78


@pytest.fixture
def settings(identity: IdentityProvider, shared_backend: Backend, tmp_path: Path) -> dict[str, str]:
    """An environment with which it starts, in production mode."""
    jwks = tmp_path / "jwks.json"
    jwks.write_bytes(identity.jwks())
    target = f"127.0.0.1:{shared_backend.port}"
    return {
        "HOMEROOM_BIND": "127.0.0.1:0",
        "HOMEROOM_OPS_BIND": "127.0.0.1:0",
        "HOMEROOM_SERVICE_TOKEN": SERVICE_TOKEN,
        "HOMEROOM_JWKS": str(jwks),
        "HOMEROOM_JWT_ISSUER": ISSUER,
        "HOMEROOM_JWT_AUDIENCE": AUDIENCE,
        "HOMEROOM_SESSION_TARGET": target,
        "HOMEROOM_SUBSCRIPTION_TARGET": target,
        "HOMEROOM_PROGRESS_TARGET": target,
        "HOMEROOM_DRAIN_SECONDS": "0",
    }


@asynccontextmanager
async def started(
    settings: dict[str, str], *, open_files_max: int = 4096
) -> AsyncIterator[asyncio.subprocess.Process]:
    child = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        f'ulimit -n {open_files_max} && exec "$0" -m gateway',
        sys.executable,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
            **{name: value for name, value in settings.items() if value},
        },
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def serving_port(child: asyncio.subprocess.Process) -> int:
    assert child.stdout is not None
    said = b""
    async with asyncio.timeout(SECONDS_MAX):
        while line := await child.stdout.readline():
            said += line
            if b'"event":"serving"' in line:
                port: int = orjson.loads(line)["port"]
                return port
    raise AssertionError(said.decode())


async def end_of(child: asyncio.subprocess.Process) -> tuple[int | None, str]:
    async with asyncio.timeout(SECONDS_MAX):
        output, _ = await child.communicate()
    return child.returncode, output.decode()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"HOMEROOM_JWKS": ""}, "HOMEROOM_JWKS"),
        ({"HOMEROOM_JWKS": "/nowhere/jwks.json"}, "HOMEROOM_JWKS"),
        ({"HOMEROOM_JWKS": __file__}, "HOMEROOM_JWKS"),
        ({"HOMEROOM_JWKS": "http://127.0.0.1:9/jwks.json"}, "https://"),
        ({"HOMEROOM_JWKS": "https:///jwks.json"}, "names no host"),
        ({"HOMEROOM_JWT_ISSUER": ""}, "HOMEROOM_JWT_ISSUER"),
        ({"HOMEROOM_JWT_AUDIENCE": ""}, "HOMEROOM_JWT_AUDIENCE"),
        ({"HOMEROOM_SERVICE_TOKEN": ""}, "HOMEROOM_SERVICE_TOKEN"),
        ({"HOMEROOM_SESSION_TARGET": ""}, "HOMEROOM_SESSION_TARGET"),
        ({"HOMEROOM_PROGRESS_TARGET": "nonsense"}, "HOMEROOM_PROGRESS_TARGET"),
        ({"HOMEROOM_OPS_BIND": ""}, "HOMEROOM_OPS_BIND"),
        ({"HOMEROOM_TRACE_TRUSTED_NETWORKS": "127.0.0.1, nonsense"}, "HOMEROOM_TRACE_TRUSTED_NETWORKS"),
        ({"HOMEROOM_CONNECTIONS_MAX": "0"}, "HOMEROOM_CONNECTIONS_MAX"),
        ({"HOMEROOM_JWT_ISSUER": "homeroom-dev"}, "its tokens are for development only"),
        ({"HOMEROOM_TLS_KEY": __file__}, "HOMEROOM_TLS_CERTIFICATE and HOMEROOM_TLS_CA must be set as well"),
        (
            dict.fromkeys(("HOMEROOM_TLS_CERTIFICATE", "HOMEROOM_TLS_KEY", "HOMEROOM_TLS_CA"), __file__),
            "has no certificate in PEM",
        ),
    ],
    ids=str,
)
async def test_it_does_not_start_without_keys_issuer_audience_and_targets(
    settings: dict[str, str], change: dict[str, str], names: str
) -> None:
    async with started({**settings, **change}) as child:
        code, output = await end_of(child)
    assert code == CONFIGURATION_ERROR
    assert names in output
    assert "Traceback" not in output


async def test_production_does_not_start_with_private_keys(
    settings: dict[str, str], identity: IdentityProvider, tmp_path: Path
) -> None:
    jwks = tmp_path / "private.json"
    jwks.write_text(json.dumps({"keys": [identity.rsa.as_dict(private=True)]}))
    async with started({**settings, "HOMEROOM_JWKS": str(jwks)}) as child:
        code, output = await end_of(child)
    assert code == CONFIGURATION_ERROR
    assert "HOMEROOM_JWKS cannot be used: the JWKS contains private keys" in output
    assert "Traceback" not in output


async def test_development_starts_with_its_own_issuer(settings: dict[str, str]) -> None:
    ours = {"HOMEROOM_MODE": "development", "HOMEROOM_JWT_ISSUER": "homeroom-dev"}
    async with started({**settings, **ours}) as child:
        assert await serving_port(child)


async def test_it_serves_and_ends_in_order(settings: dict[str, str], identity: IdentityProvider) -> None:
    async with started(settings) as child, aiohttp.ClientSession() as client:
        url = f"http://127.0.0.1:{await serving_port(child)}"
        async with client.get(f"{url}/readyz") as response:
            assert response.status == 200
            checks = {check["name"] for check in (await response.json())["checks"]}
            services = {"session_service", "subscription_service", "progress_service"}
            assert checks == {"signing keys", "any service", *services}
        headers = {"Authorization": f"Bearer {identity.token()}"}
        async with client.get(f"{url}/v1/stats", headers=headers) as response:
            assert response.status == 200
            assert (await response.json())["version"] == 0
        child.send_signal(signal.SIGTERM)
        code, output = await end_of(child)
    assert code == 0
    assert '"event":"stopping"' in output
    assert '"level":"error"' not in output


async def test_an_identity_provider_that_is_away_is_waited_for(settings: dict[str, str]) -> None:
    away = {"HOMEROOM_JWKS": "http://127.0.0.1:9/jwks.json", "HOMEROOM_MODE": "development"}
    async with started({**settings, **away}) as child, aiohttp.ClientSession() as client:
        url = f"http://127.0.0.1:{await serving_port(child)}"
        async with client.get(f"{url}/livez") as response:
            assert response.status == 200
        async with client.get(f"{url}/readyz") as response:
            assert response.status == 503
            checks = (await response.json())["checks"]
            failing = [check["name"] for check in checks if check["required"] and not check["ok"]]
            assert failing == ["signing keys"]


async def test_more_connections_than_files_may_be_open_are_refused(
    settings: dict[str, str], identity: IdentityProvider
) -> None:
    request = (
        f"GET /v1/stats HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {identity.token()}\r\n\r\n"
    ).encode()
    async with started(settings, open_files_max=400) as child:
        port = await serving_port(child)
        streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(600)]
        try:
            async with asyncio.timeout(SECONDS_MAX):
                (first, writer), (last, _) = streams[0], streams[-1]
                writer.write(request)
                assert (await first.readline()).startswith(b"HTTP/1.1 200")
                assert (await last.readline()).startswith(b"HTTP/1.1 503")
                for _, opened in streams:
                    opened.close()
                await eventually(lambda: _serves(port, request))
        finally:
            for _, opened in streams:
                opened.transport.abort()


async def _serves(port: int, request: bytes) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return (await reader.readline()).startswith(b"HTTP/1.1 200")
    finally:
        writer.close()


async def test_told_to_stop_it_says_so_first_and_answers_what_still_comes(
    settings: dict[str, str], identity: IdentityProvider
) -> None:
    kept = aiohttp.TCPConnector(limit=1)  # one connection, which is kept between requests
    async with (
        started({**settings, "HOMEROOM_DRAIN_SECONDS": "5"}) as child,
        aiohttp.ClientSession(connector=kept) as client,
    ):
        url = f"http://127.0.0.1:{await serving_port(child)}"
        headers = {"Authorization": f"Bearer {identity.token()}"}
        async with client.get(f"{url}/v1/stats", headers=headers) as response:
            assert (response.status, "Connection" in response.headers) == (200, False)
        child.send_signal(signal.SIGTERM)

        async def not_ready() -> bool:
            async with client.get(f"{url}/readyz") as response:
                return response.status == 503 and response.headers["Connection"] == "close"

        await eventually(not_ready)
        async with client.get(f"{url}/v1/stats", headers=headers) as response:
            assert (response.status, response.headers["Connection"]) == (200, "close")
        code, _ = await end_of(child)
    assert code == 0
