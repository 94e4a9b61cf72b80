"""The gateway's configuration, from its environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from chassis.diagnostics.findings import Severity
from chassis.process.config import PREFIX, Doubt, Mode, ProcessConfig, Secret, check_address, rules
from gateway.client_address import ForwardedHeader
from gateway.cors import check_origins
from gateway.networks import check_networks

# The issuer that `homeroom up` writes into tokens (homeroom/keys.py, which the processes do not import).
DEVELOPMENT_ISSUER = "homeroom-dev"


@dataclass(frozen=True, kw_only=True)
class Config(ProcessConfig):
    """The configuration of the gateway. Keys, issuer and audience of tokens are required."""

    jwks: str = field(
        metadata=rules(means="the path or the https URL of the keys that tokens are signed with")
    )
    jwt_issuer: str = field(metadata=rules(means="the `iss` of the tokens to accept"))
    jwt_audience: str = field(metadata=rules(means="the `aud` of the tokens to accept"))
    session_target: str = field(metadata=rules(means="host:port of session_service", check=check_address))
    subscription_target: str = field(
        metadata=rules(means="host:port of subscription_service", check=check_address)
    )
    progress_target: str = field(metadata=rules(means="host:port of progress_service", check=check_address))
    # CIDR networks of the callers whose `traceparent` decides what is recorded. Other traces are only linked.
    trace_trusted_networks: tuple[str, ...] = field(default=(), metadata=rules(check=check_networks))
    # Without Redis each gateway counts the requests of a user or an address alone.
    redis_url: Secret | None = None
    # The requests of one user, and of one address, in `rate_window_seconds`; 0: no limit.
    rate_per_user_max: int = field(default=6_000, metadata=rules(minimum=0, maximum=100_000_000))
    rate_per_address_max: int = field(default=600_000, metadata=rules(minimum=0, maximum=100_000_000))
    rate_window_seconds: int = field(default=60, metadata=rules(minimum=1, maximum=86_400))
    # CIDR networks of the proxies that tell the client's address, and the header in which they do.
    proxy_networks: tuple[str, ...] = field(default=(), metadata=rules(check=check_networks))
    proxy_header: ForwardedHeader = ForwardedHeader.X_FORWARDED_FOR
    # The web pages that may call from a browser, as origins such as https://app.example.org.
    cors_origins: tuple[str, ...] = field(default=(), metadata=rules(check=check_origins))
    connections_max: int = field(default=10_000, metadata=rules(minimum=1, maximum=1_000_000))
    # Behind a load balancer, all clients have its address.
    connections_per_address_max: int = field(default=5_000, metadata=rules(minimum=1, maximum=1_000_000))
    # Requests in flight at each service; completions and answers may use more, lists less.
    in_flight_max: int = field(default=512, metadata=rules(minimum=1, maximum=100_000))
    in_flight_per_learner_max: int = field(default=128, metadata=rules(minimum=1, maximum=100_000))
    in_flight_per_address_max: int = field(default=1024, metadata=rules(minimum=1, maximum=100_000))
    # Streams of server-sent events that are open: all together, and of one learner.
    streams_max: int = field(default=2000, metadata=rules(minimum=1, maximum=1_000_000))
    streams_per_learner_max: int = field(default=8, metadata=rules(minimum=1, maximum=100_000))
    # After this time, or with the learner's token, a stream ends and the client opens another one.
    stream_seconds_max: float = field(default=3600.0, metadata=rules(minimum=1.0, maximum=86_400.0))
    # How long the gateway still answers after it was told to stop, while it says that it is not ready. It
    # must be longer than a load balancer takes to notice that.
    drain_seconds: float = field(default=2.0, metadata=rules(minimum=0.0, maximum=5.0))

    @property
    def jwks_is_url(self) -> bool:
        return is_url(self.jwks)

    @property
    def targets(self) -> Mapping[str, str]:
        """Where each service listens, by the short name of its proto package."""
        return {
            "session": self.session_target,
            "subscription": self.subscription_target,
            "progress": self.progress_target,
        }

    @classmethod
    def problems(cls, given: Mapping[str, Any]) -> Iterator[str]:
        yield from super().problems(given)
        if given.get("mode") is Mode.PRODUCTION and given.get("jwt_issuer") == DEVELOPMENT_ISSUER:
            yield (
                f"{PREFIX}JWT_ISSUER is {DEVELOPMENT_ISSUER!r} in production mode, but its tokens are for "
                "development only: set it to the issuer of your identity provider"
            )
        jwks = given.get("jwks")
        if not isinstance(jwks, str) or not is_url(jwks):
            return
        if not urlsplit(jwks).hostname:
            yield f"{PREFIX}JWKS cannot be used: {jwks!r} names no host"
        elif jwks.lower().startswith("http:") and given.get("mode") is not Mode.DEVELOPMENT:
            yield f"{PREFIX}JWKS must be an https:// URL: over http, an attacker could replace the keys"

    @classmethod
    def doubts(cls, given: Mapping[str, Any]) -> Iterator[Doubt]:
        """Bounds of which one can never be reached because of the other."""
        for inner, outer in (
            ("connections_per_address_max", "connections_max"),
            ("in_flight_per_learner_max", "in_flight_per_address_max"),
            ("rate_per_user_max", "rate_per_address_max"),
        ):
            low, high = given.get(outer), given.get(inner)
            if low and high and high > low:
                yield Doubt(
                    Severity.LOW,
                    f"{PREFIX}{inner.upper()} ({high}) is above {PREFIX}{outer.upper()} ({low}), "
                    "so it is never reached",
                )


def is_url(text: str) -> bool:
    return text.lower().startswith(("http://", "https://"))
