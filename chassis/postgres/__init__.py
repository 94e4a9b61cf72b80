"""PostgreSQL for the services: a database to read and write, and the errors that it may raise."""

from chassis.postgres.database import PATIENCE, Database, Work
from chassis.postgres.errors import (
    ConstraintViolation,
    DatabaseMisconfigured,
    DatabaseUnavailable,
    DataRefused,
    InvalidValue,
    LockTimeout,
    OutcomeUnknown,
    ViolationKind,
)
from chassis.postgres.pool import Connection

__all__ = [
    "PATIENCE",
    "Connection",
    "ConstraintViolation",
    "DataRefused",
    "Database",
    "DatabaseMisconfigured",
    "DatabaseUnavailable",
    "InvalidValue",
    "LockTimeout",
    "OutcomeUnknown",
    "ViolationKind",
    "Work",
]
