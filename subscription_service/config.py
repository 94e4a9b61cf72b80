"""What the process is told by its environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from chassis.process.config import ServiceConfig, rules


@dataclass(frozen=True, kw_only=True)
class Config(ServiceConfig):
    """Of the serving process."""

    database_connections_max: int = field(default=8, metadata=rules(minimum=1, maximum=200))
    # LISTEN only hastens: behind pgbouncer, where it would not work, changes are found by polling alone.
    license_poll_seconds: float = field(default=1.0, metadata=rules(minimum=0.01, maximum=60.0))
    idempotency_days: int = field(default=30, metadata=rules(minimum=1, maximum=3650))
