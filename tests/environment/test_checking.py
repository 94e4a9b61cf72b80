"""A check that fails, hangs or has no connection is a finding of its own, and stops no other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from chassis.diagnostics.environment import (
    ENVIRONMENT_CHECKS,
    Environment,
    EnvironmentCheck,
    Limits,
    Probe,
    Seen,
    run_environment,
    sql_check,
)
from chassis.diagnostics.environment.checking import CONNECTIONS_MAX, FINDINGS_PER_CHECK_MAX, Need
from chassis.diagnostics.findings import TEXT_CHARACTERS_MAX, Severity
from chassis.postgres import Database
from chassis.process.diagnose import environment_of
from homeroom.schema import migration_folders
from tests.environment.plantings_of_databases import silent_port
from tests.environment.world import CONFIGS, OWN_CHECKS, PATIENT, Ground, healthy
from tests.support.pgbouncer import pgbouncer

NOWHERE = Environment(process="under_test", limits=Limits(check_seconds_max=0.2, open_seconds_max=0.2))


def check(name: str, look, **changed) -> EnvironmentCheck:
    return EnvironmentCheck(f"environment.{name}", Severity.HIGH, "It is wrong.", "mend it", look, **changed)


async def fine(_: Probe) -> list[Seen]:
    return [Seen(Severity.INFO, "all is well")]


async def raises(_: Probe) -> list[Seen]:
    raise ZeroDivisionError("by accident")


async def hangs(_: Probe) -> list[Seen]:
    await asyncio.Event().wait()
    return []


async def test_a_check_that_raises_or_hangs_is_a_finding_and_the_others_are_run() -> None:
    findings = await run_environment(
        NOWHERE, [check("raises", raises, unable=Severity.LOW), check("hangs", hangs), check("fine", fine)]
    )
    assert [(each.check, each.severity, each.observed) for each in findings] == [
        (
            "environment.raises",
            Severity.LOW,
            "the check could not be run: ZeroDivisionError: by accident",
        ),
        (
            "environment.hangs",
            Severity.MEDIUM,
            "the check could not be run: there was no answer within 0.2 s",
        ),
        ("environment.fine", Severity.INFO, "all is well"),
    ]


async def test_what_needs_a_database_that_does_not_answer_is_named_and_not_run() -> None:
    async def never(_: Probe) -> list[Seen]:
        raise AssertionError("it was run")

    findings = await run_environment(
        NOWHERE,
        [
            check("one", never, needs=Need.DATABASE),
            check("open", raises, opens=Need.DATABASE, unable=Severity.CRITICAL),
            check("two", never, needs=Need.DATABASE),
        ],
    )
    (found,) = findings
    assert found.severity is Severity.CRITICAL
    assert found.evidence == {"not_checked": "environment.one, environment.two"}


async def test_a_hundred_findings_of_one_check_are_cut_and_counted() -> None:
    async def many(_: Probe) -> Iterable[Seen]:
        return [Seen(Severity.HIGH, f"number {n} " + "x" * 1000) for n in range(100)]

    findings = await run_environment(NOWHERE, [check("many", many)])
    assert len(findings) == FINDINGS_PER_CHECK_MAX + 1
    assert findings[-1].observed == "50 more of this kind are not listed"
    assert findings[-1].severity is Severity.HIGH
    assert all(len(each.observed) <= TEXT_CHARACTERS_MAX for each in findings)


@pytest.mark.parametrize(
    "text",
    [
        "cannot reach postgresql://ada:corrEct-horse@db/session",
        "the password corrEct-horse was refused",
        "redis://:batteryStaple@redis:6379 said no",
        "the token is a-token-among-processes",
        "postgresql://db/x?password=corrEct-horse",
        "its password is 100%-hOrse",
    ],
)
async def test_a_secret_in_an_error_is_not_shown(text: str) -> None:
    async def tells(_: Probe) -> list[Seen]:
        raise ValueError(text)

    environment = Environment(
        process="under_test",
        database_url="postgresql://ada:100%25-hOrse@db/session",
        redis_url="redis://:batteryStaple@redis:6379",
        secrets=("a-token-among-processes", "corrEct-horse"),
    )
    (found,) = await run_environment(environment, [check("tells", tells)])
    for secret in ("corrEct-horse", "batteryStaple", "a-token-among-processes", "100%-hOrse"):
        assert secret not in repr(found)
        assert secret not in repr(environment)


async def test_when_nothing_answers_all_of_it_is_told(ground: Ground) -> None:
    """Each with its own time limit; the limits here are those of an operator."""
    async with healthy(ground, "progress_service", harmed=False) as world:
        port = await silent_port(world)
        world.environ["HOMEROOM_DATABASE_URL"] = f"postgresql://ada:pass-word@127.0.0.1:{port}/progress"
        world.environ["HOMEROOM_REDIS_URL"] = f"redis://127.0.0.1:{port}/0"
        world.environ["HOMEROOM_SUBSCRIPTION_TARGET"] = "127.0.0.1:1"
        world.environ["HOMEROOM_DATABASE_FOLDER"] = "/nowhere"
        world.limits = Limits()
        findings = await world.faults()
    assert {each.check for each in findings} == {
        "environment.targets",
        "environment.database_reachable",
        "environment.redis_reachable",
        "environment.disk_space",
    }


async def test_a_statement_of_a_service_that_fails_is_a_finding(ground: Ground) -> None:
    broken = sql_check(
        "environment.broken",
        severity=Severity.CRITICAL,
        means="It is wrong.",
        action="mend it",
        sql="SELECT EXISTS (SELECT FROM no_such_table)",
        observed="there is none",
        expected="one",
    )
    async with healthy(ground, "session_service", harmed=False) as world:
        findings = await run_environment(world.environment, [*world.checks, broken])
    wrong = [each for each in findings if each.severity > Severity.INFO]
    assert [each.check for each in wrong] == ["environment.broken"]
    assert "could not be run" in wrong[0].observed


@pytest.mark.parametrize("process", ["session_service", "subscription_service", "progress_service"])
async def test_nothing_is_wrong_behind_pgbouncer(ground: Ground, process: str) -> None:
    async with (
        healthy(ground, process, harmed=False) as world,
        pgbouncer(world.environ["HOMEROOM_DATABASE_URL"]) as (address,),
    ):
        world.environ["HOMEROOM_DATABASE_URL"] = address
        world.environ["HOMEROOM_DATABASE_STATEMENT_CACHE"] = "0"
        assert await world.faults() == []


async def test_a_service_that_serves_lends_two_connections_and_keeps_its_pool(ground: Ground) -> None:
    async with healthy(ground, "session_service", harmed=False) as world:
        database = await Database.connect(world.environ["HOMEROOM_DATABASE_URL"], maximum=8)
        try:
            findings = await run_environment(
                environment_of(
                    "session_service",
                    CONFIGS["session_service"],
                    world.environ,
                    migrations=migration_folders("session_service"),
                    database=database,
                    limits=PATIENT,
                ),
                [*ENVIRONMENT_CHECKS, *OWN_CHECKS["session_service"]],
            )
            assert [each for each in findings if each.severity > Severity.INFO] == []
            assert database.pool_size <= CONNECTIONS_MAX
            await database.ping()
        finally:
            await database.close()


@pytest.mark.parametrize("process", ["session_service", "subscription_service", "progress_service"])
async def test_the_checks_write_nothing(ground: Ground, process: str) -> None:
    """So they all run where nothing can be written."""
    async with healthy(ground, process) as world:
        await world.as_superuser(
            "DO $$ BEGIN EXECUTE format("
            "'ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$"
        )
        assert [each.check for each in await world.faults()] == ["environment.database_writable"]
