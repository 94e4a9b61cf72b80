"""An identity provider: keys, its JWKS, and tokens as good or as bad as a test wants them."""

from __future__ import annotations

import json
import time
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, Key, KeySet, RSAKey
from joserfc.jws import JWSRegistry
from joserfc.util import urlsafe_b64encode

ISSUER = "https://id.example.org"
AUDIENCE = "homeroom"


class IdentityProvider:
    """Signs tokens with one RSA key and one P-256 key, both in its JWKS."""

    def __init__(self) -> None:
        self.rsa = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)
        self.ec = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"}, auto_kid=True)

    def jwks(self, *keys: Key) -> bytes:
        return json.dumps(KeySet(list(keys or (self.rsa, self.ec))).as_dict(private=False)).encode()

    def token(
        self,
        user: str = "ada",
        roles: Any = ("learner",),
        *,
        key: Key | None = None,
        algorithm: str = "RS256",
        header: dict[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """A good token, but for what the arguments change; what is given as None is left out."""
        now = int(time.time())
        all_claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user,
            "roles": list(roles) if isinstance(roles, tuple) else roles,
            "iat": now,
            "nbf": now,
            "exp": now + 600,
            **claims,
        }
        signing = key or (self.ec if algorithm == "ES256" else self.rsa)
        return jwt.encode(
            _given({"alg": algorithm, "kid": signing.kid, **(header or {})}),
            _given(all_claims),
            signing,
            registry=JWSRegistry(algorithms=[algorithm], strict_check_header=False),
        )

    def signed(self, header: dict[str, Any], payload: bytes) -> str:
        """Anything at all, rightly signed with the RSA key."""
        head = json.dumps({"alg": "RS256", "kid": self.rsa.kid, **header}).encode()
        text = urlsafe_b64encode(head) + b"." + urlsafe_b64encode(payload)
        signature = JWSRegistry.algorithms["RS256"].sign(text, self.rsa)
        return (text + b"." + urlsafe_b64encode(signature)).decode()


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
