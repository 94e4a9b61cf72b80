"""Faults of a database server, and of the way to it."""

from __future__ import annotations

import asyncio
import re
import types

import asyncpg
import pytest

from chassis.diagnostics.environment import database
from chassis.diagnostics.findings import Severity
from tests.environment.planting import planting
from tests.environment.world import World, run
from tests.support.proxy import proxying
from tests.support.waiting import eventually

SESSION, SUBSCRIPTION, PROGRESS = "session_service", "subscription_service", "progress_service"
URL = "HOMEROOM_DATABASE_URL"


@planting("database_reachable", SESSION, Severity.CRITICAL, "refuses the user or the password")
async def a_wrong_password(world: World) -> None:
    world.environ[URL] = re.sub(r":[^:@/]+@", ":not-the-password@", world.environ[URL])


@planting("database_reachable", SESSION, Severity.CRITICAL, "refuses the user or the password")
async def an_unknown_user(world: World) -> None:
    world.environ[URL] = world.environ[URL].replace("session_service:", "nobody:")


@planting("database_reachable", SESSION, Severity.CRITICAL, "no database of this name")
async def an_unknown_database(world: World) -> None:
    world.environ[URL] = re.sub(r"@/\w+\?", "@/no_such_database?", world.environ[URL])


@planting("database_reachable", SESSION, Severity.CRITICAL, "cannot connect to the database")
async def an_address_where_nothing_listens(world: World) -> None:
    world.environ[URL] = "postgresql://session_service:pass-word@127.0.0.1:1/session"


@planting("database_reachable", SESSION, Severity.CRITICAL, "cannot connect to the database")
async def a_server_that_is_stopped(world: World) -> None:
    world.environ[URL] = re.sub(r"host=[^&]+", f"host={world.ground.folder}/nowhere", world.environ[URL])


@planting("database_reachable", SESSION, Severity.CRITICAL, "the user may not connect to this database")
async def a_database_of_another_service(world: World) -> None:
    """Its name is right, but the role may not connect."""
    other = world.ground.databases.fresh("progress")
    theirs = await other.__aenter__()

    async def leave() -> None:
        await other.__aexit__(None, None, None)

    world.at_end(leave)
    name = re.search(r"@/(\w+)\?", theirs.service)
    assert name is not None
    world.environ[URL] = re.sub(r"@/\w+\?", f"@/{name[1]}?", world.environ[URL])


@planting("database_reachable", SESSION, Severity.CRITICAL, "no answer within 0.5 s")
async def a_server_that_never_answers(world: World) -> None:
    port = await silent_port(world)
    world.environ[URL] = f"postgresql://session_service:pass-word@127.0.0.1:{port}/session"
    world.limit(open_seconds_max=0.5)


@planting("database_reachable", SESSION, Severity.CRITICAL, "not a URI")
async def an_address_that_is_none(world: World) -> None:
    world.environ[URL] = "postgresql://session_service:pass-word@[half/session"


@planting("database_writable", SESSION, Severity.CRITICAL, "transactions are read-only")
async def a_read_only_database(world: World) -> None:
    await _set(world, "default_transaction_read_only = on")


@planting("database_durable", PROGRESS, Severity.HIGH, "synchronous_commit is off")
async def commits_that_do_not_wait_for_the_disk(world: World) -> None:
    await _set(world, "synchronous_commit = off")


@planting("database_settings", PROGRESS, Severity.MEDIUM, "the time zone is Europe/Berlin")
async def another_time_zone(world: World) -> None:
    await _set(world, "timezone = 'Europe/Berlin'")


@planting("database_settings", PROGRESS, Severity.HIGH, "the isolation is serializable")
async def another_isolation(world: World) -> None:
    await _set(world, "default_transaction_isolation = 'serializable'")


@planting("database_round_trip", SESSION, Severity.MEDIUM, "a round trip takes")
async def a_database_far_away(world: World) -> None:
    """30 ms in each direction; no machine of a test is so slow for the fastest of five answers otherwise."""
    proxy_context = proxying(world.ground.port)
    proxy = await proxy_context.__aenter__()
    proxy.latency_seconds = 0.03

    async def leave() -> None:
        await proxy_context.__aexit__(None, None, None)

    world.at_end(leave)
    credentials, name = re.findall(r"//([^@]+)@/(\w+)\?", world.environ[URL])[0]
    world.environ[URL] = f"postgresql://{credentials}@127.0.0.1:{proxy.port}/{name}"
    world.limit(round_trip_ms_medium=50.0, round_trip_ms_high=10_000.0)


@planting("database_clock", SESSION, Severity.HIGH, "behind this process'")
async def a_process_whose_clock_is_an_hour_ahead(world: World) -> None:
    _shift_clock(world, 3600.0)


@planting("database_clock", SESSION, Severity.MEDIUM, "ahead of this process'")
async def a_process_whose_clock_is_ten_seconds_behind(world: World) -> None:
    world.limit(clock_seconds_high=60.0)
    _shift_clock(world, -10.0)


