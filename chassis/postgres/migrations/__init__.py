"""Migrations: bring a database to the schema of a service, and check that it has this schema.

A program serves also on a newer schema than its own, so that a version can be taken back: each migration is
safe while the previous version runs. A migration that takes something away, which older programs still use,
says in its first line which migration of its component a program must know: `-- needs: 027`.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import asyncpg

from chassis.postgres import Connection, Database
from chassis.postgres.errors import DatabaseUnavailable, raise_translated, translate_connecting
from chassis.telemetry.logs import get_logger

FOLDER = Path(__file__).parent
"""The migrations of the chassis' own tables: idempotency keys and outbox. Each service adds this folder."""

MIGRATE_SECONDS_MAX = 600.0
CHECK_SECONDS_MAX = 10.0
# A waiting ALTER TABLE blocks all later statements on the table. So it gives up soon, and tries again later.
DDL_LOCK_TIMEOUT_MS = 2000
RETRY_SECONDS_MAX = 2.0

_ADVISORY_LOCK = 0x486F6D65726F6F6D  # "Homeroom": any number, the same in every release
_FILE_NAME = re.compile(r"(?P<version>\d{3})_(?P<name>[a-z0-9]+(?:_[a-z0-9]+)+)\.sql")
SET_ASIDE = " (set aside)"
"""What an operator adds to a component to go back to a version that serves on no newer schema."""
_NEEDS = re.compile(r"-- needs: (?P<version>\d{3})\n")
_LEDGER = """
    CREATE TABLE IF NOT EXISTS schema_migrations (
        component text NOT NULL,
        version integer NOT NULL,
        name text NOT NULL,
        checksum text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT schema_migrations_once PRIMARY KEY (component, version)
    )
"""
# Ledgers from before this column lack it. It is looked for first: even an ALTER TABLE that changes nothing
# would wait for a dump that reads the table.
_LACKS_NEEDS = """
    SELECT NOT EXISTS (
        SELECT FROM pg_attribute WHERE attrelid = 'schema_migrations'::regclass AND attname = 'needs'
    )
"""
_ADD_NEEDS = "ALTER TABLE schema_migrations ADD COLUMN needs integer NOT NULL DEFAULT 0"

log = get_logger(__name__)


class MigrationError(Exception):
    """The migration files contradict each other, or the applied migrations; nothing was changed."""


