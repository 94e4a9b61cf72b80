"""Checks bearer tokens: signature, issuer, audience and time. The result is a user id and roles."""

from __future__ import annotations

import binascii
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import orjson
from joserfc.errors import JoseError

from chassis.errors import Reason
from chassis.frozen import quick
from gateway.problems import HttpRefusal
from gateway.signing_keys import SigningKey, SigningKeys

# Only these two. The algorithm belongs to the key; the token cannot choose it.
ALGORITHMS = frozenset({"RS256", "ES256"})
# The roles that a token can give. The role "service" is missing: only our own processes have it.
TOKEN_ROLES = frozenset({"learner", "instructor", "admin"})
LEEWAY_SECONDS = 30
REMEMBERED_MAX = 10_000
# Longer tokens are checked each time, so that all remembered ones take 20 MB at most.
REMEMBERED_LENGTH_MAX = 2048
USER_ID_LENGTH_MAX = 128
CHALLENGE = 'Bearer realm="homeroom"'

_HEADERS_REMEMBERED_MAX = 64
# RFC 7515, 4.1.2 to 4.1.6. Only configured keys are used, so an honest provider has no reason to send these.
_OWN_KEYS = frozenset({"jku", "jwk", "x5u", "x5c"})
# The two characters in which base64url differs from base64. Those of base64 become one that neither has.
_TO_BASE64 = bytes.maketrans(b"-_+/=", b"+/!!!")
_PADDINGS = (b"", b"=", b"==")
# The last character of a text that needs so much padding. Any other one has bits that mean nothing.
_LAST_CHARACTERS = (b"", b"AEIMQUYcgkosw048", b"AQgw")


@quick
@dataclass(frozen=True, slots=True)
class Principal:
    """The caller, as the token names it."""

    user_id: str
    roles: frozenset[str]
    valid_until: float
    """Unix seconds: the token's `exp` and the leeway."""


class _Claims(msgspec.Struct, frozen=True):
    """The claims that are used (RFC 7519, section 4.1). A token may have more claims."""

    iss: str
    aud: str | list[str]
    sub: str
    exp: float
    roles: list[str]
    nbf: float = 0.0
    iat: float = 0.0


_read_claims = msgspec.json.Decoder(_Claims).decode


