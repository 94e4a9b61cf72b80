"""Dumps of a cluster without services: what a restore compares, refuses, migrates and leaves alone."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from chassis.postgres.migrations import migrate
from homeroom.backups import dumping, manifest, restoring
from homeroom.backups.manifest import BackupError, Manifest
from homeroom.backups.restoring import Restored
from homeroom.backups.swapping import discard, list_kept
from homeroom.data_directory import DataDirectory
from homeroom.embedded.clusters import cluster_of
from homeroom.embedded.provisioning import grant_database, provision, service_database
from homeroom.schema import is_current, migration_folders
from homeroom.services import STORES
from tests.support.databases import FAST_SETTINGS
from tests.support.waiting import eventually

ALL = list(STORES)


class School:
    """The three databases of a data folder, in a PostgreSQL that runs, and a folder for backups."""

    def __init__(self, data: Path, root: Path) -> None:
        self.root = root
        self.data = DataDirectory(data)
        self.data.root.mkdir(exist_ok=True)
        self.cluster = cluster_of(self.data, self.data.secrets(), settings=FAST_SETTINGS)

    async def back_up(self, name: str, databases: list[str] = ALL) -> Manifest:
        return await dumping.back_up(
            self.data, self.root / name, databases, say=lambda _: None, show=lambda _: None
        )

    async def restore(self, name: str, databases: list[str] = ALL) -> list[Restored]:
        folder, emptied = self.root / name, []

        async def empty_cache() -> None:
            emptied.append(True)

        found = restoring.check(folder, databases, say=lambda _: None)
        restored = await restoring.restore(
            self.data,
            self.cluster,
            folder,
            {name: found.dumps[name] for name in databases},
            empty_cache=empty_cache,
            say=lambda _: None,
            show=lambda _: None,
        )
        assert emptied
        return restored

    @asynccontextmanager
    async def connected(self, database: str, role: str = "") -> AsyncIterator[asyncpg.Connection]:
        """As the superuser, or as the `owner` or `service` of the database."""
        addresses = service_database(
            self.cluster, self.data.secrets(), database=database, service=database.partition("_")[0]
        )
        connection = await asyncpg.connect(getattr(addresses, role or "superuser"))
        try:
            yield connection
        finally:
            await connection.close()

    async def tell(self, database: str, statement: str, *, role: str = "") -> Any:
        async with self.connected(database, role) as connection:
            return await connection.fetchval(statement)

    async def add_event(self, topic: str) -> None:
        async with self.connected("session", "service") as connection:
            await connection.execute(
                "INSERT INTO outbox (user_id, event_id, topic, payload)"
                " VALUES ('ann', gen_random_uuid(), $1, '')",
                topic,
            )

    async def events(self) -> list[str]:
        async with self.connected("session", "service") as connection:
            return [row["topic"] for row in await connection.fetch("SELECT topic FROM outbox ORDER BY 1")]

    async def databases(self) -> set[str]:
        """All but those that every test has."""
        async with self.connected("postgres") as connection:
            rows = await connection.fetch(
                "SELECT datname FROM pg_database WHERE datname <> 'postgres' AND datname !~ 'template'"
            )
        return {row["datname"] for row in rows}


@pytest.fixture(scope="module")
async def cluster() -> AsyncIterator[School]:
    """A running PostgreSQL with a template of each database."""
    root = Path(tempfile.mkdtemp(prefix="homeroom-tests-"))
    school = School(root / "data", root)
    try:
        await school.cluster.start()
        for database, service in STORES.items():
            made = await provision(school.cluster, school.data.secrets(), database)
            await migrate(made.owner, migration_folders(service.package))
            await school.tell("postgres", f"ALTER DATABASE {database} RENAME TO {database}template")
        yield school
    finally:
        await school.cluster.stop(immediately=True)
        shutil.rmtree(root)


@pytest.fixture
async def school(cluster: School) -> School:
    """A school with the events `physics` and `latin`; they stand for all that a service writes."""
    school = School(cluster.data.root, Path(tempfile.mkdtemp(dir=cluster.root)))
    for name in await school.databases():
        await school.tell("postgres", f'DROP DATABASE "{name}" WITH (FORCE)')
    for name in ALL:
        await school.tell(
            "postgres",
            f"CREATE DATABASE {name} TEMPLATE {name}template OWNER {name}_owner STRATEGY file_copy",
        )
        async with school.connected("postgres") as admin:
            await grant_database(admin, database=name, service=name)
    for topic in ("physics", "latin"):
        await school.add_event(topic)
    return school


async def test_a_restored_database_has_what_the_backup_had_and_the_old_one_is_kept(school: School) -> None:
    made = await school.back_up("backup")
    assert list(made.dumps) == ["session", "progress", "subscription"]
    assert made.dumps["session"].rows["outbox"] == 2
    await school.add_event("greek")
    (restored,) = await school.restore("backup", ["session"])
    assert await school.events() == ["latin", "physics"]
    assert restored.kept is not None
    assert await school.tell(restored.kept, "SELECT count(*) FROM outbox") == 3
    async with school.connected("postgres") as admin:
        assert await list_kept(admin) == [restored.kept]
        with pytest.raises(BackupError, match="session is no database that a restore has kept"):
            await discard(admin, "session")
        await discard(admin, restored.kept)
    assert await school.databases() == {"session", "progress", "subscription"}


async def test_the_roles_have_the_rights_that_they_had(school: School) -> None:
    async def rights(database: str) -> Any:
        async with school.connected(database) as connection:
            return [
                tuple(row)
                for row in await connection.fetch(
                    """
                    SELECT relname::text, relkind::text, relowner::regrole::text,
                           has_table_privilege($1, oid, 'SELECT, INSERT, UPDATE, DELETE'),
                           has_table_privilege($1, oid, 'TRUNCATE, REFERENCES, TRIGGER'),
                           has_table_privilege('postgres', oid, 'SELECT')
                      FROM pg_class
                     WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
                     ORDER BY relname
                    """,
                    f"{database}_service",
                )
            ] + [
                tuple(row)
                for row in await connection.fetch(
                    """
                    SELECT datname::text = $1, datdba::regrole::text,
                           has_database_privilege($2, datname, 'CONNECT'),
                           has_database_privilege($2, datname, 'CREATE, TEMPORARY'),
                           has_schema_privilege($2, 'public', 'USAGE'),
                           has_schema_privilege($2, 'public', 'CREATE')
                      FROM pg_database WHERE datname = current_database()
                    """,
                    database,
                    f"{database}_service",
                )
            ]

    before = [await rights(database) for database in ALL]
    await school.back_up("backup")
    await school.restore("backup")
    assert [await rights(database) for database in ALL] == before
    for forbidden in ("CREATE TABLE more (id int)", "DROP TABLE outbox", "TRUNCATE outbox"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await school.tell("session", forbidden, role="service")
    await school.tell("session", "CREATE TABLE later (id int)", role="owner")
    await school.tell("session", "INSERT INTO later VALUES (1)", role="service")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with connected_as(school, role="progress_service", database="session"):
            pass


@asynccontextmanager
async def connected_as(school: School, *, role: str, database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(
        school.cluster.dsn(database, user=role, password=school.data.secrets().get(role))
    )
    try:
        yield connection
    finally:
        await connection.close()


async def test_a_lost_database_is_restored(school: School) -> None:
    await school.back_up("backup")
    await school.tell("postgres", "DROP DATABASE session WITH (FORCE)")
    with pytest.raises(BackupError, match="the database session is missing"):
        await school.back_up("without")
    assert not (school.root / "without").exists()
    await school.back_up("others", ["subscription", "progress"])
    (restored,) = await school.restore("backup", ["session"])
    assert restored.kept is None
    assert await school.events() == ["latin", "physics"]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_cut, "damaged: it has .* bytes"),
        (_flip, "damaged: its SHA-256"),
        (Path.unlink, "cannot be read: No such file"),
    ],
    ids=["cut", "flipped", "missing"],
)
async def test_a_damaged_dump_is_refused_before_anything_is_touched(
    school: School, spoil: Callable[[Path], None], complaint: str
) -> None:
    await school.back_up("backup")
    before = await school.databases()
    spoil(school.root / "backup" / "progress.dump")
    with pytest.raises(BackupError, match=complaint):
        await school.restore("backup")
    assert await school.databases() == before
    assert len(await school.restore("backup", ["session", "subscription"])) == 2


async def test_a_dump_that_cannot_be_restored_changes_nothing(school: School) -> None:
    await school.back_up("backup")
    before = await school.databases()
    dump = school.root / "backup" / "subscription.dump"
    content = dump.read_bytes()
    dump.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    change_manifest(school, "subscription", sha256=manifest.sha256_of(dump))
    await school.add_event("greek")
    with pytest.raises(BackupError):
        await school.restore("backup")
    assert await school.databases() == before
    assert await school.events() == ["greek", "latin", "physics"]


async def test_a_copy_with_other_rows_than_the_manifest_is_refused(school: School) -> None:
    made = await school.back_up("backup")
    rows = dict(made.dumps["session"].rows) | {"outbox": 3}
    change_manifest(school, "session", rows=rows)
    with pytest.raises(BackupError, match="outbox has 2, not 3"):
        await school.restore("backup")


def change_manifest(school: School, database: str, **changes: Any) -> None:
    path = school.root / "backup" / manifest.FILE_NAME
    content = json.loads(path.read_text())
    content["dumps"][database] |= changes
    path.write_text(json.dumps(content))


async def test_a_dump_of_a_newer_schema_is_refused(school: School) -> None:
    await school.tell(
        "progress",
        "INSERT INTO schema_migrations (component, version, name, checksum) VALUES"
        " ('progress_service', 999, 'add_tomorrow', 'x')",
    )
    await school.back_up("backup")
    with pytest.raises(BackupError, match="migration 999 of progress_service"):
        await school.restore("backup")


async def test_a_dump_of_an_older_schema_is_migrated(school: School) -> None:
    folders = migration_folders("progress_service")
    older = school.root / "older"
    shutil.copytree(folders["progress_service"], older)
    max(older.glob("*.sql")).unlink()
    await school.tell("postgres", "DROP DATABASE progress WITH (FORCE)")
    made = await provision(school.cluster, school.data.secrets(), "progress")
    await migrate(made.owner, {**folders, "progress_service": older})
    assert not await is_current(STORES["progress"], made.owner)
    await school.back_up("backup")
    restored = {each.database: each for each in await school.restore("backup")}
    assert {name: each.migrated for name, each in restored.items()} == {
        "session": False,
        "progress": True,
        "subscription": False,
    }
    assert await is_current(STORES["progress"], made.owner)


async def test_new_changes_of_licenses_have_numbers_that_nobody_has_read(school: School) -> None:
    next_number = "SELECT (origin + pg_current_xact_id()::text::bigint) << 16 FROM license_feed"
    await school.back_up("backup")
    for _ in range(50):
        last = await school.tell("subscription", next_number)
    fresh = School(school.root / "fresh", school.root)
    try:
        await fresh.cluster.start()
        await fresh.restore("backup")
        assert await fresh.tell("subscription", next_number) > last
    finally:
        await fresh.cluster.stop(immediately=True)


async def test_the_janitor_looks_at_all_holds_again_only_when_the_holds_went_back(school: School) -> None:
    count = "SELECT count(*) FROM hold_watermarks"
    await school.tell(
        "session", "INSERT INTO hold_watermarks VALUES ('method', now(), 'ann', gen_random_uuid())"
    )
    await school.back_up("backup")
    await school.restore("backup", ["progress", "session"])
    assert await school.tell("session", count) == 1
    await school.restore("backup", ["subscription"])
    assert await school.tell("session", count) == 0
    await school.restore("backup", ["session", "subscription"])
    assert await school.tell("session", count) == 0


async def test_a_client_that_stays_connected_does_not_keep_a_restore_from_its_end(school: School) -> None:
    await school.back_up("backup")
    async with school.connected("session", "service") as stubborn:
        await stubborn.execute("BEGIN; UPDATE outbox SET topic = 'greek' WHERE topic = 'latin'")
        await school.restore("backup")
        await eventually(stubborn.is_closed)
    assert await school.events() == ["latin", "physics"]


async def test_a_folder_that_holds_anything_is_no_place_for_a_backup(school: School) -> None:
    await school.back_up("backup")
    kept = {path.name: path.read_bytes() for path in (school.root / "backup").iterdir()}
    with pytest.raises(BackupError, match="holds a backup already"):
        await school.back_up("backup")
    assert {path.name: path.read_bytes() for path in (school.root / "backup").iterdir()} == kept
    (school.root / "photos").mkdir()
    (school.root / "photos" / "cat.jpg").touch()
    with pytest.raises(BackupError, match=r"holds cat\.jpg already"):
        await school.back_up("photos")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "no finished backup"),
        ("{", "cannot be read"),
        ("[]", "is not the manifest"),
        ('{"format": 2}', "format 2"),
        ('{"format": 1, "dumps": {"session": {"file": "x"}}}', "is not the manifest"),
    ],
)
def test_a_folder_without_a_manifest_that_can_be_read_is_no_backup(
    tmp_path: Path, content: str | None, complaint: str
) -> None:
    if content is not None:
        (tmp_path / manifest.FILE_NAME).write_text(content)
    with pytest.raises(BackupError, match=complaint):
        manifest.read(tmp_path)
