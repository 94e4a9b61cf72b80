"""The keys that sign tokens, from a JWKS file or URL. They are read again at intervals."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import aiohttp
import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from chassis.errors import Reason, ServiceError
from chassis.telemetry.health import NotReadyError
from chassis.telemetry.logs import get_logger

RSA_BITS_MIN = 2048
JWKS_BYTES_MAX = 256 * 1024
FETCH_SECONDS_MAX = 5.0
FILE_CHECK_SECONDS = 1.0
URL_REFRESH_SECONDS = 300.0
# An unknown key id causes another read. Anybody can send an unknown key id, so there is a least interval.
UNKNOWN_KEY_REFRESH_SECONDS = 10.0

_PUBLIC_MEMBERS = {"RSA": ("kty", "n", "e", "kid"), "EC": ("kty", "crv", "x", "y", "kid")}
# RFC 7518, 6.2.2, 6.3.2 and 6.4.1: anybody who has these members can sign tokens.
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

_ES256 = jws.JWSRegistry.algorithms["ES256"]

log = get_logger(__name__)


class JwksError(Exception):
    """The JWKS cannot be read, or has no usable key; the message says why."""


class PrivateKeysError(JwksError):
    """The JWKS has private keys, so anybody may be able to sign tokens. It is not used."""

    def __init__(self) -> None:
        super().__init__(
            "the JWKS contains private keys: publish only the public keys, and replace these keys"
        )


Verifies: TypeAlias = Callable[[bytes, bytes], bool]


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key, and the only algorithm that it may be used with."""

    key_id: str | None
    algorithm: str
    thumbprint: str
    verifies: Verifies = field(compare=False)
    """Whether a signature, the second argument, of these bytes is the key's own."""


class SigningKeys:
    """The current keys. `generation` grows when they change, so that caches can be cleared.

    `on_withdrawn` is called when a key has gone: what its tokens have opened may not stay open.

    Args:
        read: returns the JWKS document; raises JwksError.
        refresh_seconds: the interval of the job that calls `refresh`.
        unknown_key_seconds: the least time between two reads that unknown key ids cause.
        public_only: refuse a document that also has private keys.
    """

    def __init__(
        self,
        *,
        read: Callable[[], Awaitable[bytes]],
        refresh_seconds: float,
        unknown_key_seconds: float,
        public_only: bool,
    ) -> None:
        self._read = read
        self._unknown_key_seconds = unknown_key_seconds
        self._public_only = public_only
        self._keys: tuple[SigningKey, ...] = ()
        self._document = b""
        self._loaded_at = -math.inf
        self._look_again_at = 0.0
        self._looking: asyncio.Task[None] | None = None
        self.refresh_seconds = refresh_seconds
        self.generation = 0
        self.on_withdrawn: Callable[[], object] = _nothing

    async def load(self) -> None:
        """Reads the keys now. If it raises JwksError, the previous keys stay."""
        document = await self._read()
        if document == self._document:
            self._loaded_at = time.monotonic()
            return
        keys = usable_keys(document, public_only=self._public_only)
        self._document = document
        self._loaded_at = time.monotonic()
        if keys != self._keys:
            gone = set(self._keys).difference(keys)
            self._keys = keys
            self.generation += 1
            log.info("signing_keys_loaded", key_ids=[key.key_id for key in keys])
            if gone:
                log.info("signing_keys_withdrawn", key_ids=[key.key_id for key in gone])
                self.on_withdrawn()

    async def refresh(self) -> float | None:
        """A round of background work: reads the keys, unless they were read recently."""
        fresh_seconds = self._loaded_at + self.refresh_seconds / 2 - time.monotonic()
        if fresh_seconds > 0.0:
            return fresh_seconds + self.refresh_seconds / 2
        await self.load()
        return None

    async def find(self, key_id: str | None, algorithm: str) -> SigningKey | None:
        """The key with a token's key id; without a key id, the only key for its algorithm. None if unknown.

        Raises:
            ServiceError: UNAVAILABLE, while no key was ever loaded.
        """
        key = self._find(key_id, algorithm)
        if key is None:
            await self._look_again()
            key = self._find(key_id, algorithm)
        if not self._keys:
            raise ServiceError(Reason.UNAVAILABLE, "Tokens cannot be checked yet")
        return key

    async def check(self) -> None:
        """For readiness: raises NotReadyError while there are no keys."""
        if not self._keys:
            raise NotReadyError("no signing keys could be loaded yet")

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    def _find(self, key_id: str | None, algorithm: str) -> SigningKey | None:
        fitting = [
            key
            for key in self._keys
            if key.algorithm == algorithm and (key_id is None or key.key_id == key_id)
        ]
        return fitting[0] if len(fitting) == 1 else None

    async def _look_again(self) -> None:
        """Reads the keys again, but not too often. Concurrent callers wait for the same read."""
        if self._looking is None or self._looking.done():
            now = time.monotonic()
            if now < self._look_again_at:
                return
            self._look_again_at = now + self._unknown_key_seconds
            self._looking = asyncio.create_task(self._try_load(), name="look for an unknown signing key")
        await asyncio.shield(self._looking)

    async def _try_load(self) -> None:
        try:
            await self.load()
        except JwksError as error:
            log.warning("signing_keys_not_read", problem=str(error))


