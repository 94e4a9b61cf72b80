"""Faults of a schema and of a role's rights."""

from __future__ import annotations

from chassis.diagnostics.findings import Severity
from tests.environment.planting import planting
from tests.environment.world import World

SESSION, SUBSCRIPTION, PROGRESS = "session_service", "subscription_service", "progress_service"
ROLE = "session_service"


@planting("schema_version", SESSION, Severity.CRITICAL, "the database lacks session_service 001_create_tests")
async def a_migration_that_was_not_applied(world: World) -> None:
    await world.as_owner("DELETE FROM schema_migrations WHERE component = 'session_service' AND version = 1")


@planting("schema_version", SESSION, Severity.CRITICAL, "another text of session_service 002")
async def a_migration_that_was_changed(world: World) -> None:
    await world.as_owner(
        "UPDATE schema_migrations SET checksum = 'x' WHERE component = 'session_service' AND version = 2"
    )


@planting("schema_version", SESSION, Severity.HIGH, "newer than this program")
async def a_newer_database(world: World) -> None:
    await world.as_owner(
        "INSERT INTO schema_migrations (component, version, name, checksum)"
        " VALUES ('session_service', 900, 'create_future', 'x')"
    )


@planting("schema_version", SUBSCRIPTION, Severity.CRITICAL, "the database lacks", "default_plan", "accounts")
async def a_database_without_tables(world: World) -> None:
    await world.as_owner("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    await world.as_owner('GRANT USAGE ON SCHEMA public TO "subscription_service"')


@planting(
    "schema_columns", SESSION, Severity.CRITICAL, "column answers.choice is missing", "schema_constraints"
)
async def a_column_that_was_dropped(world: World) -> None:
    await world.as_owner("ALTER TABLE answers DROP COLUMN choice")


@planting("schema_columns", SESSION, Severity.CRITICAL, "column sessions.title is another one: text")
async def a_column_that_may_be_empty(world: World) -> None:
    await world.as_owner("ALTER TABLE sessions ALTER COLUMN title DROP NOT NULL")


@planting("schema_columns", SESSION, Severity.CRITICAL, "table hold_watermarks is missing")
async def a_table_that_was_dropped(world: World) -> None:
    await world.as_owner("DROP TABLE hold_watermarks")


@planting("schema_columns", SESSION, Severity.INFO, "column tests.colour was not made by a migration")
async def a_column_that_somebody_has_added(world: World) -> None:
    await world.as_owner("ALTER TABLE tests ADD COLUMN colour text")


@planting("schema_constraints", SESSION, Severity.HIGH, "sessions.sessions_rules_1 is missing")
async def a_check_that_was_dropped(world: World) -> None:
    await world.as_owner("ALTER TABLE sessions DROP CONSTRAINT sessions_rules_1")


@planting("schema_constraints", SUBSCRIPTION, Severity.HIGH, "subscriptions_to_a_plan is missing")
async def a_foreign_key_that_was_dropped(world: World) -> None:
    await world.as_owner("ALTER TABLE subscriptions DROP CONSTRAINT subscriptions_to_a_plan")


@planting("schema_constraints", PROGRESS, Severity.CRITICAL, "xp_entries.xp_entries_once is missing")
async def a_primary_key_that_was_dropped(world: World) -> None:
    await world.as_owner("ALTER TABLE xp_entries DROP CONSTRAINT xp_entries_once")


@planting(
    "schema_constraints", SUBSCRIPTION, Severity.MEDIUM, "daily_usage_used_not_negative is not validated"
)
async def a_check_that_was_not_validated(world: World) -> None:
    await world.as_owner(
        "ALTER TABLE daily_usage DROP CONSTRAINT daily_usage_used_not_negative",
        "ALTER TABLE daily_usage ADD CONSTRAINT daily_usage_used_not_negative CHECK (used >= 0) NOT VALID",
    )


@planting("schema_constraints", SUBSCRIPTION, Severity.HIGH, "daily_usage_used_not_negative is another one")
async def a_check_that_was_weakened(world: World) -> None:
    await world.as_owner(
        "ALTER TABLE daily_usage DROP CONSTRAINT daily_usage_used_not_negative",
        "ALTER TABLE daily_usage ADD CONSTRAINT daily_usage_used_not_negative CHECK (used >= -1)",
    )


@planting(
    "schema_constraints",
    SESSION,
    Severity.HIGH,
    "answers_rules_1 is another one: WHEN NOT (attempt > -1) THEN",
)
async def a_rule_that_was_weakened(world: World) -> None:
    await world.as_owner(
        """
        DO $$
        DECLARE function text := pg_get_functiondef('answers_broken_rule_1'::regproc);
        BEGIN
            EXECUTE replace(function, 'attempt > 0', 'attempt > -1');
        END
        $$
        """
    )


@planting("schema_constraints", SESSION, Severity.MEDIUM, "tests.tests_are_few was not made by a migration")
async def a_check_that_somebody_has_added(world: World) -> None:
    await world.as_owner("ALTER TABLE tests ADD CONSTRAINT tests_are_few CHECK (revision < 3)")


@planting("schema_indexes", SESSION, Severity.CRITICAL, "sessions_one_live_per_test is missing")
async def a_unique_index_that_was_dropped(world: World) -> None:
    await world.as_owner("DROP INDEX sessions_one_live_per_test")


@planting("schema_indexes", SESSION, Severity.MEDIUM, "sessions_overdue is missing")
async def an_index_that_was_dropped(world: World) -> None:
    await world.as_owner("DROP INDEX sessions_overdue")


@planting("schema_indexes", SESSION, Severity.CRITICAL, "sessions_one_live_per_test is invalid")
async def a_unique_index_that_was_not_built_to_its_end(world: World) -> None:
    await world.as_superuser(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'sessions_one_live_per_test'::regclass"
    )


@planting("schema_indexes", SESSION, Severity.CRITICAL, "sessions_one_live_per_test is another one")
async def a_unique_index_that_is_unique_no_more(world: World) -> None:
    await world.as_owner(
        "DROP INDEX sessions_one_live_per_test",
        "CREATE INDEX sessions_one_live_per_test ON sessions (user_id, test_id)"
        " WHERE state IN ('active', 'paused')",
    )


@planting("schema_indexes", SESSION, Severity.LOW, "sessions_overdue_ccnew is invalid")
async def what_a_failed_reindex_left(world: World) -> None:
    await world.as_superuser(
        "CREATE INDEX sessions_overdue_ccnew ON sessions (deadline_at)",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'sessions_overdue_ccnew'::regclass",
    )


@planting("role_rights", SESSION, Severity.HIGH, "is a superuser")
async def a_superuser_as_the_role_of_the_service(world: World) -> None:
    assert world.database is not None
    world.environ["HOMEROOM_DATABASE_URL"] = world.database.superuser


@planting("role_rights", SESSION, Severity.HIGH, "owns answers,")
async def the_owner_as_the_role_of_the_service(world: World) -> None:
    assert world.database is not None
    world.environ["HOMEROOM_DATABASE_URL"] = world.database.owner


@planting("role_rights", SESSION, Severity.HIGH, "may create roles")
async def a_role_that_may_create_roles(world: World) -> None:
    await world.as_superuser(f"ALTER ROLE {ROLE} CREATEROLE")

    async def reset() -> None:
        await world.as_superuser(f"ALTER ROLE {ROLE} NOCREATEROLE")

    world.at_end(reset)


@planting("role_rights", SESSION, Severity.HIGH, "may create objects in the schema")
async def a_role_that_may_create_tables(world: World) -> None:
    await world.as_superuser(f"GRANT CREATE ON SCHEMA public TO {ROLE}")


@planting("role_rights", SESSION, Severity.LOW, "may create temporary tables")
async def a_role_that_may_create_temporary_tables(world: World) -> None:
    await world.as_superuser(
        f"DO $$ BEGIN EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO {ROLE}', current_database()); END $$"
    )


@planting("role_rights", SESSION, Severity.MEDIUM, "has TRUNCATE on answers")
async def a_role_that_may_empty_a_table(world: World) -> None:
    await world.as_superuser(f"GRANT TRUNCATE ON answers TO {ROLE}")


@planting("role_rights", SESSION, Severity.CRITICAL, "lacks INSERT, UPDATE on outbox")
async def a_role_that_may_not_write(world: World) -> None:
    await world.as_superuser(f"REVOKE INSERT, UPDATE ON outbox FROM {ROLE}")


@planting(
    "role_rights",
    PROGRESS,
    Severity.CRITICAL,
    "may not use the schema",
    "schema_version",
    "schema_columns",
    "schema_constraints",
    "schema_indexes",
    "autovacuum",
)
async def a_role_that_may_not_use_the_schema(world: World) -> None:
    await world.as_superuser("REVOKE USAGE ON SCHEMA public FROM progress_service")


@planting("role_rights", SESSION, Severity.CRITICAL, "lacks USAGE on the sequence")
async def a_role_that_may_not_use_a_sequence(world: World) -> None:
    await world.as_owner("CREATE SEQUENCE numbers")
    await world.as_superuser(f"REVOKE ALL ON SEQUENCE numbers FROM {ROLE}")


@planting("role_rights", SESSION, Severity.CRITICAL, "lacks EXECUTE on the function refuse_row")
async def a_role_that_may_not_run_the_function_of_a_check(world: World) -> None:
    await world.as_owner("REVOKE EXECUTE ON FUNCTION refuse_row FROM PUBLIC")


@planting("default_plan", SUBSCRIPTION, Severity.CRITICAL, "there is no default plan")
async def no_default_plan(world: World) -> None:
    await world.as_service("UPDATE plans SET is_default = false")


@planting("accounts", SUBSCRIPTION, Severity.MEDIUM, "there is no active account")
async def only_inactive_accounts(world: World) -> None:
    await world.as_service("UPDATE accounts SET status = 'inactive'")


@planting("tests", SESSION, Severity.MEDIUM, "there is no test")
async def no_test(world: World) -> None:
    await world.as_service("DELETE FROM tests")