class Authenticator:
    """Checks tokens. It remembers valid tokens until they expire or the keys change.

    Args:
        issuer: the value that `iss` must have.
        audience: the value that `aud` must have or contain.
    """

    def __init__(
        self,
        *,
        keys: SigningKeys,
        issuer: str,
        audience: str,
        remembered_max: int = REMEMBERED_MAX,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._remembered: OrderedDict[str, Principal] = OrderedDict()
        self._remembered_max = remembered_max
        self._headers: dict[str, tuple[str | None, str]] = {}
        self._generation = keys.generation

    async def authenticate(self, authorization: Sequence[str]) -> Principal:
        """The caller whose token is in the `Authorization` header.

        Args:
            authorization: the values of all these headers. There must be one: with two, another party that
                reads the request might believe the other one.

        Raises:
            ServiceError: UNAUTHENTICATED, or UNAVAILABLE while there are no keys.
        """
        if not authorization:
            raise _unauthenticated("Send a token: Authorization: Bearer …", CHALLENGE)
        if len(authorization) > 1:
            raise _unauthenticated("Send one Authorization header", CHALLENGE)
        scheme, _, token = authorization[0].partition(" ")
        if scheme.lower() != "bearer":
            raise _unauthenticated("Send a bearer token: Authorization: Bearer …", CHALLENGE)
        if self._generation != self._keys.generation:
            self._generation = self._keys.generation
            self._remembered.clear()
        remembered = self._remembered.get(token)
        if remembered is not None:
            if time.time() >= remembered.valid_until:
                del self._remembered[token]
                raise _refused("The token has expired")
            self._remembered.move_to_end(token)
            return remembered
        key_id, algorithm = self._header(token)
        key = self._keys.known(key_id, algorithm) or await self._keys.find(key_id, algorithm)
        if key is None:
            raise _refused("The token is signed with an unknown key")
        claims = _verified_claims(token, key)
        self._check_claims(claims, now=time.time())
        principal = _principal(claims)
        if len(token) <= REMEMBERED_LENGTH_MAX:
            self._remembered[token] = principal
            if len(self._remembered) > self._remembered_max:
                self._remembered.popitem(last=False)
        return principal

    def _header(self, token: str) -> tuple[str | None, str]:
        """The key id and the algorithm of a token, before its signature is checked."""
        encoded, _, _ = token.partition(".")
        known = self._headers.get(encoded)  # the tokens of an identity provider usually have the same header
        if known is not None:
            return known
        try:
            header = orjson.loads(_decoded(encoded))
        except ValueError:
            raise _refused("The token is not a JWT") from None
        if not isinstance(header, dict) or "crit" in header:
            raise _refused("The token is a JWT with an unknown extension, or with a wrong header")
        if not _OWN_KEYS.isdisjoint(header):
            raise _refused("The token brings its own key, or the address of one")
        key_id, algorithm = header.get("kid"), header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise _refused("The token must be signed with RS256 or ES256")
        if not isinstance(key_id, str | None):
            raise _refused("The token's kid is not a string")
        if len(self._headers) >= _HEADERS_REMEMBERED_MAX:
            self._headers.clear()
        self._headers[encoded] = (key_id, algorithm)
        return key_id, algorithm

    def _check_claims(self, claims: _Claims, *, now: float) -> None:
        """Refuses a token with another issuer, for another audience, or for another time."""
        if claims.iss != self._issuer:
            raise _refused("The token's iss is not the trusted issuer")
        if self._audience not in ([claims.aud] if isinstance(claims.aud, str) else claims.aud):
            raise _refused("The token's aud does not name this service")
        if now >= claims.exp + LEEWAY_SECONDS:
            raise _refused("The token has expired")
        if max(claims.nbf, claims.iat) > now + LEEWAY_SECONDS:
            raise _refused("The token is not valid yet")


def _verified_claims(token: str, key: SigningKey) -> _Claims:
    """The claims of a token, after its signature was verified with this key (RFC 7515, section 5.2).

    joserfc's `jwt.decode` could do all of this, but it reads the header again, chooses the algorithm from the
    header, and takes twice as long.
    """
    signed, _, signature = token.rpartition(".")
    _, _, payload = signed.partition(".")
    try:
        if not key.verifies(signed.encode("ascii"), _decoded(signature)):
            raise _refused("The token's signature is wrong")
        return _read_claims(_decoded(payload))
    except msgspec.ValidationError as error:
        raise _refused(f"The token's claims are not valid: {error}") from None
    except (JoseError, ValueError, RecursionError):  # not JSON, not base64, not ASCII, or nested too deeply
        raise _refused("The token is not a JWT") from None


def _decoded(encoded: str) -> bytes:
    """The bytes that base64url without padding stands for (RFC 7515, section 2).

    Only the one canonical spelling is read. joserfc's function accepts the same texts, and a start takes 4 µs
    longer with it.

    Raises:
        ValueError: the text is something else.
    """
    text = encoded.encode("ascii")
    padding = -len(text) % 4
    if padding and (padding == 3 or text[-1] not in _LAST_CHARACTERS[padding]):
        raise binascii.Error("not base64url")
    return binascii.a2b_base64(text.translate(_TO_BASE64) + _PADDINGS[padding], strict_mode=True)


def _principal(claims: _Claims) -> Principal:
    user_id = claims.sub
    if not user_id.isprintable() or not 0 < len(user_id) <= USER_ID_LENGTH_MAX:
        raise _refused(f"The token's sub must be 1 to {USER_ID_LENGTH_MAX} printable characters")
    return Principal(user_id, TOKEN_ROLES.intersection(claims.roles), claims.exp + LEEWAY_SECONDS)


def token_too_long() -> HttpRefusal:
    """The refusal of a token that is longer than a header may be."""
    return _refused("The token is too long")


def _refused(detail: str) -> HttpRefusal:
    return _unauthenticated(detail, f'{CHALLENGE}, error="invalid_token"')


def _unauthenticated(detail: str, challenge: str) -> HttpRefusal:
    """The detail is for the author of a client, the challenge for its HTTP library (RFC 6750, section 3)."""
    return HttpRefusal(Reason.UNAUTHENTICATED, detail, headers=(("WWW-Authenticate", challenge),))