class SchemaMismatch(Exception):  # noqa: N818 — named for what is found
    """The database has another schema than this program needs; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    """A file; a program that does not know the migration `needs` of the component cannot serve after it."""

    component: str
    version: int
    name: str
    checksum: str
    sql: str
    needs: int = 0

    def __str__(self) -> str:
        return f"{self.component} {self.version:03d}_{self.name}"


def load(folders: Mapping[str, Path]) -> list[Migration]:
    """Read `NNN_verb_noun.sql`, numbered 001, 002, … in each component's folder, in the order to apply them.

    Components come in the order of the mapping. Raises MigrationError for a wrong name, a gap, or a `needs`
    that is not the number of an earlier file.
    """
    migrations: list[Migration] = []
    for component, folder in folders.items():
        for expected, path in enumerate(sorted(folder.glob("*.sql")), start=1):
            match = _FILE_NAME.fullmatch(path.name)
            if match is None:
                raise MigrationError(f"{path} is not named NNN_verb_noun.sql")
            if int(match["version"]) != expected:
                raise MigrationError(f"{path} should be number {expected:03d}: no gap, no number twice")
            sql = path.read_text(encoding="utf-8")  # universal newlines: every checkout has the same checksum
            checksum = hashlib.sha256(sql.encode()).hexdigest()
            first_line = _NEEDS.match(sql)
            needs = int(first_line["version"]) if first_line else 0
            if needs >= expected:
                raise MigrationError(f"{path} needs {needs:03d}, which is not an earlier one")
            migrations.append(Migration(component, expected, match["name"], checksum, sql, needs))
        if not any(migration.component == component for migration in migrations):
            raise MigrationError(f"there are no migrations in {folder}")
    return migrations


async def migrate(dsn: str, folders: Mapping[str, Path]) -> list[Migration]:
    """Apply the missing migrations, in order, and return them. Many processes may run this at once.

    One transaction applies a file and records it, under a transaction-level advisory lock (which also works
    behind pgbouncer). A file that does not get its locks soon, or that deadlocks with a statement which takes
    the same tables in another order, is rolled back and tried again. A newer database on which this program
    can serve is left as it is.

    Raises MigrationError when an applied file has changed or the database is too new, DatabaseUnavailable,
    DatabaseMisconfigured, and TimeoutError after ten minutes.
    """
    migrations = load(folders)
    applied: list[Migration] = []
    async with asyncio.timeout(MIGRATE_SECONDS_MAX):
        connection = await _connect(dsn)
        try:
            while True:
                migration = await _apply_next_when_unlocked(connection, migrations)
                if migration is None:
                    return applied
                applied.append(migration)
        finally:
            await connection.close(timeout=CHECK_SECONDS_MAX)


async def check(database: Database, folders: Mapping[str, Path]) -> None:
    """Raise SchemaMismatch unless the migrations of these folders have been applied.

    Newer ones may have been applied, too, if none of them needs what this program does not know; a log line
    names them.
    """
    migrations = load(folders)
    deadline = time.monotonic() + CHECK_SECONDS_MAX
    try:
        recorded = await database.read(_recorded, deadline=deadline, name="check_schema")
    except DatabaseUnavailable as error:
        if not isinstance(error.__cause__, asyncpg.UndefinedTableError):
            raise
        raise SchemaMismatch("the database is empty: run this service's `migrate` command first") from error
    newer = _refuse_contradictions(migrations, recorded, SchemaMismatch)
    if missing := [migration for migration in migrations if _key(migration) not in recorded]:
        raise SchemaMismatch(
            f"the database lacks {', '.join(map(str, missing))}: run this service's `migrate` command first"
        )
    if newer:
        log.warning("newer_schema_accepted", migrations=newer)


class Differences(NamedTuple):
    """How the applied migrations differ from those of the program, by name; all empty if they do not."""

    missing: tuple[str, ...]
    changed: tuple[str, ...]
    newer: tuple[str, ...]


async def differences(connection: Connection, folders: Mapping[str, Path]) -> Differences:
    """All differences at once, where `check` raises the first one. An empty database lacks everything."""
    migrations = load(folders)
    empty = await connection.fetchval("SELECT to_regclass('schema_migrations') IS NULL")
    recorded = {} if empty else await _recorded(connection)
    known = {_key(migration): migration for migration in migrations}
    return Differences(
        missing=tuple(str(each) for each in migrations if _key(each) not in recorded),
        changed=tuple(
            str(each)
            for each in migrations
            if _key(each) in recorded and recorded[_key(each)]["checksum"] != each.checksum
        ),
        newer=tuple(
            f"{component} {version:03d}_{row['name']}"
            for (component, version), row in sorted(recorded.items())
            if component in folders and (component, version) not in known
        ),
    )


async def _connect(dsn: str) -> Connection:
    try:
        return await asyncpg.connect(
            dsn,
            timeout=CHECK_SECONDS_MAX,
            statement_cache_size=0,
            server_settings={"application_name": "homeroom migrate"},
        )
    except Exception as error:  # noqa: BLE001 - raised again, translated
        raise_translated(error, translate_connecting(error))


async def _apply_next_when_unlocked(
    connection: Connection, migrations: Sequence[Migration]
) -> Migration | None:
    while True:
        try:
            return await _apply_next(connection, migrations)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            await asyncio.sleep(random.uniform(0, RETRY_SECONDS_MAX))  # noqa: S311 — jitter


async def _apply_next(connection: Connection, migrations: Sequence[Migration]) -> Migration | None:
    """Apply the first migration that is missing, or return None when there is none."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _ADVISORY_LOCK)
        await connection.execute(_LEDGER)
        recorded = await _recorded(connection)
        _refuse_contradictions(migrations, recorded, MigrationError)
        migration = next((each for each in migrations if _key(each) not in recorded), None)
        if migration is None:
            return None
        await connection.execute(f"SET LOCAL lock_timeout = {DDL_LOCK_TIMEOUT_MS:d}")
        if await connection.fetchval(_LACKS_NEEDS):
            await connection.execute(_ADD_NEEDS)
        await connection.execute(migration.sql)
        if not connection.is_in_transaction():
            raise MigrationError(f"{migration} must not end its transaction itself")
        await connection.execute(
            "INSERT INTO schema_migrations (component, version, name, checksum, needs)"
            " VALUES ($1, $2, $3, $4, $5)",
            migration.component,
            migration.version,
            migration.name,
            migration.checksum,
            migration.needs,
        )
        return migration


async def _recorded(connection: Connection) -> dict[tuple[str, int], asyncpg.Record]:
    # Through JSON, because a ledger that no newer program has touched has no column `needs`.
    rows = await connection.fetch(
        """
        SELECT component, version, name, checksum,
               coalesce((to_jsonb(ledger) ->> 'needs')::integer, 0) AS needs
          FROM schema_migrations AS ledger
        """
    )
    return {(row["component"], row["version"]): row for row in rows}


def _refuse_contradictions(
    migrations: Sequence[Migration],
    recorded: Mapping[tuple[str, int], asyncpg.Record],
    error: type[MigrationError | SchemaMismatch],
) -> list[str]:
    """The applied migrations that are newer than this program, none of which keeps it from serving."""
    known = {_key(migration): migration for migration in migrations}
    latest = {migration.component: migration.version for migration in migrations}
    newer = []
    for key, row in sorted(recorded.items()):
        component, version = key
        if component.removesuffix(SET_ASIDE) in latest and component.endswith(SET_ASIDE):
            raise error(
                f"{component} {version:03d}_{row['name']} was set aside for an older version: put it back as "
                "docs/operations/rollback.md says"
            )
        if component not in latest:
            continue  # the component belongs to another program in the same database
        label = f"{component} {version:03d}_{row['name']}"
        if key not in known:
            if row["needs"] > latest[component]:
                raise error(
                    f"the database is newer than this program: it has {label}, which needs a program that "
                    f"knows {component} {row['needs']:03d}; deploy the newer program"
                )
            if (component, latest[component]) not in recorded:
                raise error(f"the database has {label} and lacks migrations before it")
            newer.append(label)
        elif known[key].checksum != row["checksum"]:
            raise error(
                f"{label} was changed after it had been applied: restore the file, and add a new one instead"
            )
    return newer


def _key(migration: Migration) -> tuple[str, int]:
    return migration.component, migration.version
