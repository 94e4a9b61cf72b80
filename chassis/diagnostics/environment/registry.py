"""The checks of the environment of every process."""

from __future__ import annotations

from chassis.diagnostics.environment import database, machine, redis, rights, schema
from chassis.diagnostics.environment.checking import Environment, EnvironmentCheck, Need
from chassis.diagnostics.findings import Severity

PAGE = "docs/operations/diagnose.md"


def _database(environment: Environment) -> bool:
    return environment.has_database


def _schema(environment: Environment) -> bool:
    return environment.has_database and schema.file_of(environment) is not None


def _about_database(environment: Environment) -> dict[str, str]:
    return {"database": database.address_of(environment.database_url)}


def _about_redis(environment: Environment) -> dict[str, str]:
    return {"address": redis.address_of(environment.redis_url)}


def _redis(environment: Environment) -> bool:
    return environment.redis_url is not None


ENVIRONMENT_CHECKS: tuple[EnvironmentCheck, ...] = (
    EnvironmentCheck(
        "environment.configuration",
        Severity.CRITICAL,
        "The process refuses to start with its configuration, or does other than was meant.",
        "Change the variable that is named; where two are named, they contradict each other.",
        machine.look_configuration,
    ),
    EnvironmentCheck(
        "environment.certificate",
        Severity.CRITICAL,
        "Calls between the processes fail when the certificate cannot be used.",
        "Renew the files; the process reads them again by itself (docs/operations/tls.md).",
        machine.look_certificate,
        applies=lambda each: each.tls is not None,
    ),
    EnvironmentCheck(
        "environment.targets",
        Severity.HIGH,
        "Calls to this process fail, so learners are refused.",
        "Start the process that is named, or correct its address.",
        machine.look_targets,
        applies=lambda each: bool(machine.targets_of(each)),
    ),
    EnvironmentCheck(
        "environment.database_reachable",
        Severity.CRITICAL,
        "The service cannot do its work without its database.",
        "Start PostgreSQL; or correct host, user, password or name in HOMEROOM_DATABASE_URL.",
        database.look_reachable,
        opens=Need.DATABASE,
        unable=Severity.CRITICAL,
        applies=_database,
        about=_about_database,
    ),
    EnvironmentCheck(
        "environment.database_writable",
        Severity.CRITICAL,
        "No learner's action can be stored.",
        "Let HOMEROOM_DATABASE_URL name the primary; reset default_transaction_read_only.",
        database.look_writable,
        needs=Need.DATABASE,
        applies=_database,
    ),
    EnvironmentCheck(
        "environment.schema_version",
        Severity.CRITICAL,
        "The service refuses to serve on another schema than its own.",
        "Run `python -m SERVICE migrate`, or deploy the program that has these migrations.",
        schema.look_version,
        needs=Need.DATABASE,
        unable=Severity.HIGH,
        applies=_database,
    ),
    EnvironmentCheck(
        "environment.schema_columns",
        Severity.CRITICAL,
        "Statements fail that use a column which is missing or of another type.",
        f"Bring back what the migrations have made ({PAGE}).",
        schema.look_columns,
        needs=Need.DATABASE,
        applies=_schema,
    ),
    EnvironmentCheck(
        "environment.schema_constraints",
        Severity.CRITICAL,
        "Nothing keeps wrong rows out any more, or nobody knows whether old rows are right.",
        f"Add or validate the constraint again ({PAGE}); then run the other checks.",
        schema.look_constraints,
        needs=Need.DATABASE,
        applies=_schema,
    ),
    EnvironmentCheck(
        "environment.schema_indexes",
        Severity.CRITICAL,
        "Without a unique index a learner's action may count twice or fail; without another one all is slow.",
        f"Create the index again with CREATE INDEX CONCURRENTLY ({PAGE}).",
        schema.look_indexes,
        needs=Need.DATABASE,
        applies=_schema,
    ),
    EnvironmentCheck(
        "environment.role_rights",
        Severity.CRITICAL,
        "With too few rights the service fails; with too many a mistake in it can destroy the schema.",
        "Give the role exactly the rights of deploy/postgres/create-databases.sh.",
        rights.look_rights,
        needs=Need.DATABASE,
        applies=_database,
    ),
    EnvironmentCheck(
        "environment.database_durable",
        Severity.HIGH,
        "After a crash of the server, actions that were confirmed to learners may be lost.",
        "Set fsync, full_page_writes and synchronous_commit to on.",
        database.look_durable,
        needs=Need.DATABASE,
        applies=_database,
    ),
    EnvironmentCheck(
        "environment.database_settings",
        Severity.HIGH,
        "What a person reads is in another time than the logs, or statements work otherwise than intended.",
        "ALTER DATABASE … SET timezone = 'UTC' and default_transaction_isolation = 'read committed'.",
        database.look_settings,
        needs=Need.DATABASE,
        applies=_database,
    ),
    EnvironmentCheck(
        "environment.database_round_trip",
        Severity.HIGH,
        "Every action of a learner takes several round trips, so all are slow.",
        "Run the service in the same zone as its database.",
        database.look_round_trip,
        needs=Need.DATABASE,
        applies=_database,
    ),
    EnvironmentCheck(
        "environment.database_clock",
        Severity.HIGH,
        "Deadlines are by the database's clock and tokens by the gateway's: learners are cut off too soon.",
        "Synchronize both machines with NTP.",
        database.look_clock,
        needs=Need.DATABASE,
        applies=_database,
    ),
    EnvironmentCheck(
        "environment.database_connections",
        Severity.HIGH,
        "A process that starts, or needs more connections, is refused.",
        "Raise max_connections, lower HOMEROOM_DATABASE_CONNECTIONS_MAX, or use pgbouncer.",
        database.look_connections,
        needs=Need.DATABASE,
        applies=_database,
    ),
    EnvironmentCheck(
        "environment.long_transactions",
        Severity.HIGH,
        "Old rows cannot be removed while a transaction is open, and its locks may stop learners.",
        "End the session with pg_terminate_backend(pid); end a prepared one with ROLLBACK PREPARED 'gid'.",
        database.look_long_transactions,
        needs=Need.DATABASE,
        applies=_database,
    ),
    EnvironmentCheck(
        "environment.transaction_age",
        Severity.CRITICAL,
        "The server refuses all writes before its transaction numbers wrap around.",
        "Find what holds autovacuum back (environment.long_transactions), then VACUUM FREEZE.",
        database.look_transaction_age,
        needs=Need.DATABASE,
        applies=_database,
    ),
    EnvironmentCheck(
        "environment.autovacuum",
        Severity.HIGH,
        "Tables grow and plans become wrong until everything is slow.",
        "Set autovacuum and track_counts to on; ALTER TABLE … RESET (autovacuum_enabled).",
        database.look_autovacuum,
        needs=Need.DATABASE,
        applies=_database,
    ),
    EnvironmentCheck(
        "environment.disk_space",
        Severity.CRITICAL,
        "PostgreSQL stops when its disk is full.",
        "Free space on the disk of the folder, or enlarge it.",
        machine.look_disk,
        applies=lambda each: each.database_folder is not None,
    ),
    EnvironmentCheck(
        "environment.redis_reachable",
        Severity.MEDIUM,
        "Answers are as right without Redis, but slower, and each gateway counts rate limits alone.",
        "Start Redis, or correct HOMEROOM_REDIS_URL.",
        redis.look_reachable,
        opens=Need.REDIS,
        applies=_redis,
        about=_about_redis,
    ),
    EnvironmentCheck(
        "environment.redis_latency",
        Severity.MEDIUM,
        "Reads of the cache give up after 50 ms, so a slow Redis is of no use.",
        "Run Redis in the same zone; look at SLOWLOG.",
        redis.look_latency,
        needs=Need.REDIS,
        applies=_redis,
    ),
    EnvironmentCheck(
        "environment.redis_eviction",
        Severity.MEDIUM,
        "A Redis that evicts nothing refuses writes when it is full, and the cache stops working.",
        "Set maxmemory and `maxmemory-policy allkeys-lru`.",
        redis.look_eviction,
        needs=Need.REDIS,
        applies=_redis,
    ),
    EnvironmentCheck(
        "environment.redis_memory",
        Severity.MEDIUM,
        "A Redis that is full and evicts nothing refuses writes.",
        "Raise maxmemory, or set `maxmemory-policy allkeys-lru`.",
        redis.look_memory,
        needs=Need.REDIS,
        applies=_redis,
    ),
    EnvironmentCheck(
        "environment.redis_writable",
        Severity.MEDIUM,
        "The cache and the shared rate limits cannot be written.",
        "Name the primary in HOMEROOM_REDIS_URL, and run it without persistence.",
        redis.look_writable,
        needs=Need.REDIS,
        applies=_redis,
    ),
)
"""In the order in which a person looks: what stops the process first."""
