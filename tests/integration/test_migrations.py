"""Migrations are applied once and in order, and a service that does not know its schema does not serve."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from chassis.postgres import Connection, Database, migrations
from chassis.postgres.errors import DatabaseUnavailable
from chassis.postgres.migrations import FOLDER, MigrationError, SchemaMismatch, check, load, migrate
from homeroom.embedded.provisioning import ServiceDatabase

CHASSIS = [str(migration) for migration in load({"chassis": FOLDER})]
CREATE_NOTES = "CREATE TABLE notes (user_id text CONSTRAINT notes_once PRIMARY KEY);"


@pytest.fixture
async def owner(empty_database: ServiceDatabase) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(empty_database.owner)
    yield connection
    await connection.close()


@pytest.fixture
async def service(empty_database: ServiceDatabase) -> AsyncIterator[Database]:
    database = await Database.connect(empty_database.service, maximum=2)
    yield database
    await database.close()


Write = Callable[[dict[str, str]], dict[str, Path]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes migration files of a component `notes`; the mapping to give to `migrate`."""

    def write(files: dict[str, str]) -> dict[str, Path]:
        for name, sql in files.items():
            (tmp_path / name).write_text(sql, encoding="utf-8")
        return {"notes": tmp_path}

    return write


async def versions(connection: Connection) -> list[tuple[str, int, str]]:
    rows = await connection.fetch(
        "SELECT component, version, name FROM schema_migrations ORDER BY applied_at, component, version"
    )
    return [(row["component"], row["version"], row["name"]) for row in rows]


async def test_missing_migrations_are_applied_in_order_and_only_once(
    empty_database: ServiceDatabase, owner: Connection, write: Write
) -> None:
    folders = {
        "chassis": FOLDER,
        **write(
            {"001_create_notes.sql": CREATE_NOTES, "002_add_body.sql": "ALTER TABLE notes ADD body text;"}
        ),
    }
    applied = await migrate(empty_database.owner, folders)
    assert [str(each) for each in applied] == [
        *CHASSIS,
        "notes 001_create_notes",
        "notes 002_add_body",
    ]
    assert await versions(owner) == [(each.component, each.version, each.name) for each in applied]
    assert await migrate(empty_database.owner, folders) == []
    write({"003_add_stars.sql": "ALTER TABLE notes ADD stars bigint;"})
    assert [each.version for each in await migrate(empty_database.owner, folders)] == [3]


async def test_the_service_role_may_use_the_tables_but_not_change_them(
    empty_database: ServiceDatabase, service: Database
) -> None:
    await migrate(empty_database.owner, {"chassis": FOLDER})
    await check(service, {"chassis": FOLDER})
    connection = await asyncpg.connect(empty_database.service)
    try:
        await connection.execute(
            "INSERT INTO outbox (user_id, event_id, topic, payload) "
            "VALUES ('ann', gen_random_uuid(), 'results', '')"
        )
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("ALTER TABLE outbox ADD note text")
    finally:
        await connection.close()


async def test_twenty_at_once_apply_each_migration_once(
    empty_database: ServiceDatabase, owner: Connection, write: Write
) -> None:
    folders = {
        "chassis": FOLDER,
        **write(
            {f"{n:03d}_create_notes_{n}.sql": f"CREATE TABLE notes_{n} (id bigint);" for n in range(1, 6)}
        ),
    }
    results = await asyncio.gather(*(migrate(empty_database.owner, folders) for _ in range(20)))
    assert sorted(str(each) for result in results for each in result) == sorted(map(str, load(folders)))
    assert len(await versions(owner)) == len(CHASSIS) + 5


