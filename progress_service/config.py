"""What progress_service is told by its environment."""

from __future__ import annotations

from dataclasses import dataclass

from chassis.process.config import ServiceConfig


@dataclass(frozen=True, kw_only=True)
class Config(ServiceConfig):
    """What it takes to serve: no more than any service needs."""
