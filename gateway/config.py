"""What the gateway is told by its environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from chassis.process.config import PREFIX, Mode, ProcessConfig, check_address, rules


@dataclass(frozen=True, kw_only=True)
class Config(ProcessConfig):
    """Nothing about tokens has a default: without keys, issuer and audience none could be believed."""

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

    @property
    def jwks_is_url(self) -> bool:
        return _is_url(self.jwks)

    @property
    def targets(self) -> Mapping[str, str]:
        """Where each service listens, by the short name that its proto package has."""
        return {
            "session": self.session_target,
            "subscription": self.subscription_target,
            "progress": self.progress_target,
        }

    @classmethod
    def problems(cls, given: Mapping[str, Any]) -> Iterator[str]:
        yield from super().problems(given)
        jwks = given.get("jwks")
        if not isinstance(jwks, str) or not _is_url(jwks):
            return
        if not urlsplit(jwks).hostname:
            yield f"{PREFIX}JWKS cannot be used: {jwks!r} names no host"
        elif jwks.lower().startswith("http:") and given.get("mode") is not Mode.DEVELOPMENT:
            yield f"{PREFIX}JWKS must be an https:// URL: who can change the keys on their way can be anybody"


def _is_url(text: str) -> bool:
    return text.lower().startswith(("http://", "https://"))