@pytest.mark.timeout(120)
async def test_separate_processes_at_once_apply_each_migration_once(
    empty_database: ServiceDatabase, owner: Connection
) -> None:
    program = (
        "import asyncio, sys; from chassis.postgres.migrations import FOLDER, migrate; "
        "print(len(asyncio.run(migrate(sys.argv[1], {'chassis': FOLDER}))))"
    )
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, empty_database.owner, stdout=subprocess.PIPE
        )
        for _ in range(4)
    ]
    outputs = [(await process.communicate())[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert sum(int(output) for output in outputs) == len(CHASSIS)
    assert len(await versions(owner)) == len(CHASSIS)


async def test_a_failing_migration_leaves_nothing_of_itself_and_stops_there(
    empty_database: ServiceDatabase, owner: Connection, write: Write
) -> None:
    folders = write(
        {
            "001_create_notes.sql": CREATE_NOTES,
            "002_add_broken.sql": "CREATE TABLE half (id bigint); SELECT 1 / 0;",
            "003_add_body.sql": "ALTER TABLE notes ADD body text;",
        }
    )
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(empty_database.owner, folders)
    assert await versions(owner) == [("notes", 1, "create_notes")]
    assert await owner.fetchval("SELECT to_regclass('half')") is None


async def test_a_file_that_ends_its_own_transaction_is_refused(
    empty_database: ServiceDatabase, owner: Connection, write: Write
) -> None:
    folders = write({"001_create_notes.sql": f"{CREATE_NOTES} COMMIT;"})
    with pytest.raises(MigrationError, match="must not end its transaction itself"):
        await migrate(empty_database.owner, folders)


async def test_a_file_that_changed_after_it_was_applied_is_refused_everywhere(
    empty_database: ServiceDatabase, service: Database, write: Write
) -> None:
    folders = write({"001_create_notes.sql": CREATE_NOTES})
    await migrate(empty_database.owner, folders)
    write({"001_create_notes.sql": CREATE_NOTES + " -- a harmless comment"})
    with pytest.raises(MigrationError, match="notes 001_create_notes was changed"):
        await migrate(empty_database.owner, folders)
    with pytest.raises(SchemaMismatch, match="notes 001_create_notes was changed"):
        await check(service, folders)


async def test_line_ends_of_another_system_are_not_a_change(
    empty_database: ServiceDatabase, write: Write, tmp_path: Path
) -> None:
    folders = write({"001_create_notes.sql": CREATE_NOTES.replace("(", "(\n")})
    await migrate(empty_database.owner, folders)
    path = tmp_path / "001_create_notes.sql"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert await migrate(empty_database.owner, folders) == []


async def test_a_service_refuses_an_empty_database_and_says_what_to_run(service: Database) -> None:
    with pytest.raises(SchemaMismatch, match="`migrate`"):
        await check(service, {"chassis": FOLDER})


async def test_a_service_refuses_a_database_that_lacks_a_migration(
    empty_database: ServiceDatabase, service: Database, write: Write
) -> None:
    folders = write({"001_create_notes.sql": CREATE_NOTES})
    await migrate(empty_database.owner, folders)
    await check(service, folders)
    write({"002_add_body.sql": "ALTER TABLE notes ADD body text;"})
    with pytest.raises(SchemaMismatch, match=r"lacks notes 002_add_body.*`migrate`"):
        await check(service, folders)


TOMORROW = "ALTER TABLE notes ADD body text;"
DAY_AFTER = "ALTER TABLE notes DROP body;"


async def test_an_older_program_serves_on_a_newer_database_and_says_so(
    empty_database: ServiceDatabase,
    service: Database,
    owner: Connection,
    write: Write,
    tmp_path: Path,
) -> None:
    folders = write({"001_create_notes.sql": CREATE_NOTES, "002_add_body.sql": TOMORROW})
    await migrate(empty_database.owner, folders)
    (tmp_path / "002_add_body.sql").unlink()
    with capture_logs() as lines:
        await check(service, folders)
    assert [(line["event"], line["migrations"]) for line in lines] == [
        ("newer_schema_accepted", ["notes 002_add_body"])
    ]
    assert await migrate(empty_database.owner, folders) == []
    assert len(await versions(owner)) == 2
    write({"002_add_body.sql": TOMORROW, "003_add_stars.sql": "ALTER TABLE notes ADD stars bigint;"})
    assert [each.version for each in await migrate(empty_database.owner, folders)] == [3]


@pytest.mark.parametrize("known", [1, 2, 3])
async def test_a_migration_that_takes_something_away_says_who_can_serve_after_it(
    empty_database: ServiceDatabase, service: Database, write: Write, tmp_path: Path, known: int
) -> None:
    files = {
        "001_create_notes.sql": CREATE_NOTES,
        "002_add_body.sql": TOMORROW,
        "003_drop_body.sql": f"-- needs: 002\n{DAY_AFTER}",
    }
    folders = write(files)
    assert [each.needs for each in await migrate(empty_database.owner, folders)] == [0, 0, 2]
    for name in list(files)[known:]:
        (tmp_path / name).unlink()
    if known >= 2:
        await check(service, folders)
        assert await migrate(empty_database.owner, folders) == []
        return
    complaint = "newer than this program: it has notes 003_drop_body, which needs .* notes 002"
    with pytest.raises(SchemaMismatch, match=complaint):
        await check(service, folders)
    with pytest.raises(MigrationError, match=complaint):
        await migrate(empty_database.owner, folders)


async def test_a_ledger_from_before_there_were_needs_is_read_and_completed(
    empty_database: ServiceDatabase, service: Database, owner: Connection, write: Write
) -> None:
    folders = write({"001_create_notes.sql": CREATE_NOTES})
    await migrate(empty_database.owner, folders)
    await owner.execute("ALTER TABLE schema_migrations DROP COLUMN needs")
    await check(service, folders)
    assert await migrate(empty_database.owner, folders) == []
    write({"002_add_body.sql": f"-- needs: 001\n{TOMORROW}"})
    assert [each.needs for each in await migrate(empty_database.owner, folders)] == [1]
    needs = await owner.fetch("SELECT needs FROM schema_migrations ORDER BY version")
    assert [row["needs"] for row in needs] == [0, 1]


async def test_a_newer_database_with_a_gap_is_refused(
    empty_database: ServiceDatabase, service: Database, owner: Connection, write: Write
) -> None:
    folders = write({"001_create_notes.sql": CREATE_NOTES, "002_add_body.sql": TOMORROW})
    await migrate(empty_database.owner, folders)
    await owner.execute("UPDATE schema_migrations SET version = 3 WHERE version = 2")
    with pytest.raises(SchemaMismatch, match="lacks migrations before it"):
        await check(service, folders)
    with pytest.raises(MigrationError, match="lacks migrations before it"):
        await migrate(empty_database.owner, folders)


def test_a_migration_needs_an_earlier_one(write: Write) -> None:
    with pytest.raises(MigrationError, match="not an earlier one"):
        load(write({"001_create_notes.sql": f"-- needs: 001\n{CREATE_NOTES}"}))


async def test_nothing_to_apply_waits_for_no_dump(
    empty_database: ServiceDatabase, owner: Connection, write: Write
) -> None:
    folders = write({"001_create_notes.sql": CREATE_NOTES})
    await migrate(empty_database.owner, folders)
    async with owner.transaction():
        await owner.execute("LOCK TABLE schema_migrations IN ACCESS SHARE MODE")
        write({"002_add_body.sql": TOMORROW})
        assert [each.version for each in await migrate(empty_database.owner, folders)] == [2]
        assert await migrate(empty_database.owner, folders) == []


async def test_a_migration_of_a_table_in_use_gives_up_soon_and_tries_again(
    empty_database: ServiceDatabase, owner: Connection, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "DDL_LOCK_TIMEOUT_MS", 50)
    monkeypatch.setattr(migrations, "RETRY_SECONDS_MAX", 0.05)
    folders = write({"001_create_notes.sql": CREATE_NOTES})
    await migrate(empty_database.owner, folders)
    write({"002_add_body.sql": "ALTER TABLE notes ADD body text;"})
    watcher = await asyncpg.connect(empty_database.superuser)
    attempts: set[datetime] = set()
    try:
        async with owner.transaction():
            await owner.execute("LOCK TABLE notes IN ACCESS SHARE MODE")
            migrating = asyncio.create_task(migrate(empty_database.owner, folders))
            async with asyncio.timeout(20):
                while len(attempts) < 3:
                    rows = await watcher.fetch(
                        "SELECT xact_start FROM pg_stat_activity "
                        "WHERE application_name = 'homeroom migrate' AND wait_event_type = 'Lock'"
                    )
                    attempts |= {row["xact_start"] for row in rows}
            assert not migrating.done()
        assert [each.name for each in await migrating] == ["add_body"]
    finally:
        await watcher.close()


async def test_a_migration_that_deadlocks_with_statements_of_the_service_is_tried_again(
    empty_database: ServiceDatabase, owner: Connection, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "RETRY_SECONDS_MAX", 0.05)
    folders = write({"001_create_notes.sql": CREATE_NOTES + CREATE_NOTES.replace("notes", "replies")})
    await migrate(empty_database.owner, folders)
    write({"002_add_body.sql": "ALTER TABLE notes ADD body text; ALTER TABLE replies ADD body text;"})
    statement = await asyncpg.connect(empty_database.superuser)
    try:
        await statement.execute("SET deadlock_timeout = '30s'")  # so the migration is the one to give up
        async with statement.transaction():
            await statement.execute("LOCK TABLE replies IN ACCESS SHARE MODE")
            migrating = asyncio.create_task(migrate(empty_database.owner, folders))
            waits = (
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE application_name = 'homeroom migrate' AND wait_event_type = 'Lock'"
            )
            async with asyncio.timeout(20):
                while not await owner.fetchval(waits):
                    pass
            await statement.execute("LOCK TABLE notes IN ACCESS SHARE MODE")
        assert [each.name for each in await migrating] == ["add_body"]
    finally:
        await statement.close()


@pytest.mark.parametrize(
    "names",
    [
        ["002_create_notes.sql"],
        ["001_create_notes.sql", "003_add_body.sql"],
        ["001_create_notes.sql", "001_create_other.sql"],
        ["1_create_notes.sql"],
        ["001_notes.sql"],
        ["001_Create_Notes.sql"],
        [],
    ],
)
def test_file_names_that_do_not_count_up_from_one_are_refused(write: Write, names: list[str]) -> None:
    folders = write(dict.fromkeys(names, "SELECT 1;"))
    with pytest.raises(MigrationError):
        load(folders)


async def test_a_database_that_nobody_serves_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable):
        await migrate(f"postgresql://nobody@/nothing?host={tmp_path}&port=1", {"chassis": FOLDER})
