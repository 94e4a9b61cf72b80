"""Each process gets its own addresses, the addresses that it may call, and its own secrets: nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeroom.embedded.provisioning import ServiceDatabase
from homeroom.services import (
    GATEWAY,
    PROGRESS,
    SERVICES,
    SESSION,
    SUBSCRIPTION,
    Address,
    Service,
    environment_of,
)

ADDRESSES = {
    "subscription_service": Address(20001, 20002),
    "progress_service": Address(20003, 20004),
    "session_service": Address(20005, 20006),
    "gateway": Address(8080, 20007),
}
DATABASE = ServiceDatabase(service="postgresql://s", owner="postgresql://o", superuser="postgresql://p")


def told(
    service: Service, *, redis_url: str | None = None, additions: dict[str, str] | None = None
) -> dict[str, str]:
    return environment_of(
        service,
        addresses=ADDRESSES,
        database=DATABASE if service.database else None,
        redis_url=redis_url,
        service_token="shared",
        jwks=Path("/keys/jwks.json"),
        additions=additions or {},
    )


@pytest.mark.parametrize(
    ("service", "targets"),
    [
        (SUBSCRIPTION, {}),
        (PROGRESS, {"SUBSCRIPTION": 20001}),
        (SESSION, {"SUBSCRIPTION": 20001, "PROGRESS": 20003}),
        (GATEWAY, {"SESSION": 20005, "PROGRESS": 20003, "SUBSCRIPTION": 20001}),
    ],
)
def test_a_process_knows_only_those_it_may_call(service: Service, targets: dict[str, int]) -> None:
    found = {name: value for name, value in told(service).items() if name.endswith("_TARGET")}
    assert found == {f"HOMEROOM_{name}_TARGET": f"127.0.0.1:{port}" for name, port in targets.items()}


def test_the_calls_have_no_cycle() -> None:
    seen: set[str] = set()
    for service in SERVICES:
        assert set(service.upstreams) <= seen
        seen.add(service.package)


def test_a_service_gets_its_database_and_the_gateway_the_public_keys() -> None:
    session = told(SESSION)
    assert session["HOMEROOM_DATABASE_URL"] == "postgresql://s"
    assert session["HOMEROOM_MIGRATION_DATABASE_URL"] == "postgresql://o"
    assert session["HOMEROOM_OPS_BIND"] == "127.0.0.1:20006"
    assert "HOMEROOM_JWKS" not in session
    gateway = told(GATEWAY)
    assert gateway["HOMEROOM_JWKS"] == "/keys/jwks.json"
    assert gateway["HOMEROOM_JWT_ISSUER"] == "homeroom-dev"
    assert gateway["HOMEROOM_JWT_AUDIENCE"] == "homeroom"
    assert not {"HOMEROOM_DATABASE_URL", "HOMEROOM_MIGRATION_DATABASE_URL"} & set(gateway)


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.package)
def test_every_process_serves_its_operators_on_a_port_of_their_own(service: Service) -> None:
    address = ADDRESSES[service.package]
    environment = told(service)
    assert environment["HOMEROOM_BIND"] == f"127.0.0.1:{address.port}"
    assert environment["HOMEROOM_OPS_BIND"] == f"127.0.0.1:{address.ops_port}"
    assert address.port != address.ops_port


def test_no_redis_is_said_as_empty() -> None:
    assert told(GATEWAY)["HOMEROOM_REDIS_URL"] == ""
    assert told(GATEWAY, redis_url="unix:///r")["HOMEROOM_REDIS_URL"] == "unix:///r"


def test_additions_have_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMEROOM_LOG_LEVEL", "error")
    assert told(SESSION)["HOMEROOM_LOG_LEVEL"] == "error"
    assert told(SESSION, additions={"HOMEROOM_LOG_LEVEL": "debug"})["HOMEROOM_LOG_LEVEL"] == "debug"


def test_no_secret_comes_in_two_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMEROOM_SERVICE_TOKEN_FILE", "/run/secrets/token")
    monkeypatch.setenv("HOMEROOM_DATABASE_URL", "postgresql://production")
    environment = told(SESSION)
    assert "HOMEROOM_SERVICE_TOKEN_FILE" not in environment
    assert environment["HOMEROOM_DATABASE_URL"] == "postgresql://s"
