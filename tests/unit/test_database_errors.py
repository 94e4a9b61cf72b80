"""Each SQLSTATE and driver error has one meaning, which does not depend on its text."""

from __future__ import annotations

import asyncio
import socket

import asyncpg
import pytest
from asyncpg.exceptions import _base

from chassis.errors import Reason, ServiceError
from chassis.postgres.errors import (
    ConstraintViolation,
    DatabaseMisconfigured,
    DatabaseUnavailable,
    DataRefused,
    InvalidValue,
    LockTimeout,
    ViolationKind,
    is_conflict,
    is_lost_connection,
    is_server_fault,
    is_undecided,
    translate,
    translate_connecting,
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
def test_a_conflict_is_retried_and_unavailable_if_it_stays(sqlstate: str) -> None:
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
def test_a_violated_constraint_has_its_name_and_kind(sqlstate: str, kind: ViolationKind) -> None:
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
def test_an_error_from_outside_the_database_is_not_translated(error: BaseException) -> None:
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


@pytest.mark.parametrize(
    ("sqlstate", "meaning"),
    [
        ("08006", DatabaseUnavailable),  # connection failure
        ("0A000", DatabaseUnavailable),  # feature not supported
        ("21000", InvalidValue),  # two rows of the batch meet in one statement
        ("22P05", InvalidValue),  # a NUL in JSON
        ("23514", ConstraintViolation),
        ("24000", DatabaseUnavailable),  # invalid cursor state
        ("25P02", DatabaseUnavailable),  # in failed transaction
        ("26000", DatabaseUnavailable),  # the prepared statement does not exist
        ("28P01", DatabaseUnavailable),  # wrong password
        ("2F002", DatabaseUnavailable),
        ("3D000", DatabaseUnavailable),  # no such database
        ("3F000", DatabaseUnavailable),  # no such schema
        ("40P01", DatabaseUnavailable),
        ("42P01", DatabaseUnavailable),  # no such table: the schema is not the one known here
        ("42501", DatabaseUnavailable),  # no right
        ("42P05", DatabaseUnavailable),  # the prepared statement exists already
        ("53100", DatabaseUnavailable),  # disk full
        ("54000", InvalidValue),  # a text too long for its index
        ("54001", InvalidValue),  # JSON too deep
        ("55P03", LockTimeout),
        ("55006", DatabaseUnavailable),  # object in use
        ("57P01", DatabaseUnavailable),  # shutting down
        ("58030", DatabaseUnavailable),  # I/O error
        ("F0000", DatabaseUnavailable),  # configuration file error
        ("HV000", DatabaseUnavailable),
        ("P0001", InvalidValue),  # raised by a function of ours
        ("XX000", DatabaseUnavailable),  # a bug of PostgreSQL
        ("XX001", DatabaseUnavailable),  # broken data
        ("ZZ999", DatabaseUnavailable),  # what no version of PostgreSQL says
    ],
)
def test_every_class_has_a_meaning(sqlstate: str, meaning: type[Exception]) -> None:
    told = translate(from_server(sqlstate))
    assert type(told) is meaning


def test_every_error_that_the_driver_knows_has_a_meaning() -> None:
    known = {kind for kind in vars(asyncpg).values() if isinstance(kind, type)}
    sqlstates = {kind.sqlstate for kind in known if issubclass(kind, asyncpg.PostgresError) and kind.sqlstate}
    assert len(sqlstates) > 200
    for sqlstate in sqlstates:
        if sqlstate[:2] not in {"00", "01", "02"}:  # successes and warnings
            assert isinstance(translate(from_server(sqlstate)), ServiceError | DataRefused | LockTimeout)


@pytest.mark.parametrize("sqlstate", ["26000", "42P05"])
def test_a_lost_prepared_statement_names_the_setting(sqlstate: str) -> None:
    assert "HOMEROOM_DATABASE_STATEMENT_CACHE=0" in str(translate(from_server(sqlstate)))


@pytest.mark.parametrize("sqlstate", ["0A000", "26000", "42P01", "58030", "XX000"])
def test_an_error_for_an_operator_is_logged(sqlstate: str) -> None:
    assert is_server_fault(from_server(sqlstate))


@pytest.mark.parametrize("sqlstate", ["08006", "21000", "22003", "23505", "40001", "53100", "55P03", "57P01"])
def test_an_error_without_need_for_an_operator_is_not_logged(sqlstate: str) -> None:
    assert not is_server_fault(from_server(sqlstate))


@pytest.mark.parametrize(
    "error",
    [
        from_server("28P01", "FATAL"),
        from_server("28000", "FATAL"),
        from_server("3D000", "FATAL"),
        from_server("42501", "FATAL"),
        socket.gaierror(socket.EAI_NONAME, "unknown"),
        asyncpg.ClientConfigurationError("no URI"),
        ValueError("Invalid IPv6 URL"),
    ],
    ids=repr,
)
def test_a_permanently_refused_connection_is_a_wrong_configuration(error: Exception) -> None:
    assert isinstance(translate_connecting(error), DatabaseMisconfigured)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        TimeoutError(),
        socket.gaierror(socket.EAI_AGAIN, "later"),
        from_server("57P03", "FATAL"),
        from_server("53300", "FATAL"),
    ],
    ids=repr,
)
def test_a_database_that_is_down_is_not_a_wrong_configuration(error: Exception) -> None:
    assert type(translate_connecting(error)) is DatabaseUnavailable
