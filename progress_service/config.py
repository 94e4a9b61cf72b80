"""The configuration of progress_service."""

from __future__ import annotations

from dataclasses import dataclass, field

from chassis.process.config import ServiceConfig, check_address, rules


@dataclass(frozen=True, kw_only=True)
class Config(ServiceConfig):
    """What the service needs to know."""

    subscription_target: str = field(
        metadata=rules(means="host:port of subscription_service", check=check_address)
    )
