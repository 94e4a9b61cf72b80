"""Which tokens are valid: attacks, claims, the cache, and keys that change."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
import time_machine
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jwk import RSAKey

from chassis.errors import ServiceError
from gateway.authentication import LEEWAY_SECONDS, Authenticator, Principal
from gateway.signing_keys import SigningKeys
from tests.gateway.backend import Backend
from tests.gateway.running import Gateway
from tests.gateway.tokens import AUDIENCE, ISSUER, IdentityProvider


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
    assert [item.context.user_id for item in backend.items] == ["ada", "ada"]


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


async def test_a_token_with_an_unknown_critical_extension_is_refused(
    gateway: Gateway, backend: Backend
) -> None:
    claims = claims_of(gateway.identity.token())
    assert (await get_stats(gateway, gateway.identity.signed({}, claims)))[0] == 200
    backend.reset()
    for header in ({"crit": ["exp"], "exp": 0}, {"crit": ["b64"], "b64": False}, {"crit": []}):
        await assert_refused(gateway, backend, gateway.identity.signed(header, claims))


@pytest.mark.parametrize(
    "payload", [b'{"x":' + b"[" * 5000, b"", b"{}", b"[]", b"5", b"{", b"\xff", b'{"exp": NaN}', b"[" * 4000]
)
async def test_a_signed_payload_that_is_not_claims_is_refused(
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

    return SigningKeys(read=read, refresh_seconds=60, unknown_key_seconds=60, public_only=True)


async def test_a_remembered_token_is_forgotten_when_it_expires(identity: IdentityProvider) -> None:
    authenticator = Authenticator(keys=keys_of(identity.jwks()), issuer=ISSUER, audience=AUDIENCE)
    expiry = int(time.time()) + 100
    authorization = f"Bearer {identity.token(exp=expiry)}"
    ada = Principal("ada", frozenset({"learner"}), valid_until=expiry + LEEWAY_SECONDS)
    assert await authenticator.authenticate([authorization]) == ada
    with time_machine.travel(time.time() + 129, tick=False):
        assert await authenticator.authenticate([authorization]) == ada
    with time_machine.travel(time.time() + 131, tick=False):
        for _ in range(2):
            with pytest.raises(ServiceError, match="expired"):
                await authenticator.authenticate([authorization])


async def test_only_so_many_tokens_are_remembered(identity: IdentityProvider) -> None:
    authenticator = Authenticator(
        keys=keys_of(identity.jwks()), issuer=ISSUER, audience=AUDIENCE, remembered_max=3
    )
    for number in range(10):
        principal = await authenticator.authenticate([f"Bearer {identity.token(f'user-{number}')}"])
        assert principal.user_id == f"user-{number}"
    assert len(authenticator._remembered) == 3


async def test_a_token_without_a_key_id_needs_a_single_key_that_fits(identity: IdentityProvider) -> None:
    second = RSAKey.generate_key(2048, auto_kid=True)
    for keys, known in ((identity.jwks(), True), (identity.jwks(identity.rsa, second), False)):
        authenticator = Authenticator(keys=keys_of(keys), issuer=ISSUER, audience=AUDIENCE)
        authorization = f"Bearer {identity.token(header={'kid': None})}"
        if known:
            assert (await authenticator.authenticate([authorization])).user_id == "ada"
        else:
            with pytest.raises(ServiceError, match="unknown key"):
                await authenticator.authenticate([authorization])
