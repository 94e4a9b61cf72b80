"""A port that another process has taken is a matter of configuration, in each of the four processes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tests.gateway.tokens import AUDIENCE, ISSUER, IdentityProvider
from tests.support.databases import Databases
from tests.support.service_process import started

NOBODY = "127.0.0.1:9"
SERVICES = ("session", "subscription", "progress")


@pytest.fixture
def taken() -> Iterator[str]:
    """An address that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("variable", ["HOMEROOM_BIND", "HOMEROOM_OPS_BIND"])
@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_names_the_port_that_is_taken(
    databases: Databases, taken: str, service: str, variable: str
) -> None:
    targets = {f"HOMEROOM_{each.upper()}_TARGET": NOBODY for each in SERVICES}
    async with databases.fresh(service) as database:
        settings = {**targets, "HOMEROOM_DATABASE_URL": database.service, variable: taken}
        await refuses(f"{service}_service", variable, settings)


@pytest.mark.parametrize("variable", ["HOMEROOM_BIND", "HOMEROOM_OPS_BIND"])
async def test_the_gateway_names_the_port_that_is_taken(tmp_path: Path, taken: str, variable: str) -> None:
    jwks = tmp_path / "jwks.json"
    jwks.write_bytes(IdentityProvider().jwks())
    targets = {f"HOMEROOM_{each.upper()}_TARGET": NOBODY for each in SERVICES}
    tokens = {"HOMEROOM_JWKS": str(jwks), "HOMEROOM_JWT_ISSUER": ISSUER, "HOMEROOM_JWT_AUDIENCE": AUDIENCE}
    await refuses("gateway", variable, {**targets, **tokens, variable: taken})


async def refuses(process: str, variable: str, settings: dict[str, str]) -> None:
    async with started(process, **settings) as child:
        assert await child.ended() == 78, child.log
    lines = [orjson.loads(each) for each in child.log.splitlines() if each.startswith("{")]
    (line,) = [each for each in lines if each["level"] in {"error", "critical"}]
    assert line["event"] == "configuration_refused"
    (problem,) = line["problems"]
    assert problem.startswith(f"{variable} cannot be used: {settings[variable]} is taken")
    assert "Traceback" not in child.log