@planting("database_connections", SUBSCRIPTION, Severity.HIGH, "connections of the database are left")
async def a_database_that_allows_few_connections(world: World) -> None:
    """Two are left: as many as the checks need."""
    await world.as_superuser(f'ALTER DATABASE "{_name(world)}" CONNECTION LIMIT 6')
    for _ in range(4):
        connection = await asyncpg.connect(world.environ[URL])
        world.at_end(connection.close)


@planting("database_connections", SUBSCRIPTION, Severity.MEDIUM, "connections of the server are left")
async def a_pool_that_is_larger_than_the_server(world: World) -> None:
    world.environ["HOMEROOM_DATABASE_CONNECTIONS_MAX"] = "200"


@planting("long_transactions", SESSION, Severity.MEDIUM, "(idle in transaction)")
async def a_transaction_that_somebody_has_left_open(world: World) -> None:
    connection = await asyncpg.connect(world.environ[URL])
    world.at_end(connection.close)
    await connection.execute("BEGIN; SELECT 1")
    world.limit(transaction_seconds_medium=0.2)
    await _until_old(world, "SELECT count(*) FROM pg_stat_activity WHERE clock_timestamp() - xact_start")


@planting("long_transactions", SESSION, Severity.HIGH, "is prepared for")
async def a_transaction_that_was_prepared_and_forgotten(world: World) -> None:
    await world.as_service(
        "BEGIN; UPDATE tests SET updated_at = now(); PREPARE TRANSACTION 'forgotten'",
    )

    async def roll_back() -> None:
        await world.as_service("ROLLBACK PREPARED 'forgotten'")

    world.at_end(roll_back)
    world.limit(transaction_seconds_medium=0.2)
    await _until_old(world, "SELECT count(*) FROM pg_prepared_xacts WHERE clock_timestamp() - prepared")


@planting("long_transactions", SESSION, Severity.MEDIUM, "uses a snapshot that is")
async def an_old_snapshot_of_another_role(world: World) -> None:
    """Its times are hidden from the service's role."""
    assert world.database is not None
    connection = await asyncpg.connect(world.database.superuser)
    world.at_end(connection.close)
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM tests")
    await world.as_service(*(["UPDATE tests SET updated_at = now()"] * 5))
    world.limit(snapshot_age_max=3)


@planting("transaction_age", SESSION, Severity.HIGH, "transactions ago")
async def rows_that_are_not_frozen_in_time(world: World) -> None:
    """Of 500 million transactions only the bound is planted."""
    world.limit(transaction_age_medium=1, transaction_age_high=2)


@planting("autovacuum", SESSION, Severity.MEDIUM, "autovacuum is off for answers")
async def a_table_without_autovacuum(world: World) -> None:
    await world.as_owner("ALTER TABLE answers SET (autovacuum_enabled = false)")


@planting("autovacuum", SESSION, Severity.HIGH, "autovacuum is off")
async def a_server_without_autovacuum(world: World) -> None:
    superuser = world.ground.cluster.dsn("postgres")

    async def told(setting: str) -> None:
        await run(superuser, f"ALTER SYSTEM {setting}", "SELECT pg_reload_conf()")

    async def reset() -> None:
        await told("RESET autovacuum")
        await _until_autovacuum_is(superuser, "on")

    world.at_end(reset)
    await told("SET autovacuum = off")
    await _until_autovacuum_is(superuser, "off")


async def silent_port(world: World) -> int:
    """The port of a server that takes everything and answers nothing."""

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)

    async def stop() -> None:
        server.close()

    world.at_end(stop)
    return int(server.sockets[0].getsockname()[1])


async def _set(world: World, setting: str) -> None:
    await world.as_superuser(f'ALTER DATABASE "{_name(world)}" SET {setting}')


def _name(world: World) -> str:
    found = re.search(r"@/(\w+)\?", world.environ[URL])
    assert found is not None
    return found[1]


async def _until_old(world: World, counted: str) -> None:
    assert world.database is not None
    watching = await asyncpg.connect(world.database.superuser)
    try:

        async def old() -> bool:
            return bool(await watching.fetchval(f"{counted} > interval '0.3 s'"))

        await eventually(old)
    finally:
        await watching.close()


async def _until_autovacuum_is(superuser: str, wanted: str) -> None:
    async def settled() -> bool:
        connection = await asyncpg.connect(superuser)
        try:
            return bool(await connection.fetchval("SELECT current_setting('autovacuum') = $1", wanted))
        finally:
            await connection.close()

    await eventually(settled)


def _shift_clock(world: World, seconds: float) -> None:
    patch = pytest.MonkeyPatch()
    real = database.time
    shifted = types.SimpleNamespace(time=lambda: real.time() + seconds, perf_counter=real.perf_counter)
    patch.setattr(database, "time", shifted)

    async def undo() -> None:
        patch.undo()

    world.at_end(undo)
