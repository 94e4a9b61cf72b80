"""compose.yaml has no secret of its own, gives each process only what it needs, and starts all in order."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from chassis.process.config import MigrationConfig, load
from homeroom.services import SERVICES, Service

ROOT = Path(__file__).resolve().parents[2]
SECRET = re.compile(r"PASSWORD|TOKEN|JWKS|ISSUER|AUDIENCE")
WITH_DATABASE = [service for service in SERVICES if service.database]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return content


def environment(compose: dict[str, Any], name: str) -> dict[str, str]:
    values: dict[str, str] = compose["services"][name]["environment"]
    return values


def filled_in(values: dict[str, str]) -> dict[str, str]:
    """The environment as compose would make it from a .env that names everything."""

    def value_of(variable: re.Match[str]) -> str:
        default = re.fullmatch(r":-(.*)", variable[2])
        return default[1] if default else "https://issuer.example/0123456789abcdef"

    return {name: re.sub(r"\$\{([A-Z_]+)([^}]*)\}", value_of, str(value)) for name, value in values.items()}


def test_no_secret_has_a_default() -> None:
    variables = re.findall(r"\$\{([A-Z_]+)([^}]*)\}", (ROOT / "compose.yaml").read_text())
    assert {name for name, _ in variables if SECRET.search(name)}
    for name, rest in variables:
        if SECRET.search(name):
            assert rest.startswith(":?"), name


def test_every_password_in_an_address_comes_from_outside(compose: dict[str, Any]) -> None:
    for name in compose["services"]:
        for value in compose["services"][name].get("environment", {}).values():
            if "@" in str(value):
                assert re.fullmatch(r"postgresql://[a-z_]+:\$\{[A-Z_]+:\?\}@postgres:5432/[a-z]+", value)


@pytest.mark.parametrize("service", WITH_DATABASE, ids=lambda service: service.package)
def test_a_service_cannot_change_its_schema_and_a_migration_does_nothing_else(
    compose: dict[str, Any], service: Service
) -> None:
    serving = environment(compose, service.package)
    assert serving["HOMEROOM_DATABASE_URL"].startswith(f"postgresql://{service.database}_service:")
    assert "OWNER_PASSWORD" not in str(serving)
    migrating = environment(compose, f"{service.database}_migrate")
    assert set(migrating) == {"HOMEROOM_MIGRATION_DATABASE_URL"}
    address = migrating["HOMEROOM_MIGRATION_DATABASE_URL"]
    assert address.startswith(f"postgresql://{service.database}_owner:")
    assert address.endswith(f"/{service.database}")


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.package)
def test_a_process_runs_in_production_mode_and_knows_only_those_it_may_call(
    compose: dict[str, Any], service: Service
) -> None:
    told = environment(compose, service.package)
    assert told["HOMEROOM_MODE"] == "production"
    targets = {name: value for name, value in told.items() if name.endswith("_TARGET")}
    assert targets == {
        f"HOMEROOM_{upstream.removesuffix('_service').upper()}_TARGET": f"{upstream}:50051"
        for upstream in service.upstreams
    }


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.package)
def test_a_process_accepts_what_it_is_told(compose: dict[str, Any], service: Service) -> None:
    configs = importlib.import_module(f"{service.package}.config")
    load(configs.Config, filled_in(environment(compose, service.package)))
    if service.database:
        load(MigrationConfig, filled_in(environment(compose, f"{service.database}_migrate")))


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.package)
def test_a_process_waits_for_its_migration_and_for_those_it_calls(
    compose: dict[str, Any], service: Service
) -> None:
    waits = {
        name: condition["condition"]
        for name, condition in compose["services"][service.package]["depends_on"].items()
    }
    assert all(waits[upstream] == "service_healthy" for upstream in service.upstreams)
    if service.database:
        assert waits[f"{service.database}_migrate"] == "service_completed_successfully"
        # Directly: a compose that forgets ended migrations would stop it before the processes.
        assert waits["postgres"] == "service_healthy"


CONTAINERS = [
    *(service.package for service in SERVICES),
    *(f"{each.database}_migrate" for each in WITH_DATABASE),
]


@pytest.mark.parametrize("name", CONTAINERS)
def test_processes_and_migrations_are_hardened_alike_and_built_here(
    compose: dict[str, Any], name: str
) -> None:
    container = compose["services"][name]
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert container["pull_policy"] == "build"
    assert set(container["build"]["args"]) == {"SERVICE"}
    assert container["image"] == f"homeroom/{container['build']['args']['SERVICE']}"


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.package)
def test_the_operations_port_of_a_process_is_there_and_not_published(
    compose: dict[str, Any], service: Service
) -> None:
    assert environment(compose, service.package)["HOMEROOM_OPS_BIND"] == "0.0.0.0:9090"
    assert "9090" not in str(compose["services"][service.package].get("ports", ""))


@pytest.mark.parametrize("service", WITH_DATABASE, ids=lambda service: service.package)
@pytest.mark.parametrize("value", ["", "0"])
def test_the_statement_cache_can_be_switched_off_for_pgbouncer(
    compose: dict[str, Any], service: Service, value: str
) -> None:
    told = environment(compose, service.package)
    assert told["HOMEROOM_DATABASE_STATEMENT_CACHE"] == "${HOMEROOM_DATABASE_STATEMENT_CACHE:-}"
    configs = importlib.import_module(f"{service.package}.config")
    load(configs.Config, {**filled_in(told), "HOMEROOM_DATABASE_STATEMENT_CACHE": value})


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.package)
def test_a_process_is_built_from_its_own_package(compose: dict[str, Any], service: Service) -> None:
    assert compose["services"][service.package]["build"]["args"] == {"SERVICE": service.package}


def test_only_the_gateway_can_be_reached_and_by_default_only_from_here(compose: dict[str, Any]) -> None:
    published = {
        name: service["ports"] for name, service in compose["services"].items() if "ports" in service
    }
    assert published == {"gateway": ["${HOMEROOM_PUBLISH:-127.0.0.1:8080}:8080"]}


def make_env(file: Path) -> subprocess.CompletedProcess[str]:
    command = ["/bin/sh", "-c", f"umask 000; exec {ROOT / 'deploy' / 'make-env.sh'} {file}"]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_the_made_secrets_can_be_read_by_their_owner_only_and_are_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    assert make_env(file).returncode == 0
    assert file.stat().st_mode & 0o777 == 0o600
    before = file.read_text()
    again = make_env(file)
    assert again.returncode == 1
    assert "was not written" in again.stderr
    assert file.read_text() == before


def test_git_ignores_the_made_secrets() -> None:
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_made_secrets_are_all_that_is_asked_for_and_never_the_same(tmp_path: Path) -> None:
    asked = set(re.findall(r"\$\{([A-Z_]+):\?", (ROOT / "compose.yaml").read_text()))
    made: list[str] = []
    for name in ("one", "two"):
        assert make_env(tmp_path / name).returncode == 0
        made.append((tmp_path / name).read_text())
    one, two = (dict(re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE)) for text in made)
    assert set(one) == asked
    secrets = [value for name, value in one.items() if not re.search(r"JWKS|JWT", name)]
    assert all(re.fullmatch(r"[0-9a-f]{48}", secret) for secret in secrets)
    assert len(set(secrets)) == len(secrets)
    assert not set(secrets) & set(two.values())


def test_the_image_holds_what_a_process_imports() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--)(\S+) ", dockerfile, re.MULTILINE)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {"chassis", "protos", "${SERVICE}", "requirements.lock"} <= set(copied)
    assert (set(copied) - {"${SERVICE}"}) | {service.package for service in SERVICES} == allowed
    assert "USER homeroom" in dockerfile


def test_the_images_share_all_layers_but_those_of_their_own_package() -> None:
    shared, _, own = (ROOT / "Dockerfile").read_text().partition("\nARG SERVICE\n")
    assert not re.search(r"\$\{?SERVICE\b", shared)
    assert re.findall(r"^COPY (\S+) ", own, re.MULTILINE) == ["${SERVICE}"]


def check_of_image() -> list[str]:
    joined = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
    match = re.search(r"^HEALTHCHECK .* CMD (\[.*\])$", joined, re.MULTILINE)
    assert match
    command: list[str] = json.loads(match[1])
    return command


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.package)
async def test_a_container_is_healthy_when_the_process_says_so_whoever_built_it(
    compose: dict[str, Any], service: Service
) -> None:
    kind, *command = compose["services"][service.package]["healthcheck"]["test"]
    port = environment(compose, service.package)["HOMEROOM_OPS_BIND"].rpartition(":")[2]
    assert (kind, command[-1].count(f":{port}/")) == ("CMD", 1)
    for status, healthy in ((200, True), (503, False)):
        await assert_checked(command, status=status, healthy=healthy, written_port=port)


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
async def test_the_image_is_healthy_when_the_process_says_so(status: int, healthy: bool) -> None:
    await assert_checked(check_of_image(), status=status, healthy=healthy)


async def assert_checked(
    command: list[str], *, status: int, healthy: bool, written_port: str = "no port"
) -> None:
    """Run the check against a process that answers with this status; its port replaces the written one."""
    program, *arguments = command
    assert program == "python"
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(f"HTTP/1.0 {status} Said\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        check = await asyncio.create_subprocess_exec(
            *(sys.executable, *(each.replace(f":{written_port}/", f":{port}/") for each in arguments)),
            env={"HOMEROOM_OPS_BIND": f"0.0.0.0:{port}", "HOMEROOM_BIND": "0.0.0.0:1"},
            stderr=asyncio.subprocess.DEVNULL,
        )
        code = await asyncio.wait_for(check.wait(), 30)
    assert asked == [b"GET /readyz HTTP/1.1\r\n"]
    assert (code == 0) is healthy
