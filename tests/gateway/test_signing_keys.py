"""Where the keys that sign tokens come from, and what happens when they change or cannot be read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp.web
import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

from gateway.signing_keys import JwksError, PrivateKeysError, keys_from_file, keys_from_url, usable_keys
from tests.gateway.backend import Backend
from tests.gateway.running import running_gateway
from tests.gateway.test_tokens import get_stats
from tests.gateway.tokens import IdentityProvider
from tests.support.waiting import eventually


async def test_a_changed_jwks_file_holds_without_a_restart(
    backend: Backend, identity: IdentityProvider, tmp_path: Path
) -> None:
    jwks = tmp_path / "jwks.json"
    jwks.write_bytes(identity.jwks())
    keys = keys_from_file(jwks, public_only=True)
    await keys.load()
    successor = IdentityProvider()
    async with running_gateway(upstream_port=backend.port, identity=identity, keys=keys) as gateway:
        old, new = identity.token("old"), successor.token("new")
        assert (await get_stats(gateway, old))[0] == 200
        assert (await get_stats(gateway, new))[0] == 401
        jwks.write_bytes(b"{ half a fi")
        assert (await get_stats(gateway, old))[0] == 200
        jwks.write_bytes(successor.jwks())
        await eventually(lambda: keys.generation == 2)
        assert (await get_stats(gateway, new))[0] == 200
        # Also what was remembered of the old key is forgotten.
        assert (await get_stats(gateway, old))[0] == 401


class JwksServer:
    """An identity provider's JWKS address."""

    def __init__(self, document: bytes) -> None:
        self.document = document
        self.status = 200
        self.headers: dict[str, str] = {}
        self.asked = 0
        self.url = ""

    async def answer(self, _request: aiohttp.web.BaseRequest) -> aiohttp.web.Response:
        self.asked += 1
        return aiohttp.web.Response(status=self.status, body=self.document, headers=self.headers)


@asynccontextmanager
async def jwks_server(document: bytes) -> AsyncIterator[JwksServer]:
    server = JwksServer(document)
    runner = aiohttp.web.ServerRunner(aiohttp.web.Server(server.answer))
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/jwks.json"
    yield server
    await runner.cleanup()


async def test_an_unknown_key_id_fetches_the_keys_anew(backend: Backend, identity: IdentityProvider) -> None:
    successor = IdentityProvider()
    async with jwks_server(identity.jwks()) as server:
        keys = keys_from_url(server.url, public_only=True, unknown_key_seconds=0.0)
        await keys.load()
        async with running_gateway(upstream_port=backend.port, identity=identity, keys=keys) as gateway:
            server.document = successor.jwks()
            assert (await get_stats(gateway, successor.token()))[0] == 200
            assert (await get_stats(gateway, identity.token()))[0] == 401


async def test_unknown_key_ids_cannot_flood_the_provider(
    backend: Backend, identity: IdentityProvider
) -> None:
    async with jwks_server(identity.jwks()) as server:
        keys = keys_from_url(server.url, public_only=True, unknown_key_seconds=600.0)
        await keys.load()
        async with running_gateway(upstream_port=backend.port, identity=identity, keys=keys) as gateway:
            for number in range(20):
                token = gateway.identity.token(header={"kid": f"nobody-{number}"})
                assert (await get_stats(gateway, token))[0] == 401
        assert server.asked == 2


async def test_while_the_provider_is_away_known_keys_stay_good(
    backend: Backend, identity: IdentityProvider
) -> None:
    async with jwks_server(identity.jwks()) as server:
        keys = keys_from_url(server.url, public_only=True, unknown_key_seconds=0.0)
        await keys.load()
        async with running_gateway(upstream_port=backend.port, identity=identity, keys=keys) as gateway:
            for status, document in (
                (500, b""),
                (200, b"<html>"),
                (200, b'{"keys":[]}'),
                (200, b"x" * 10**6),
            ):
                server.status, server.document = status, document
                assert (await get_stats(gateway, IdentityProvider().token()))[0] == 401
                assert (await get_stats(gateway, identity.token()))[0] == 200


