"""`homeroom diagnose --environment`, run as an operator would."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.environment.world import Ground, World, healthy
from tests.support.command_line import ROOT, Finished, run

PASSWORD = "corrEct-horse-battery"


def env_file(folder: Path, environ: Mapping[str, str], name: str = "process.env") -> Path:
    path = folder / name
    path.write_text("".join(f"{key}={value}\n" for key, value in environ.items()))
    return path


async def diagnose(world: World, folder: Path, *options: str) -> Finished:
    given = f"{world.process}={env_file(folder, world.environ)}"
    return await run("diagnose", "--environment", "--env-file", given, *options)


async def test_a_healthy_process_is_reported_with_its_facts(ground: Ground, tmp_path: Path) -> None:
    async with healthy(ground, "session_service", harmed=False) as world:
        finished = await diagnose(world, tmp_path, "--json")
    assert finished.code == 0, finished
    critical = [each for each in finished.json["findings"] if each["severity"] == "CRITICAL"]
    assert not critical
    facts = {each["check"]: each for each in finished.json["findings"]}
    assert facts["environment.database_reachable"]["process"] == "session_service"
    (process,) = finished.json["processes"]
    assert "environment.schema_indexes" in process["checked"]
    assert "environment.tests" in process["checked"]
    assert process["problem"] is None


async def test_a_fault_is_in_the_table_with_what_it_means_and_what_to_do(
    ground: Ground, tmp_path: Path
) -> None:
    async with healthy(ground, "session_service") as world:
        await world.as_owner("DROP INDEX sessions_one_live_per_test")
        finished = await diagnose(world, tmp_path, "--min-severity", "high")
    assert finished.code == 1
    words = " ".join(finished.stdout.split())
    assert "index sessions.sessions_one_live_per_test is missing" in words
    assert "CREATE UNIQUE INDEX sessions_one_live_per_test" in words
    assert "CREATE INDEX CONCURRENTLY" in words
    assert "1 critical" in words
    assert "answers as" not in words


async def test_a_service_that_cannot_start_is_diagnosed_from_configuration_alone(tmp_path: Path) -> None:
    """Its database is away, and its configuration lacks two variables: all of it is told at once."""
    environ = {
        "HOMEROOM_MODE": "development",
        "HOMEROOM_DATABASE_URL": f"postgresql://progress_service:{PASSWORD}@127.0.0.1:1/progress",
        "HOMEROOM_REDIS_URL": f"redis://:{PASSWORD}@127.0.0.1:1/0",
        "HOMEROOM_SUBSCRIPTION_TARGET": "127.0.0.1:2",
    }
    path = env_file(tmp_path, environ, "progress_service.env")
    finished = await run("diagnose", "--environment", "--env-file", str(path), "--json")
    assert finished.code == 1, finished
    told = {each["observed"] for each in finished.json["findings"]}
    for part in (
        "HOMEROOM_BIND is missing",
        "HOMEROOM_OPS_BIND is missing",
        "cannot connect to the database",
        "subscription_service is not reached at 127.0.0.1:2",
    ):
        assert any(part in each for each in told), (part, told)
    found = {each["check"]: each["evidence"] for each in finished.json["findings"]}
    assert found["environment.database_reachable"]["database"] == "progress at 127.0.0.1:1"
    assert found["environment.redis_reachable"]["address"] == "127.0.0.1:1"
    assert PASSWORD not in finished.stdout + finished.stderr


async def test_processes_with_different_tokens_are_found(ground: Ground, tmp_path: Path) -> None:
    async with (
        healthy(ground, "gateway", harmed=False) as gateway,
        healthy(ground, "session_service", harmed=False) as session,
    ):
        secret = tmp_path / "token"
        secret.write_text("another-secret-among-processes\n")
        del gateway.environ["HOMEROOM_SERVICE_TOKEN"]
        gateway.environ["HOMEROOM_SERVICE_TOKEN_FILE"] = str(secret)
        files = [
            f"--env-file={world.process}={env_file(tmp_path, world.environ, world.process)}"
            for world in (gateway, session)
        ]
        finished = await run("diagnose", "--environment", "--json", *files)
    assert finished.code == 1
    found = [
        each for each in finished.json["findings"] if each["check"] == "environment.service_tokens_agree"
    ]
    assert [each["observed"] for each in found] == [
        "these processes have different service tokens: gateway | session_service"
    ]
    assert "among-processes" not in finished.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--environment", "--data", "{folder}/none"], "no stack was ever started on"),
        (["--environment", "--env-file", "gateway={folder}/none.env"], "cannot be read"),
        (["--environment", "--env-file", "console={folder}/none.env"], "cannot be read"),
        (["--environment", "--process", "console"], "'console' is none of"),
        (["--environment", "--min-severity", "loud"], "is none of"),
    ],
)
async def test_what_cannot_be_run_ends_with_code_2_and_says_why(
    tmp_path: Path, arguments: list[str], says: str
) -> None:
    finished = await run("diagnose", *(each.format(folder=tmp_path) for each in arguments))
    assert finished.code == 2
    assert says in " ".join(finished.stderr.replace("│", "").split())
    assert not (tmp_path / "none").exists()


async def test_one_process_can_be_asked_with_the_environment_of_the_shell(
    ground: Ground, tmp_path: Path
) -> None:
    """As in its container, where the command line is not installed."""
    async with healthy(ground, "gateway", harmed=False) as world:
        world.environ["HOMEROOM_JWKS"] = str(tmp_path / "missing.json")
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "diagnose"),
            cwd=ROOT,
            env={**os.environ, **world.environ},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await asyncio.wait_for(child.communicate(), 60)
    assert child.returncode == 1, errors
    lines = output.decode().splitlines()
    assert '"check":"environment.jwks_usable","severity":"CRITICAL"' in output.decode()
    assert lines[-1].startswith('{"process":"gateway","checked":["environment.configuration"')
