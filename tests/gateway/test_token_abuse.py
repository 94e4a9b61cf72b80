"""Every known abuse of a token, in one table: all are 401, and none reaches a service."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.gateway.backend import Backend
from tests.gateway.running import Gateway
from tests.gateway.test_signing_keys import jwks_server
from tests.gateway.test_tokens import FromNow, at_once
from tests.gateway.tokens import IdentityProvider

STRANGER = IdentityProvider()


def encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def unsigned(identity: IdentityProvider, algorithm: str) -> str:
    header = json.dumps({"alg": algorithm, "kid": identity.rsa.kid}).encode()
    return f"{encoded(header)}.{identity.token().split('.')[1]}."


def signed_with_the_public_key(identity: IdentityProvider) -> str:
    header = json.dumps({"alg": "HS256", "kid": identity.rsa.kid}).encode()
    text = f"{encoded(header)}.{identity.token().split('.')[1]}"
    secret = identity.rsa.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return f"{text}.{encoded(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"


def with_claims(**claims: Any) -> Callable[[IdentityProvider], str]:
    return lambda identity: identity.token(**at_once(claims))


def with_header(**header: Any) -> Callable[[IdentityProvider], str]:
    return lambda identity: identity.token(header=header)


ABUSES: dict[str, Callable[[IdentityProvider], str]] = {
    "none": lambda identity: unsigned(identity, "none"),
    "None": lambda identity: unsigned(identity, "None"),
    "RS256 without a signature": lambda identity: unsigned(identity, "RS256"),
    "HS256 with the public key": signed_with_the_public_key,
    "wrong issuer": with_claims(iss="https://evil.example.org"),
    "wrong audience": with_claims(aud="another-service"),
    "expired": with_claims(exp=FromNow(-31)),
    "not valid yet": with_claims(nbf=FromNow(120)),
    "issued in the future": with_claims(iat=FromNow(120)),
    "without expiry": with_claims(exp=None),
    "unknown kid": with_header(kid="nobody"),
    "path as kid": with_header(kid="../../../../etc/passwd"),
    "path as kid, encoded": with_header(kid="..%2f..%2fetc%2fpasswd"),
    "address as kid": with_header(kid="https://evil.example.org/jwks.json"),
    "query as kid": with_header(kid="' OR 1=1 --"),
    "empty kid": with_header(kid=""),
    "long kid": with_header(kid="k" * 2000),
    "jwk": lambda identity: STRANGER.token(
        header={"kid": identity.rsa.kid, "jwk": STRANGER.rsa.as_dict(private=False)}
    ),
    "jku, rightly signed": with_header(jku="https://evil.example.org/jwks.json"),
    "x5u, rightly signed": with_header(x5u="https://evil.example.org/cert.pem"),
    "x5c, rightly signed": with_header(x5c=["MIIB"]),
    "another's signature": lambda identity: STRANGER.token(header={"kid": identity.rsa.kid}),
}


@pytest.mark.parametrize("abuse", ABUSES)
async def test_an_abused_token_is_401(gateway: Gateway, backend: Backend, abuse: str) -> None:
    token = ABUSES[abuse](gateway.identity)
    for method, path, body in (
        ("GET", "/v1/stats", None),
        ("POST", "/v1/sessions", {"testId": "t"}),
    ):
        answer = await gateway.request(method, path, token=token, body=body)
        assert (answer.status, answer.reason) == (401, "UNAUTHENTICATED")
        assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="homeroom"')
        assert token.rpartition(".")[2] == "" or token not in answer.body.decode()
    assert not backend.items


async def test_the_good_token_beside_them_is_believed(gateway: Gateway, backend: Backend) -> None:
    assert (await gateway.request("GET", "/v1/stats")).status == 200
    assert backend.items


@pytest.mark.parametrize("size", [8_000, 9_000, 20_000, 100_000, 300_000])
async def test_a_giant_token_is_401(gateway: Gateway, backend: Backend, size: int) -> None:
    token = f"Authorization: Bearer {'a' * size}"
    head = f"GET /v1/stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{token}\r\n\r\n"
    answer = await gateway.raw(head.encode())
    head_sent, _, body = answer.partition(b"\r\n\r\n")
    assert head_sent.split()[1] == b"401"
    assert b"WWW-Authenticate: Bearer" in head_sent
    assert orjson.loads(body)["reason"] == "UNAUTHENTICATED"
    assert b"a" * 40 not in body  # a request id is shorter
    assert not backend.items


async def test_a_giant_header_that_is_no_token_is_400(gateway: Gateway, backend: Backend) -> None:
    head = f"GET /v1/stats HTTP/1.1\r\nHost: x\r\nX-Note: Bearers {'a' * 9000}\r\n\r\n"
    assert (await gateway.raw(head.encode())).split()[1] == b"400"
    assert not backend.items


@pytest.mark.parametrize("second", ["good", "bad", "empty"])
async def test_two_authorization_headers_are_401(gateway: Gateway, backend: Backend, second: str) -> None:
    good = f"Bearer {gateway.identity.token()}"
    other = {"good": good, "bad": "Bearer x", "empty": ""}[second]
    for pair in ((good, other), (other, good)):
        lines = "".join(f"Authorization: {value}\r\n" for value in pair)
        text = f"GET /v1/stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n"
        assert (await gateway.raw(text.encode())).split()[1] == b"401"
    joined = await gateway.request(
        "GET", "/v1/stats", token=None, headers={"Authorization": f"{good}, {good}"}
    )
    assert joined.status == 401
    assert not backend.items


async def test_no_address_in_a_token_is_ever_fetched(gateway: Gateway, backend: Backend) -> None:
    async with jwks_server(STRANGER.jwks()) as evil:
        for header in ({"jku": evil.url}, {"x5u": evil.url}, {"kid": evil.url}):
            answer = await gateway.request("GET", "/v1/stats", token=STRANGER.token(header=header))
            assert answer.status == 401
        assert evil.asked == 0
    assert not backend.items