async def test_tokens_are_unavailable_until_a_key_was_loaded(
    backend: Backend, identity: IdentityProvider
) -> None:
    async with jwks_server(b"") as server:
        server.status = 503
        keys = keys_from_url(server.url, public_only=True, unknown_key_seconds=0.0)
        with pytest.raises(JwksError, match="answers 503"):
            await keys.load()
        async with running_gateway(upstream_port=backend.port, identity=identity, keys=keys) as gateway:
            assert (await get_stats(gateway, identity.token()))[:2] == (503, "UNAVAILABLE")
            assert (await gateway.request("GET", "/readyz")).status == 503
            server.status, server.document = 200, identity.jwks()
            assert (await get_stats(gateway, identity.token()))[0] == 200
            assert (await gateway.request("GET", "/readyz")).status == 200


@pytest.mark.filterwarnings("ignore:Key size should be")
def test_keys_that_could_do_harm_are_not_used(identity: IdentityProvider) -> None:
    short = RSAKey.generate_key(1024, auto_kid=True)
    other_curve = ECKey.generate_key("P-384", auto_kid=True)
    secret = OctKey.generate_key(256, auto_kid=True)
    encrypting = RSAKey.generate_key(2048, {"use": "enc"}, auto_kid=True)
    other_algorithm = RSAKey.generate_key(2048, {"alg": "RS512"}, auto_kid=True)
    entries: list[Any] = [
        key.as_dict(private=False) for key in (short, other_curve, encrypting, other_algorithm)
    ]
    entries += [secret.as_dict(private=True), {"kty": "RSA"}, {"kty": "RSA", "n": "!", "e": 5}, {}]
    with pytest.raises(JwksError, match="no RSA key"):
        usable_keys(json.dumps({"keys": [*entries, None, 5]}).encode(), public_only=False)
    with_good = json.dumps({"keys": [*entries, identity.ec.as_dict(private=False)]}).encode()
    assert [key.key_id for key in usable_keys(with_good, public_only=False)] == [identity.ec.kid]


@pytest.mark.parametrize("document", [b"", b"[]", b"5", b"{}", b'{"keys": {}}', b'{"keys": []}', b"\xff"])
def test_what_is_no_jwks_is_refused(document: bytes) -> None:
    with pytest.raises(JwksError):
        usable_keys(document, public_only=True)


async def test_a_redirect_is_not_followed(identity: IdentityProvider) -> None:
    async with jwks_server(identity.jwks()) as elsewhere, jwks_server(b"") as server:
        keys = keys_from_url(server.url, public_only=True)
        for status in (301, 302, 303, 307, 308):
            server.status, server.headers = status, {"Location": elsewhere.url}
            with pytest.raises(JwksError, match=f"answers {status}"):
                await keys.load()
        assert elsewhere.asked == 0


async def test_the_job_reads_the_keys_again_when_they_are_old(identity: IdentityProvider) -> None:
    async with jwks_server(identity.jwks()) as server:
        keys = keys_from_url(server.url, public_only=True)
        assert await keys.refresh() is None
        assert await keys.refresh() == pytest.approx(300.0, abs=60.0)
        assert server.asked == 1
        keys._loaded_at -= 200.0
        assert await keys.refresh() is None
        assert server.asked == 2


def private(identity: IdentityProvider) -> list[Any]:
    secret = OctKey.generate_key(256, auto_kid=True)
    return [key.as_dict(private=True) for key in (identity.rsa, identity.ec, secret)]


def test_private_keys_are_refused_where_only_public_ones_may_be(identity: IdentityProvider) -> None:
    for entry in private(identity):
        document = json.dumps({"keys": [identity.ec.as_dict(private=False), entry]}).encode()
        with pytest.raises(PrivateKeysError, match="private keys"):
            usable_keys(document, public_only=True)
        assert usable_keys(document, public_only=False)


async def test_private_keys_that_appear_later_are_not_taken(
    backend: Backend, identity: IdentityProvider
) -> None:
    successor = IdentityProvider()
    async with jwks_server(identity.jwks()) as server:
        keys = keys_from_url(server.url, public_only=True, unknown_key_seconds=0.0)
        await keys.load()
        async with running_gateway(upstream_port=backend.port, identity=identity, keys=keys) as gateway:
            server.document = json.dumps({"keys": private(successor)}).encode()
            assert (await get_stats(gateway, successor.token()))[0] == 401
            assert (await get_stats(gateway, identity.token()))[0] == 200
