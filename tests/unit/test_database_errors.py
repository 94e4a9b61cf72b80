"""Each SQLSTATE and driver error has one meaning, whatever its text says."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from asyncpg.exceptions import _base

from chassis.errors import Reason, ServiceError
from chassis.postgres.errors import (
    ConstraintViolation,
    DatabaseUnavailable,
    DataRefused,
    InvalidValue,
    LockTimeout,
    ViolationKind,
    is_conflict,
    is_lost_connection,
    is_undecided,
    translate,
)


def from_server(sqlstate: str, severity: str = "ERROR", **fields: str) -> asyncpg.PostgresError:
    """The error that the driver makes of a server's message; the text is in another language on purpose."""
    names = {"constraint": "n", "table": "t", "column": "c"}
    message = {"S": "FEHLER", "V": severity, "C": sqlstate, "M": "etwas ging schief"}
    message |= {names[name]: value for name, value in fields.items()}
    error = _base.PostgresError.new(message, query="SELECT")
    assert isinstance(error, asyncpg.PostgresError)
    return error


@pytest.mark.parametrize(
    "error",
    [
        from_server("57P01", "FATAL"),
        from_server("57P02", "FATAL"),
        from_server("57P03", "FATAL"),
        from_server("53300", "FATAL"),
        from_server("25P03", "FATAL"),
        from_server("25006"),
        from_server("08006"),
        from_server("08P01", "FATAL"),
        asyncpg.ConnectionDoesNotExistError("lost"),
        asyncpg.CannotConnectNowError("later"),
        asyncpg.InterfaceError("closed"),
        asyncpg.InternalClientError("state"),
        ConnectionRefusedError(),
        ConnectionResetError(),
        BrokenPipeError(),
    ],
    ids=repr,
)
def test_a_connection_that_is_gone_makes_the_database_unavailable(error: Exception) -> None:
    assert is_lost_connection(error)
    told = translate(error)
    assert isinstance(told, DatabaseUnavailable)
    assert isinstance(told, ServiceError)
    assert (told.reason, told.reason.retryable) == (Reason.UNAVAILABLE, True)


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
def test_a_conflict_is_worth_another_run_and_unavailability_when_it_stays(sqlstate: str) -> None:
    error = from_server(sqlstate)
    assert is_conflict(error)
    assert not is_lost_connection(error)
    assert isinstance(translate(error), DatabaseUnavailable)


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("23505", ViolationKind.UNIQUE),
        ("23514", ViolationKind.CHECK),
        ("23503", ViolationKind.FOREIGN_KEY),
        ("23001", ViolationKind.FOREIGN_KEY),
        ("23P01", ViolationKind.EXCLUSION),
        ("23502", ViolationKind.NOT_NULL),
        ("23000", ViolationKind.OTHER),
    ],
)
def test_a_violated_constraint_is_told_by_name_and_kind(sqlstate: str, kind: ViolationKind) -> None:
    told = translate(from_server(sqlstate, constraint="notes_once", table="notes", column="body"))
    assert isinstance(told, ConstraintViolation)
    assert isinstance(told, DataRefused)
    assert (told.constraint, told.kind) == ("notes_once", kind)


def test_a_missing_value_is_named_by_its_column_where_the_server_names_no_constraint() -> None:
    told = translate(from_server("23502", table="notes", column="body"))
    assert isinstance(told, ConstraintViolation)
    assert told.constraint == "notes_body_not_null"


@pytest.mark.parametrize("sqlstate", ["22003", "22021", "22P02", "22012"])
def test_a_value_that_does_not_fit_is_refused_data(sqlstate: str) -> None:
    told = translate(from_server(sqlstate))
    assert isinstance(told, InvalidValue)
    assert isinstance(told, DataRefused)
    assert told.sqlstate == sqlstate


def test_an_argument_that_the_driver_refuses_is_not_a_lost_connection() -> None:
    error = _base.DataError("invalid input")
    assert not is_lost_connection(error)
    assert isinstance(translate(error), InvalidValue)


def test_locks_and_cancelled_queries_have_their_own_errors() -> None:
    assert isinstance(translate(from_server("55P03")), LockTimeout)
    told = translate(from_server("57014"))
    assert isinstance(told, ServiceError)
    assert told.reason is Reason.DEADLINE_EXCEEDED


@pytest.mark.parametrize("sqlstate", ["53100", "53200"])
def test_a_server_without_disk_or_memory_is_unavailable_but_connected(sqlstate: str) -> None:
    error = from_server(sqlstate)
    assert not is_lost_connection(error)
    assert isinstance(translate(error), DatabaseUnavailable)


@pytest.mark.parametrize(
    "error",
    [KeyError("work"), RuntimeError(), asyncio.CancelledError()],
    ids=repr,
)
def test_what_is_not_the_databases_stays_as_it_is(error: BaseException) -> None:
    assert translate(error) is error
    assert not is_lost_connection(error)


@pytest.mark.parametrize(
    "error",
    [
        from_server("57P01", "FATAL"),
        from_server("57P02", "FATAL"),
        from_server("57014"),
        from_server("08P01"),
        from_server("58030"),
        from_server("53100"),
        from_server("XX000"),
        from_server("23505", "FATAL"),
        from_server("40001", "PANIC"),
        asyncpg.ConnectionDoesNotExistError("lost"),
        asyncpg.InternalClientError("state"),
        ConnectionResetError(),
        TimeoutError(),
    ],
    ids=repr,
)
def test_a_commit_that_ends_in_this_may_have_been_done(error: Exception) -> None:
    assert is_undecided(error)


@pytest.mark.parametrize(
    "error",
    [
        from_server("23505"),
        from_server("23503"),
        from_server("40001"),
        from_server("40P01"),
        from_server("22003"),
        from_server("42P01"),
        from_server("55P03"),
        from_server("P0001"),
        asyncpg.InterfaceError("closed"),
        _base.DataError("invalid input"),
    ],
    ids=repr,
)
def test_a_commit_that_ends_in_this_was_not_done(error: Exception) -> None:
    assert not is_undecided(error)
