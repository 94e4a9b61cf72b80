"""The configuration of progress_service."""

from __future__ import annotations

from dataclasses import dataclass

from chassis.process.config import ServiceConfig


@dataclass(frozen=True, kw_only=True)
class Config(ServiceConfig):
    """The configuration that every service has."""

    tls_peers: tuple[str, ...] = ("gateway", "session_service")
