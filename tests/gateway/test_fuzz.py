"""No request of a client causes a 5xx, and each 4xx is a problem."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateway.running import Answer, Gateway
from tests.gateway.test_authorization import PUBLIC, Declared

FUZZ = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

ANY_TEXT = st.text(max_size=20)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=15,
)
# Names that mean something somewhere, so that values of any kind reach every field.
FIELDS = st.sampled_from(
    [
        *("testId", "title", "durationMinutes", "metadata", "questionId", "choice", "occurredAt", "amount"),
        *("reason", "expiresAt", "email", "displayName", "emailVerified", "status", "kind", "questions"),
        *("accepted", "choices", "features", "planId", "periodEnd", "passScore", "toLevel", "xp", "test_id"),
    ]
)
TOKENS: dict[int, str] = {}


def token(gateway: Gateway) -> str:
    return TOKENS.setdefault(id(gateway), gateway.identity.token("ada", ("learner", "instructor", "admin")))


def assert_clients_fault(answer: Answer) -> None:
    assert answer.status < 500, answer.body
    if answer.status >= 400:
        assert answer.reason


def path_of(route: Declared, values: list[str]) -> str:
    parts = route.path.split("{")
    path = parts[0]
    for number, part in enumerate(parts[1:]):
        path += quote(values[number % len(values)], safe="", errors="replace") + part.partition("}")[2]
    return path


@given(
    route=st.sampled_from(PUBLIC),
    body=st.dictionaries(FIELDS | ANY_TEXT, ANY_JSON, max_size=6) | ANY_JSON,
    values=st.lists(st.text(min_size=1, max_size=10), min_size=1, max_size=3),
)
@FUZZ
async def test_any_json_for_any_route_is_never_our_fault(
    gateway: Gateway, route: Declared, body: Any, values: list[str]
) -> None:
    data = None if route.verb == "GET" else json.dumps(body).encode()
    assert_clients_fault(
        await gateway.request(route.verb, path_of(route, values), data=data, token=token(gateway))
    )


@given(data=st.binary(max_size=200) | ANY_TEXT.map(lambda text: json.dumps({"testId": text}).encode()[:-1]))
@FUZZ
async def test_any_bytes_as_a_body_are_never_our_fault(gateway: Gateway, data: bytes) -> None:
    assert_clients_fault(await gateway.request("POST", "/v1/sessions", data=data))


@given(
    path=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=40),
    query=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"), max_size=40),
)
@FUZZ
async def test_any_path_and_query_are_never_our_fault(gateway: Gateway, path: str, query: str) -> None:
    for prefix in ("/v1/", "/v1/sessions/", "/v1/accounts/"):
        target = prefix + path.replace("?", "").replace("#", "") + "?" + query
        assert_clients_fault(await gateway.request("GET", target, token=token(gateway)))


HEADER_VALUE = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=40
)


@given(
    headers=st.dictionaries(
        st.sampled_from(
            [
                *("X-Request-Id", "Request-Timeout", "Idempotency-Key", "Authorization", "traceparent"),
                *("Content-Type", "Content-Encoding", "Expect", "tracestate", "Accept"),
            ]
        ),
        HEADER_VALUE.map(str.strip),
        max_size=4,
    )
)
@FUZZ
async def test_any_headers_are_never_our_fault(gateway: Gateway, headers: dict[str, str]) -> None:
    answer = await gateway.request("POST", "/v1/sessions", data=b'{"testId": "t"}', headers=headers)
    assert_clients_fault(answer)
