"""The errors of PostgreSQL and its driver, classified by type and SQLSTATE, never by message text.

SQLSTATEs are those of PostgreSQL 18, appendix A. The first two characters are the class.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import NoReturn

import asyncpg

from chassis.errors import Reason, ServiceError


class OutcomeUnknown(Exception):  # noqa: N818 — it is a fact about a write, not a fault
    """The write may or may not have been committed. Its key shows which."""


class DataRefused(Exception):  # noqa: N818 — named for what happened
    """The database refused the data of a statement; nothing was written. One item of the batch caused it."""


class ViolationKind(StrEnum):
    UNIQUE = "unique"
    CHECK = "check"
    FOREIGN_KEY = "foreign_key"
    EXCLUSION = "exclusion"
    NOT_NULL = "not_null"
    OTHER = "other"


class ConstraintViolation(DataRefused):
    """The data violate a constraint; `constraint` is its name in the schema.

    A not-null violation is named `<table>_<column>_not_null`, as PostgreSQL 18 names it, on every version.
    """

    def __init__(self, constraint: str, kind: ViolationKind) -> None:
        super().__init__(constraint, kind)
        self.constraint = constraint
        self.kind = kind

    def __str__(self) -> str:
        return f"{self.kind} constraint {self.constraint}"


class InvalidValue(DataRefused):
    """A value cannot be stored: a NUL in a text, a number out of range, a text too long for an index."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate

    def __str__(self) -> str:
        return f"a value was refused (SQLSTATE {self.sqlstate})"


class LockTimeout(Exception):  # noqa: N818 — named for what happened
    """Another transaction kept a lock for longer than the lock timeout; nothing was written."""


class DatabaseUnavailable(ServiceError):  # noqa: N818 — named for its reason
    """The database cannot be reached or cannot serve now; nothing was written."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.UNAVAILABLE, detail)


class DatabaseMisconfigured(DatabaseUnavailable):
    """The database will refuse this process until the configuration changes; the detail says why."""


_VIOLATION_KINDS = {
    "23001": ViolationKind.FOREIGN_KEY,  # ON DELETE RESTRICT
    "23502": ViolationKind.NOT_NULL,
    "23503": ViolationKind.FOREIGN_KEY,
    "23505": ViolationKind.UNIQUE,
    "23514": ViolationKind.CHECK,
    "23P01": ViolationKind.EXCLUSION,
}
_CONFLICTS = frozenset({"40001", "40P01"})  # serialization failure, deadlock
DATA_EXCEPTION = "22000"
# The server ended or refused the connection, or is no longer the primary: too many connections, read-only,
# idle in transaction for too long, shutting down, crashed, starting up, database dropped, idle for too long.
_UNREACHABLE = frozenset({"53300", "25006", "25P03", "57P01", "57P02", "57P03", "57P04", "57P05"})
_CONNECTION_CLASS = "08"
# The statement had no effect if the server itself answered with an ordinary error of these classes.
_DECIDED_CLASSES = frozenset(
    {"0A", "21", "22", "23", "25", "26", "28", "3D", "3F", "40", "42", "54", "55", "P0"}
)


def is_conflict(error: BaseException) -> bool:
    """Whether the transaction failed because of another one, and would probably succeed when it runs again.

    The other one may be a migration that changed the result type of a prepared statement. The driver prepares
    the statement again for the next run.
    """
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        return True
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate in _CONFLICTS


def is_lost_connection(error: BaseException) -> bool:
    """Whether the connection is gone, so that another connection may work."""
    if isinstance(error, asyncpg.PostgresError):
        sqlstate = error.sqlstate or ""
        return sqlstate in _UNREACHABLE or sqlstate.startswith(_CONNECTION_CLASS)
    # asyncpg raises a plain InterfaceError, without SQLSTATE, on a closed connection. Its subclasses that are
    # also ValueErrors are about wrong arguments.
    if isinstance(error, asyncpg.InterfaceError):
        return not isinstance(error, ValueError)
    # InternalClientError: the driver got a message that it did not expect, such as the last message of a
    # server that shuts down while the connection is idle. The driver has closed the connection.
    return isinstance(error, ConnectionError | asyncpg.InternalClientError)


def is_undecided(error: BaseException) -> bool:
    """Whether a COMMIT (or a statement outside a transaction) that raised this may have been committed.

    Only an ordinary error from the server itself shows that it was not committed. A FATAL error can come
    after the commit is on disk. An error of class 08 or 57 can come from a pooler, which does not know the
    outcome. An InterfaceError means that the driver sent nothing.
    """
    if isinstance(error, asyncpg.InterfaceError):
        return False
    if isinstance(error, asyncpg.PostgresError):
        decided = (error.sqlstate or "")[:2] in _DECIDED_CLASSES
        return not decided or error.severity_en not in {None, "ERROR"}
    return True


def is_server_fault(error: BaseException) -> bool:
    """Whether an operator should look at the database: the error is not about a request's data or a race."""
    if not isinstance(error, asyncpg.PostgresError) or is_lost_connection(error):
        return False
    sqlstate = error.sqlstate or ""
    return sqlstate not in _MEANINGS and sqlstate[:2] not in _MEANINGS_OF_CLASSES


