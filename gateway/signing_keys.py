"""The keys that tokens may be signed with, from a JWKS file or URL, and always its present ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
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
URL_RETRY_SECONDS = 5.0
# An unknown key id asks for a refresh; anybody can send one, so it is asked for no oftener than this.
UNKNOWN_KEY_REFRESH_SECONDS = 10.0

_PUBLIC_MEMBERS = {"RSA": ("kty", "n", "e", "kid"), "EC": ("kty", "crv", "x", "y", "kid")}

log = get_logger(__name__)


class JwksError(Exception):
    """The JWKS cannot be had, or holds no key that could be used; the message says why."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key and the one algorithm it may be used with."""

    key_id: str | None
    algorithm: str
    thumbprint: str
    key: RSAKey | ECKey = field(compare=False)


class SigningKeys:
    """The present keys. `generation` grows whenever they change, so that what was derived can be dropped.

    Args:
        read: gets the JWKS document; raises JwksError.
        refresh_seconds: how often it is read anew.
        unknown_key_seconds: how often, at most, an unknown key id may cause another reading.
    """

    def __init__(
        self, *, read: Callable[[], Awaitable[bytes]], refresh_seconds: float, unknown_key_seconds: float
    ) -> None:
        self._read = read
        self._refresh_seconds = refresh_seconds
        self._unknown_key_seconds = unknown_key_seconds
        self._keys: tuple[SigningKey, ...] = ()
        self._document = b""
        self._look_again_at = 0.0
        self._looking: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self.generation = 0

    async def load(self) -> None:
        """Reads the keys now; raises JwksError, and then the earlier ones stay."""
        document = await self._read()
        if document == self._document:
            return
        keys = usable_keys(document)
        self._document = document
        if keys != self._keys:
            self._keys = keys
            self.generation += 1
            log.info("signing keys loaded", key_ids=[key.key_id for key in keys])

    def keep_fresh(self) -> None:
        """Goes on reading them in the background, until `close`."""
        self._refreshing = asyncio.create_task(self._refresh_forever(), name="refresh signing keys")

    async def find(self, key_id: str | None, algorithm: str) -> SigningKey | None:
        """The key a token names; without a name, the only key for its algorithm, if there is only one.

        Raises:
            ServiceError: UNAVAILABLE, while no key could ever be loaded.
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
        for task in (self._refreshing, self._looking):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])

    def _find(self, key_id: str | None, algorithm: str) -> SigningKey | None:
        fitting = [
            key
            for key in self._keys
            if key.algorithm == algorithm and (key_id is None or key.key_id == key_id)
        ]
        return fitting[0] if len(fitting) == 1 else None

    async def _look_again(self) -> None:
        """One reading at a time, shared by all who wait for it, and not too often."""
        if self._looking is None or self._looking.done():
            now = time.monotonic()
            if now < self._look_again_at:
                return
            self._look_again_at = now + self._unknown_key_seconds
            self._looking = asyncio.create_task(self._try_load(), name="look for an unknown signing key")
        await asyncio.shield(self._looking)

    async def _refresh_forever(self) -> None:
        while True:
            soon = min(self._refresh_seconds, URL_RETRY_SECONDS)
            await asyncio.sleep(self._refresh_seconds if self._keys else soon)
            await self._try_load()

    async def _try_load(self) -> None:
        try:
            await self.load()
        except JwksError as error:
            log.warning("signing keys cannot be read; the earlier ones stay", problem=str(error))


def keys_from_file(path: Path) -> SigningKeys:
    """Keys from a file, read every second: a changed file holds from then on."""

    async def read() -> bytes:
        try:
            return path.read_bytes()  # noqa: ASYNC240 — a few kilobytes from the page cache
        except OSError as error:
            raise JwksError(f"{path} cannot be read: {error.strerror}") from error

    return SigningKeys(
        read=read, refresh_seconds=FILE_CHECK_SECONDS, unknown_key_seconds=FILE_CHECK_SECONDS / 10
    )


def keys_from_url(url: str, *, unknown_key_seconds: float = UNKNOWN_KEY_REFRESH_SECONDS) -> SigningKeys:
    """Keys from an identity provider's address, read again every few minutes and for unknown key ids."""

    async def read() -> bytes:
        timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS_MAX)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
                if response.status != 200:
                    raise JwksError(f"{url} answers {response.status}")
                document = await response.content.read(JWKS_BYTES_MAX + 1)
                while not response.content.at_eof() and len(document) <= JWKS_BYTES_MAX:
                    document += await response.content.read(JWKS_BYTES_MAX + 1)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise JwksError(f"{url} cannot be read: {error or type(error).__name__}") from error
        if len(document) > JWKS_BYTES_MAX:
            raise JwksError(f"{url} answers with more than {JWKS_BYTES_MAX} bytes")
        return document

    return SigningKeys(
        read=read, refresh_seconds=URL_REFRESH_SECONDS, unknown_key_seconds=unknown_key_seconds
    )


def usable_keys(document: bytes) -> tuple[SigningKey, ...]:
    """The keys of a JWKS for RS256 and ES256; others are passed over (RFC 7517, section 5).

    Raises:
        JwksError: it is not a JWKS, or no key of it can be used.
    """
    try:
        parsed = orjson.loads(document)
    except ValueError:
        parsed = None
    entries = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(entries, list):
        raise JwksError('the JWKS is not JSON of the form {"keys": [...]}')
    keys = tuple(key for key in map(_usable_key, entries) if key is not None)
    if not keys:
        raise JwksError("the JWKS holds no RSA key of at least 2048 bits and no P-256 key for signatures")
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
        else:
            key = ECKey.import_key(public)
            fits = key.curve_name == "P-256"
        return SigningKey(key_id, algorithm, key.thumbprint(), key) if fits else None
    except (JoseError, ValueError, TypeError, KeyError) as error:
        log.warning("a key of the JWKS cannot be used", key_id=key_id, problem=str(error))
        return None
