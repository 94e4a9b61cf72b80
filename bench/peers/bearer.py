"""RS256 bearer tokens, verified with the same library and key set as Homeroom's gateway."""

from __future__ import annotations

import json
import os
from pathlib import Path

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet


class NotAuthenticatedError(Exception):
    """The token is missing, malformed, expired, or signed with an unknown key."""


class BearerVerifier:
    """Turns an Authorization header into the caller's user id."""

    def __init__(self, *, jwks: Path, issuer: str, audience: str) -> None:
        self._keys = KeySet.import_key_set(json.loads(jwks.read_text()))
        self._claims = jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            sub={"essential": True},
            exp={"essential": True},
        )

    @classmethod
    def from_environment(cls) -> BearerVerifier:
        return cls(
            jwks=Path(os.environ["BENCH_JWKS"]),
            issuer=os.environ["BENCH_JWT_ISSUER"],
            audience=os.environ["BENCH_JWT_AUDIENCE"],
        )

    def learner(self, authorization: str) -> str:
        """The user id of a learner's token; raises NotAuthenticatedError for anything else."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise NotAuthenticatedError
        try:
            claims = jwt.decode(token, self._keys, algorithms=["RS256"]).claims
            self._claims.validate(claims)
        except (JoseError, ValueError) as error:
            raise NotAuthenticatedError from error
        if "learner" not in claims.get("roles", ()):
            raise NotAuthenticatedError
        return str(claims["sub"])
