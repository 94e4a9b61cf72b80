"""What progress_service is told by its environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from chassis.config import LogLevel, Secret, ServiceConfig, rules


@dataclass(frozen=True, kw_only=True)
class Config(ServiceConfig):
    """What it takes to serve."""

    database_url: Secret = field(
        metadata=rules(means="the PostgreSQL URI of the role that reads and writes rows")
    )
    database_connections_maximum: int = field(default=8, metadata=rules(minimum=2, maximum=200))


@dataclass(frozen=True, kw_only=True)
class MigrationConfig:
    """What it takes to migrate."""

    migration_database_url: Secret = field(
        metadata=rules(means="the PostgreSQL URI of the role that owns the tables")
    )
    log_level: LogLevel = LogLevel.INFO
