"""Which tokens are believed: attacks, claims, forgetting, and keys that change."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp.web
import pytest
import time_machine
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jwk import ECKey, OctKey, RSAKey

from chassis.errors import ServiceError
from gateway.authentication import Authenticator, Principal
from gateway.signing_keys import JwksError, SigningKeys, keys_from_file, keys_from_url, usable_keys
from tests.gateway.backend import Backend
from tests.gateway.running import Gateway, running_gateway
from tests.gateway.tokens import AUDIENCE, ISSUER, IdentityProvider
from tests.support.waiting import eventually


def encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def payload_of(token: str) -> str:
    return token.split(".")[1]


async def get_stats(gateway: Gateway, token: str) -> tuple[int, str, str]:
    answer = await gateway.request("GET", "/v1/stats", token=token)
    reason = "" if answer.status == 200 else answer.reason
    return answer.status, reason, answer.headers.get("WWW-Authenticate", "")


async def assert_refused(gateway: Gateway, backend: Backend, token: str) -> None:
    status, reason, challenge = await get_stats(gateway, token)
    assert (status, reason) == (401, "UNAUTHENTICATED")
    assert challenge == 'Bearer realm="homeroom", error="invalid_token"'
    assert not backend.items


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_a_good_token_is_believed(gateway: Gateway, backend: Backend, algorithm: str) -> None:
    token = gateway.identity.token("ada", algorithm=algorithm)
    for _ in range(2):  # checked, then remembered
        assert (await get_stats(gateway, token))[0] == 200
    assert [item.call.user_id for item in backend.items] == ["ada", "ada"]


@pytest.mark.parametrize("header", [None, "", "Basic YWRhOmFkYQ==", "Bearer", "bearer", "Token abc"])
async def test_without_a_bearer_token_the_challenge_says_how(
    gateway: Gateway, backend: Backend, header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = await gateway.request("GET", "/v1/stats", token=None, headers=headers)
    assert (answer.status, answer.reason) == (401, "UNAUTHENTICATED")
    assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="homeroom"')
    assert not backend.items


async def test_the_scheme_is_read_in_any_case(gateway: Gateway, backend: Backend) -> None:
    headers = {"Authorization": f"bEaReR {gateway.identity.token()}"}
    assert (await gateway.request("GET", "/v1/stats", token=None, headers=headers)).status == 200
    assert backend.items


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, 5, ["RS256"], {"RS256": 1}])
async def test_an_unsigned_token_is_refused(gateway: Gateway, backend: Backend, algorithm: Any) -> None:
    claims = payload_of(gateway.identity.token())
    header = encoded({"alg": algorithm, "typ": "JWT", "kid": gateway.identity.rsa.kid})
    for signature in ("", encoded("x")):
        await assert_refused(gateway, backend, f"{header}.{claims}.{signature}")


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_the_public_key_is_no_shared_secret(gateway: Gateway, backend: Backend, algorithm: str) -> None:
    public = gateway.identity.rsa.public_key
    forms = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.PEM, PublicFormat.PKCS1),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(gateway.identity.rsa.as_dict(private=False)).encode(),
    ]
    header = encoded({"alg": algorithm, "typ": "JWT", "kid": gateway.identity.rsa.kid})
    signed = f"{header}.{payload_of(gateway.identity.token())}"
    for secret in forms:
        digest = hmac.new(secret, signed.encode(), getattr(hashlib, algorithm.replace("HS", "sha"))).digest()
        signature = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        await assert_refused(gateway, backend, f"{signed}.{signature}")


def claims_of(token: str) -> bytes:
    payload = payload_of(token)
    return base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))


async def test_a_token_that_demands_what_nobody_understands_is_refused(
    gateway: Gateway, backend: Backend
) -> None:
    claims = claims_of(gateway.identity.token())
    assert (await get_stats(gateway, gateway.identity.signed({}, claims)))[0] == 200
    backend.reset()
    for header in ({"crit": ["exp"], "exp": 0}, {"crit": ["b64"], "b64": False}, {"crit": []}):
        await assert_refused(gateway, backend, gateway.identity.signed(header, claims))


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b"5", b"{", b"\xff", b'{"exp": NaN}', b"[" * 4000])
async def test_a_signature_makes_no_claims_of_what_are_none(
    gateway: Gateway, backend: Backend, payload: bytes
) -> None:
    await assert_refused(gateway, backend, gateway.identity.signed({}, payload))


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256"])
async def test_the_right_key_with_another_algorithm_is_refused(
    gateway: Gateway, backend: Backend, algorithm: str
) -> None:
    key = RSAKey.import_key(
        {k: v for k, v in gateway.identity.rsa.as_dict(private=True).items() if k not in {"alg", "use"}}
    )
    await assert_refused(gateway, backend, gateway.identity.token(key=key, algorithm=algorithm))


async def test_a_key_is_used_only_with_its_own_algorithm(gateway: Gateway, backend: Backend) -> None:
    identity = gateway.identity
    await assert_refused(gateway, backend, identity.token(header={"kid": identity.ec.kid}))
    await assert_refused(
        gateway, backend, identity.token(algorithm="ES256", header={"kid": identity.rsa.kid})
    )


async def test_somebody_elses_signature_is_refused(gateway: Gateway, backend: Backend) -> None:
    stranger = IdentityProvider()
    known_kid = {"kid": gateway.identity.rsa.kid}
    await assert_refused(gateway, backend, stranger.token())
    await assert_refused(gateway, backend, stranger.token(header=known_kid))
    # A key that comes along in the header is nobody's but the sender's.
    await assert_refused(
        gateway, backend, stranger.token(header={**known_kid, "jwk": stranger.rsa.as_dict(private=False)})
    )


async def test_a_changed_payload_is_refused(gateway: Gateway, backend: Backend) -> None:
    header, _, signature = gateway.identity.token().split(".")
    admin = payload_of(gateway.identity.token("ada", ("admin",)))
    await assert_refused(gateway, backend, f"{header}.{admin}.{signature}")
    await assert_refused(gateway, backend, f"{header}.{admin}.")


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "..",
        "...",
        "a.b.c",
        "a.b.c.d.e",
        "é.é.é",
        "=.=.=",
        encoded([]) + ".e30.e30",
        encoded("RS256") + ".e30.e30",
        encoded({"alg": "RS256", "kid": 7}) + ".e30.e30",
        encoded({"alg": "RS256", "kid": "nobody"}) + ".e30.e30",
        encoded({"alg": "RS256", "crit": ["b64"], "b64": False}) + ".e30.e30",
        base64.urlsafe_b64encode(b"[" * 5000).decode() + ".e30.e30",
        base64.urlsafe_b64encode(b'{"alg":"RS256","kid":' + b"[" * 4000).decode() + ".e30.e30",
    ],
    ids=lambda token: token[:20],
)
async def test_what_is_no_token_is_refused(gateway: Gateway, backend: Backend, token: str) -> None:
    await assert_refused(gateway, backend, token)


class FromNow(float):
    """Seconds from when the test runs: cases are made when tests are collected, maybe minutes earlier."""

    def __repr__(self) -> str:
        return f"now{float(self):+g}"


def at_once(claims: dict[str, Any]) -> dict[str, Any]:
    """The claims with what is relative to now as times."""
    now = int(time.time())
    return {
        name: now + float(value) if isinstance(value, FromNow) else value for name, value in claims.items()
    }


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example.org"},
        {"iss": None},
        {"iss": [ISSUER]},
        {"aud": "another-service"},
        {"aud": ["another-service"]},
        {"aud": []},
        {"aud": None},
        {"aud": {AUDIENCE: True}},
        {"exp": FromNow(-31)},
        {"exp": None},
        {"exp": "9999999999"},
        {"exp": True},
        {"nbf": FromNow(120)},
        {"nbf": "soon"},
        {"iat": FromNow(120)},
        {"iat": "now"},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": ["ada"]},
        {"sub": "a" * 129},
        {"sub": "ada\u0000"},
        {"sub": "ada\n"},
    ],
    ids=str,
)
async def test_a_signed_token_with_a_wrong_claim_is_refused(
    gateway: Gateway, backend: Backend, claims: dict[str, Any]
) -> None:
    await assert_refused(gateway, backend, gateway.identity.token(**at_once(claims)))


@pytest.mark.parametrize("roles", [None, "learner", {"learner": True}, ["learner", 7], [["learner"]], 7])
async def test_roles_must_be_a_list_of_strings(gateway: Gateway, backend: Backend, roles: Any) -> None:
    await assert_refused(gateway, backend, gateway.identity.token("ada", roles))


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": ["another-service", AUDIENCE]},
        {"nbf": None, "iat": None},
        {"exp": FromNow(3600.5)},
        {"nbf": FromNow(20)},  # within the leeway for clocks that differ
        {"exp": FromNow(20), "iat": FromNow(20)},
        {"sub": "auth0|läufer:1"},
        {"picture": "https://example.org/ada.png", "org": {"name": "x"}},
    ],
    ids=str,
)
async def test_a_signed_token_with_good_claims_is_believed(
    gateway: Gateway, backend: Backend, claims: dict[str, Any]
) -> None:
    assert (await get_stats(gateway, gateway.identity.token(**at_once(claims))))[0] == 200
    assert backend.items


async def test_headers_that_providers_add_are_let_pass(gateway: Gateway, backend: Backend) -> None:
    token = gateway.identity.token(header={"x5t": "abc", "custom": 1})
    assert (await get_stats(gateway, token))[0] == 200
    assert backend.items


def keys_of(document: bytes) -> SigningKeys:
    async def read() -> bytes:
        return document

    return SigningKeys(read=read, refresh_seconds=60, unknown_key_seconds=60)


async def test_a_remembered_token_is_forgotten_when_it_expires(identity: IdentityProvider) -> None:
    authenticator = Authenticator(keys=keys_of(identity.jwks()), issuer=ISSUER, audience=AUDIENCE)
    authorization = f"Bearer {identity.token(exp=int(time.time()) + 100)}"
    ada = Principal("ada", frozenset({"learner"}))
    assert await authenticator.authenticate(authorization) == ada
    with time_machine.travel(time.time() + 129, tick=False):
        assert await authenticator.authenticate(authorization) == ada
    with time_machine.travel(time.time() + 131, tick=False):
        for _ in range(2):
            with pytest.raises(ServiceError, match="expired"):
                await authenticator.authenticate(authorization)


async def test_only_so_many_tokens_are_remembered(identity: IdentityProvider) -> None:
    authenticator = Authenticator(
        keys=keys_of(identity.jwks()), issuer=ISSUER, audience=AUDIENCE, remembered_maximum=3
    )
    for number in range(10):
        principal = await authenticator.authenticate(f"Bearer {identity.token(f'user-{number}')}")
        assert principal.user_id == f"user-{number}"
    assert len(authenticator._remembered) == 3


async def test_a_token_without_a_key_id_needs_a_single_key_that_fits(identity: IdentityProvider) -> None:
    second = RSAKey.generate_key(2048, auto_kid=True)
    for keys, known in ((identity.jwks(), True), (identity.jwks(identity.rsa, second), False)):
        authenticator = Authenticator(keys=keys_of(keys), issuer=ISSUER, audience=AUDIENCE)
        authorization = f"Bearer {identity.token(header={'kid': None})}"
        if known:
            assert (await authenticator.authenticate(authorization)).user_id == "ada"
        else:
            with pytest.raises(ServiceError, match="unknown key"):
                await authenticator.authenticate(authorization)


async def test_a_changed_jwks_file_holds_without_a_restart(
    backend: Backend, identity: IdentityProvider, tmp_path: Path
) -> None:
    jwks = tmp_path / "jwks.json"
    jwks.write_bytes(identity.jwks())
    keys = keys_from_file(jwks)
    await keys.load()
    keys.keep_fresh()
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
        self.asked = 0
        self.url = ""

    async def answer(self, _request: aiohttp.web.BaseRequest) -> aiohttp.web.Response:
        self.asked += 1
        return aiohttp.web.Response(status=self.status, body=self.document)


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
        keys = keys_from_url(server.url, unknown_key_seconds=0.0)
        await keys.load()
        async with running_gateway(upstream_port=backend.port, identity=identity, keys=keys) as gateway:
            server.document = successor.jwks()
            assert (await get_stats(gateway, successor.token()))[0] == 200
            assert (await get_stats(gateway, identity.token()))[0] == 401


async def test_unknown_key_ids_cannot_flood_the_provider(
    backend: Backend, identity: IdentityProvider
) -> None:
    async with jwks_server(identity.jwks()) as server:
        keys = keys_from_url(server.url, unknown_key_seconds=600.0)
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
        keys = keys_from_url(server.url, unknown_key_seconds=0.0)
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


async def test_before_any_key_could_be_loaded_tokens_are_neither_good_nor_bad(
    backend: Backend, identity: IdentityProvider
) -> None:
    async with jwks_server(b"") as server:
        server.status = 503
        keys = keys_from_url(server.url, unknown_key_seconds=0.0)
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
        usable_keys(json.dumps({"keys": [*entries, None, 5]}).encode())
    with_good = json.dumps({"keys": [*entries, identity.ec.as_dict(private=False)]}).encode()
    assert [key.key_id for key in usable_keys(with_good)] == [identity.ec.kid]


@pytest.mark.parametrize("document", [b"", b"[]", b"5", b"{}", b'{"keys": {}}', b'{"keys": []}', b"\xff"])
def test_what_is_no_jwks_is_refused(document: bytes) -> None:
    with pytest.raises(JwksError):
        usable_keys(document)
