"""What PostgreSQL and its driver raise, told apart by type and SQLSTATE, never by message text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

import asyncpg

from chassis.errors import Reason, ServiceError


class OutcomeUnknown(Exception):  # noqa: N818 — it is a fact about a write, not a fault
    """The write may or may not have been committed: resolve it by its key."""


class DataRefused(Exception):  # noqa: N818 — named for what happened
    """The database refused what a statement carried; nothing was written. One item of a batch is to blame."""


class ViolationKind(StrEnum):
    UNIQUE = "unique"
    CHECK = "check"
    FOREIGN_KEY = "foreign_key"
    EXCLUSION = "exclusion"
    NOT_NULL = "not_null"
    OTHER = "other"


class ConstraintViolation(DataRefused):
    """A constraint said no; `constraint` is its name in the schema.

    A not-null violation is named `<table>_<column>_not_null`, as PostgreSQL 18 names it, on every version.
    """

    def __init__(self, constraint: str, kind: ViolationKind) -> None:
        super().__init__(constraint, kind)
        self.constraint = constraint
        self.kind = kind

    def __str__(self) -> str:
        return f"{self.kind} constraint {self.constraint}"


class InvalidValue(DataRefused):
    """A value does not fit its type (a NUL in a text, a number out of range); `sqlstate` is of class 22."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate

    def __str__(self) -> str:
        return f"a value was refused (SQLSTATE {self.sqlstate})"


class LockTimeout(Exception):  # noqa: N818 — named for what happened
    """A row or table stayed locked by someone else for longer than the lock timeout; nothing was written."""


class DatabaseUnavailable(ServiceError):  # noqa: N818 — named for its reason
    """The database cannot be reached or cannot serve now; nothing was written."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.UNAVAILABLE, detail)


_VIOLATION_KINDS = {
    "23001": ViolationKind.FOREIGN_KEY,  # ON DELETE RESTRICT
    "23502": ViolationKind.NOT_NULL,
    "23503": ViolationKind.FOREIGN_KEY,
    "23505": ViolationKind.UNIQUE,
    "23514": ViolationKind.CHECK,
    "23P01": ViolationKind.EXCLUSION,
}
_CONFLICTS = frozenset({"40001", "40P01"})  # serialization failure, deadlock
_DATA_EXCEPTION = "22000"
# The server ended the connection, or would not have it, or is not the primary any more: too many connections,
# read-only, idle in transaction for too long, shutting down, crashed, starting up, database dropped, idle for
# too long.
_UNREACHABLE = frozenset({"53300", "25006", "25P03", "57P01", "57P02", "57P03", "57P04", "57P05"})
_CONNECTION_CLASS = "08"
# The statement was certainly undone if the server itself answered with an ordinary error of these classes.
_DECIDED_CLASSES = frozenset({"22", "23", "25", "40", "42", "55", "P0"})


def is_conflict(error: BaseException) -> bool:
    """Whether the transaction lost against another one and would probably succeed if run again.

    Another one may also have been a migration that changed the type of what a prepared statement returns; the
    driver has prepared it anew by the next run.
    """
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        return True
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate in _CONFLICTS


def is_lost_connection(error: BaseException) -> bool:
    """Whether the connection is gone, so that another one may have more luck."""
    if isinstance(error, asyncpg.PostgresError):
        sqlstate = error.sqlstate or ""
        return sqlstate in _UNREACHABLE or sqlstate.startswith(_CONNECTION_CLASS)
    # asyncpg raises a plain InterfaceError, without SQLSTATE, on a connection that is closed already. Its
    # subclasses that are also ValueErrors are complaints about arguments.
    if isinstance(error, asyncpg.InterfaceError):
        return not isinstance(error, ValueError)
    # InternalClientError: the driver met a message that it did not expect, such as the farewell of a server
    # that is shutting down while the connection was idle; it has given the connection up.
    return isinstance(error, ConnectionError | asyncpg.InternalClientError)


def is_undecided(error: BaseException) -> bool:
    """Whether a COMMIT (or a statement outside a transaction) that raised this may have been committed.

    Only an ordinary error that the server itself sent says that it was not: a FATAL one can come after the
    commit is on disk, and one of class 08 or 57 can come from a pooler that knows nothing. An InterfaceError
    is the driver's refusal to send anything.
    """
    if isinstance(error, asyncpg.InterfaceError):
        return False
    if isinstance(error, asyncpg.PostgresError):
        decided = (error.sqlstate or "")[:2] in _DECIDED_CLASSES
        return not decided or error.severity_en not in {None, "ERROR"}
    return True


def translate(error: BaseException) -> BaseException:
    """What the rest of the program should see for an error of a statement that has left no effect.

    What is not the database's own is returned as it is.
    """
    if is_lost_connection(error):
        return DatabaseUnavailable("the connection to the database was lost")
    if isinstance(error, asyncpg.PostgresError):
        sqlstate = error.sqlstate or ""
        meaning = _MEANINGS.get(sqlstate) or _MEANINGS_OF_CLASSES.get(sqlstate[:2])
        return meaning(error) if meaning else error
    if isinstance(error, asyncpg.InterfaceError):  # about arguments, or the connection would be lost
        return InvalidValue(_DATA_EXCEPTION)
    return error


def deadline_exceeded() -> ServiceError:
    return ServiceError(Reason.DEADLINE_EXCEEDED, "the database did not answer in time; nothing was written")


def _violation(error: asyncpg.PostgresError) -> ConstraintViolation:
    kind = _VIOLATION_KINDS.get(error.sqlstate or "", ViolationKind.OTHER)
    constraint = error.constraint_name
    if not constraint and kind is ViolationKind.NOT_NULL:
        constraint = f"{error.table_name}_{error.column_name}_not_null"
    return ConstraintViolation(constraint or "", kind)


_MEANINGS: Mapping[str, Callable[[asyncpg.PostgresError], Exception]] = {
    "40001": lambda _: DatabaseUnavailable("the transaction kept losing against others"),
    "40P01": lambda _: DatabaseUnavailable("the transaction kept deadlocking with others"),
    "55P03": lambda _: LockTimeout("it stayed locked by someone else"),
    "57014": lambda _: deadline_exceeded(),
}
_MEANINGS_OF_CLASSES: Mapping[str, Callable[[asyncpg.PostgresError], Exception]] = {
    "22": lambda error: InvalidValue(error.sqlstate or _DATA_EXCEPTION),
    "23": _violation,
    "53": lambda _: DatabaseUnavailable("the database is out of resources"),  # disk full, out of memory
}