def translate(error: BaseException) -> BaseException:
    """The exception to raise instead of this error of a statement that had no effect.

    Every error of PostgreSQL has a meaning here: the data of one item (DataRefused), a lock (LockTimeout),
    the time (DEADLINE_EXCEEDED), or a problem of the server (DatabaseUnavailable). An error that is not from
    the database is returned as it is.
    """
    if is_lost_connection(error):
        return DatabaseUnavailable("the connection to the database was lost")
    if isinstance(error, asyncpg.PostgresError):
        sqlstate = error.sqlstate or ""
        meaning = _MEANINGS.get(sqlstate) or _MEANINGS_OF_CLASSES.get(sqlstate[:2])
        if meaning is not None:
            return meaning(error)
        return DatabaseUnavailable(
            _SERVER_PROBLEMS.get(sqlstate) or f"the database cannot serve now (SQLSTATE {sqlstate})"
        )
    if isinstance(error, asyncpg.InterfaceError):  # about arguments: a lost connection is handled above
        return InvalidValue(DATA_EXCEPTION)
    return error


def translate_connecting(error: BaseException) -> BaseException:
    """The exception to raise instead of this error of opening a connection.

    A host name that the resolver does not know is a wrong configuration. A resolver that does not answer now
    (EAI_AGAIN) is a temporary problem.
    """
    if isinstance(error, socket.gaierror) and error.errno in _UNKNOWN_HOST:
        return DatabaseMisconfigured("the host name of the database is unknown")
    # All errors of the socket or of TLS mean the same here. TimeoutError is an OSError.
    if isinstance(error, OSError) or is_lost_connection(error):
        return DatabaseUnavailable("cannot connect to the database")
    if isinstance(error, asyncpg.PostgresError):
        refusal = _REFUSALS_OF_CONNECTIONS.get((error.sqlstate or "")[:2])
        return translate(error) if refusal is None else DatabaseMisconfigured(refusal)
    if isinstance(error, ValueError):  # asyncpg and urllib cannot read the URI; their texts may contain it
        return DatabaseMisconfigured("it is not a URI that PostgreSQL's driver can use")
    return error


def raise_translated(error: BaseException, translated: BaseException) -> NoReturn:
    """Raise the translation of an error, with the error as its cause; without one, the error itself."""
    if translated is error:
        raise error
    raise translated from error


def deadline_exceeded() -> ServiceError:
    return ServiceError(Reason.DEADLINE_EXCEEDED, "the database did not answer in time; nothing was written")


def _violation(error: asyncpg.PostgresError) -> ConstraintViolation:
    kind = _VIOLATION_KINDS.get(error.sqlstate or "", ViolationKind.OTHER)
    constraint = error.constraint_name
    if not constraint and kind is ViolationKind.NOT_NULL:
        constraint = f"{error.table_name}_{error.column_name}_not_null"
    return ConstraintViolation(constraint or "", kind)


def _invalid_value(error: asyncpg.PostgresError) -> InvalidValue:
    return InvalidValue(error.sqlstate or DATA_EXCEPTION)


_MEANINGS: Mapping[str, Callable[[asyncpg.PostgresError], Exception]] = {
    "40001": lambda _: DatabaseUnavailable("each attempt conflicted with another transaction"),
    "40P01": lambda _: DatabaseUnavailable("each attempt deadlocked with another transaction"),
    "55P03": lambda _: LockTimeout("another transaction kept the lock"),
    "57014": lambda _: deadline_exceeded(),
}
_MEANINGS_OF_CLASSES: Mapping[str, Callable[[asyncpg.PostgresError], Exception]] = {
    # A statement that allows one row got two rows of a batch. Each of them alone is accepted.
    "21": _invalid_value,
    "22": _invalid_value,
    "23": _violation,
    # A limit of PostgreSQL: a text is too long for an index, a JSON value too deep for the stack.
    "54": _invalid_value,
    "P0": _invalid_value,  # raised by a trigger or a function of ours, about its row
    "53": lambda _: DatabaseUnavailable("the database is out of resources"),  # disk full, out of memory
}
# All other errors are problems of the server or of its deployment: a missing table, column or right (class
# 42), a pooler (26), an I/O error (58), a bug or broken data (XX). The caller gets UNAVAILABLE, and the log
# names the error. These have a detail of their own:
_POOLED_STATEMENTS = (
    "a pooler lost a prepared statement: behind pgbouncer in transaction mode, "
    "set HOMEROOM_DATABASE_STATEMENT_CACHE=0"
)
_SERVER_PROBLEMS: Mapping[str, str] = {
    "26000": _POOLED_STATEMENTS,  # the prepared statement does not exist
    "42P05": _POOLED_STATEMENTS,  # the prepared statement exists already
}
_UNKNOWN_HOST = frozenset(
    {socket.EAI_NONAME, socket.EAI_FAIL, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
)
_REFUSALS_OF_CONNECTIONS: Mapping[str, str] = {
    "28": "the database refuses the user or the password",
    "3D": "there is no database of this name",
    "42": "the user may not connect to this database",
}
