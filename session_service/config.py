"""What session_service is told by its environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from chassis.process.config import ServiceConfig, check_address, rules


@dataclass(frozen=True, kw_only=True)
class Config(ServiceConfig):
    """What it takes to serve."""

    subscription_target: str = field(
        metadata=rules(means="host:port of subscription_service", check=check_address)
    )
    progress_target: str = field(metadata=rules(means="host:port of progress_service", check=check_address))
    janitor_interval_seconds: float = field(default=5.0, metadata=rules(minimum=0.1, maximum=3600))
    # Longer than a client retries through a restart: a start that is overtaken has to begin again under a new
    # key. That nothing is counted twice does not depend on it.
    janitor_hold_age_seconds: float = field(default=30.0, metadata=rules(minimum=0, maximum=86_400))
    # Longer than any client retries: with the key, the memory of its answer goes.
    idempotency_retention_days: float = field(default=7.0, metadata=rules(minimum=1, maximum=3650))
