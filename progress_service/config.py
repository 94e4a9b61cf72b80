"""The configuration of progress_service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from chassis.cache.versioned import STALE_SECONDS, check_redis_url
from chassis.diagnostics.findings import Severity
from chassis.process.config import PREFIX, Doubt, Secret, ServiceConfig, check_address, rules


@dataclass(frozen=True, kw_only=True)
class Config(ServiceConfig):
    """What the service needs to know."""

    subscription_target: str = field(
        metadata=rules(means="host:port of subscription_service", check=check_address)
    )
    sync_interval_hours: float = field(default=6.0, metadata=rules(minimum=0.01, maximum=8760))
    # A disagreement is reported once it has lasted for so long. A change that another process makes reaches
    # this one within a second or two.
    sync_age_seconds: float = field(default=5.0, metadata=rules(minimum=0, maximum=86_400))
    sync_retention_days: float = field(default=30.0, metadata=rules(minimum=1, maximum=3650))
    tls_peers: tuple[str, ...] = ("gateway", "session_service")
    # Without it nothing is cached: answers are as right, only slower.
    redis_url: Secret | None = field(
        default=None,
        metadata=rules(means="the URL of a Redis", check=lambda url: check_redis_url(url.reveal())),
    )
    # A cached answer that is older goes to the database.
    cache_stale_seconds: float = field(default=STALE_SECONDS, metadata=rules(minimum=0.1, maximum=60))

    @classmethod
    def doubts(cls, given: Mapping[str, Any]) -> Iterator[Doubt]:
        """Times of the sync runs that undo one another."""
        interval, retention, age = (
            given.get(name) for name in ("sync_interval_hours", "sync_retention_days", "sync_age_seconds")
        )
        if interval is not None and retention is not None and retention * 24 < interval:
            yield Doubt(
                Severity.MEDIUM,
                f"{PREFIX}SYNC_RETENTION_DAYS ({retention:g}) is shorter than {PREFIX}SYNC_INTERVAL_HOURS "
                f"({interval:g}): a run is deleted before the next one",
            )
        if interval is not None and age is not None and age > interval * 3600:
            yield Doubt(
                Severity.MEDIUM,
                f"{PREFIX}SYNC_AGE_SECONDS ({age:g}) is longer than {PREFIX}SYNC_INTERVAL_HOURS "
                f"({interval:g}): a disagreement is overlooked by several runs",
            )
