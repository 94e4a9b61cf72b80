"""Signing keys and tokens for development; production has an issuer of its own."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from joserfc import jwt
from joserfc.jwk import RSAKey

from homeroom.secrets_file import write_private

ISSUER = "homeroom-dev"
AUDIENCE = "homeroom"
ROLES = ("learner", "instructor", "admin")


class ProductionModeError(RuntimeError):
    """Development keys were asked for in production mode."""

    def __init__(self) -> None:
        super().__init__("development keys do not exist in production mode (HOMEROOM_MODE=production)")


class DevelopmentKeys:
    """One RS256 key pair, made at its first use; the gateway reads its public half from a JWKS file."""

    def __init__(self, directory: Path) -> None:
        """Read or make the keys in `directory`; raises ProductionModeError in production mode."""
        if os.environ.get("HOMEROOM_MODE") == "production":
            raise ProductionModeError
        private = directory / "signing-key.json"
        self.jwks = directory / "jwks.json"
        if not private.exists():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            key = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)
            write_private(private, json.dumps(key.as_dict(private=True)))
        self._key = RSAKey.import_key(json.loads(private.read_text()))
        if not self.jwks.exists():
            draft = self.jwks.with_suffix(".draft")
            draft.write_text(json.dumps({"keys": [self._key.as_dict(private=False)]}, indent=2))
            draft.replace(self.jwks)

    def token(self, user: str, roles: Iterable[str] = ("learner",), *, ttl_seconds: int = 3600) -> str:
        """A bearer token for this user, as the gateway of this stack accepts it."""
        issued_at = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user,
            "roles": list(roles),
            "iat": issued_at,
            "exp": issued_at + ttl_seconds,
            "jti": str(uuid.uuid4()),
        }
        return jwt.encode({"alg": "RS256", "kid": self._key.kid, "typ": "JWT"}, claims, self._key)
