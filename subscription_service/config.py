"""The configuration of the process, from its environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from chassis.process.config import ServiceConfig, rules


@dataclass(frozen=True, kw_only=True)
class Config(ServiceConfig):
    """The configuration of the serving process."""

    tls_peers: tuple[str, ...] = ("gateway", "session_service", "progress_service")

    # LISTEN only makes the feed look sooner. It does not work behind pgbouncer; polling finds the changes.
    license_poll_seconds: float = field(default=1.0, metadata=rules(minimum=0.01, maximum=60.0))