def _nothing() -> None:
    """Nobody waits for keys to go."""


def keys_from_file(path: Path, *, public_only: bool) -> SigningKeys:
    """Keys from a file that is read every second, so that a changed file takes effect."""
    return SigningKeys(
        read=partial(read_file, path),
        refresh_seconds=FILE_CHECK_SECONDS,
        unknown_key_seconds=FILE_CHECK_SECONDS / 10,
        public_only=public_only,
    )


def keys_from_url(
    url: str, *, public_only: bool, unknown_key_seconds: float = UNKNOWN_KEY_REFRESH_SECONDS
) -> SigningKeys:
    """Keys from an identity provider. They are read again every few minutes, and for unknown key ids."""

    async def read() -> bytes:
        return (await read_url(url)).body

    return SigningKeys(
        read=read,
        refresh_seconds=URL_REFRESH_SECONDS,
        unknown_key_seconds=unknown_key_seconds,
        public_only=public_only,
    )


async def read_file(path: Path) -> bytes:
    """The JWKS in a file. Raises JwksError."""
    try:
        return path.read_bytes()  # noqa: ASYNC240 — a few kilobytes from the page cache
    except OSError as error:
        raise JwksError(f"{path} cannot be read: {error.strerror}") from error


class Fetched(NamedTuple):
    """A JWKS as its URL gives it; `age_seconds` is how long a cache on the way has had it already."""

    body: bytes
    age_seconds: float


async def read_url(url: str) -> Fetched:
    """The JWKS at a URL. Raises JwksError.

    Redirects are not followed: only the configured address may give the keys.
    """
    timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS_MAX)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise JwksError(f"{url} answers {response.status}")
            document = await response.content.read(JWKS_BYTES_MAX + 1)
            while not response.content.at_eof() and len(document) <= JWKS_BYTES_MAX:
                document += await response.content.read(JWKS_BYTES_MAX + 1)
            age = response.headers.get("Age", "")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise JwksError(f"{url} cannot be read: {error or type(error).__name__}") from error
    if len(document) > JWKS_BYTES_MAX:
        raise JwksError(f"{url} answers with more than {JWKS_BYTES_MAX} bytes")
    return Fetched(document, float(age) if age.isascii() and age.isdigit() else 0.0)


def usable_keys(document: bytes, *, public_only: bool) -> tuple[SigningKey, ...]:
    """The keys of a JWKS for RS256 and ES256. Other keys are skipped (RFC 7517, section 5).

    Raises:
        PrivateKeysError: it has private keys, and `public_only` is set.
        JwksError: it is not a JWKS, or none of its keys is usable.
    """
    try:
        parsed = orjson.loads(document)
    except ValueError:
        parsed = None
    entries = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(entries, list):
        raise JwksError('the JWKS is not JSON of the form {"keys": [...]}')
    if public_only and any(
        isinstance(entry, dict) and not _PRIVATE_MEMBERS.isdisjoint(entry) for entry in entries
    ):
        raise PrivateKeysError
    keys = tuple(key for key in map(_usable_key, entries) if key is not None)
    if not keys:
        raise JwksError("the JWKS has no RSA key of at least 2048 bits and no P-256 key for signatures")
    return keys


def _usable_key(entry: Any) -> SigningKey | None:
    if not isinstance(entry, Mapping) or entry.get("use", "sig") != "sig":
        return None
    members = _PUBLIC_MEMBERS.get(str(entry.get("kty")))
    if members is None:
        return None
    algorithm = "RS256" if entry["kty"] == "RSA" else "ES256"
    key_id = entry.get("kid")
    if entry.get("alg", algorithm) != algorithm or not isinstance(key_id, str | None):
        return None
    public: Any = {name: entry[name] for name in members if name in entry}
    try:
        key: RSAKey | ECKey
        if algorithm == "RS256":
            key = RSAKey.import_key(public)
            fits = key.public_key.key_size >= RSA_BITS_MIN
            verifies = _rs256_verifier(key)
        else:
            key = ECKey.import_key(public)
            fits = key.curve_name == "P-256"
            verifies = partial(_es256_verifies, key)
        return SigningKey(key_id, algorithm, key.thumbprint(), verifies) if fits else None
    except (JoseError, ValueError, TypeError, KeyError) as error:
        log.warning("signing_key_not_usable", key_id=key_id, problem=str(error))
        return None


def _rs256_verifier(key: RSAKey) -> Verifies:
    """RS256 (RFC 7518, 3.3), with everything prepared: joserfc's own takes 1.6 times as long."""
    public_key = key.public_key
    padding, algorithm = PKCS1v15(), SHA256()

    def verifies(signed: bytes, signature: bytes) -> bool:
        try:
            public_key.verify(signature, signed, padding, algorithm)
        except InvalidSignature:
            return False
        return True

    return verifies


def _es256_verifies(key: ECKey, signed: bytes, signature: bytes) -> bool:
    return bool(_ES256.verify(signed, signature, key))
