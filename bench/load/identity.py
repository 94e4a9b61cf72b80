"""The bench's own issuer: one RSA key, its JWKS file, and tokens that outlive every run."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.jwk import RSAKey

ISSUER = "https://bench.homeroom.example"
AUDIENCE = "homeroom-bench"
ISSUED_AT = 1_750_000_000
EXPIRES_AT = 4_102_444_800  # 2100-01-01: the tokens are cached on disk
KEY_ID = "bench"
KEY_BITS = 2048


@dataclass(frozen=True, slots=True)
class Identity:
    """Signs tokens; every system under test reads the public key from the file `jwks`."""

    key: RSAKey
    jwks: Path

    @classmethod
    def load(cls, cache: Path) -> Identity:
        """The key in the cache folder, made at its first use."""
        private, jwks = cache / "signing-key.pem", cache / "jwks.json"
        if not private.exists():
            cache.mkdir(parents=True, exist_ok=True)
            pem = rsa.generate_private_key(65537, KEY_BITS).private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            )
            draft = private.with_suffix(".new")
            draft.touch(mode=0o600)
            draft.write_bytes(pem)
            draft.replace(private)
        key = RSAKey.import_key(private.read_bytes(), {"kid": KEY_ID, "alg": "RS256", "use": "sig"})
        _write_if_changed(jwks, json.dumps({"keys": [key.as_dict(private=False)]}))
        return cls(key=key, jwks=jwks)

    @property
    def thumbprint(self) -> str:
        """Names the key: tokens signed with another one are stale."""
        return self.key.thumbprint()

    def token(self, user_id: str, role: str) -> str:
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user_id,
            "roles": [role],
            "iat": ISSUED_AT,
            "exp": EXPIRES_AT,
        }
        return jwt.encode({"alg": "RS256", "kid": KEY_ID, "typ": "JWT"}, claims, self.key)


def _write_if_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.write_text(text)
        draft.replace(path)
