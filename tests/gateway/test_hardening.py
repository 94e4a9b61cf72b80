"""What the gateway gives away, and what it lets browsers do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.cors import check_origins
from tests.gateway.backend import Backend
from tests.gateway.running import Gateway, running_gateway

APP = "https://app.example.org"
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,idempotency-key",
}


@pytest.fixture(scope="module")
async def open_gateway(shared_backend: Backend, gateway: Gateway) -> AsyncIterator[Gateway]:
    async with running_gateway(
        upstream_port=shared_backend.port, identity=gateway.identity, cors_origins=[APP]
    ) as made:
        yield made


async def test_without_configuration_no_page_may_call(gateway: Gateway, backend: Backend) -> None:
    for method, headers in (("OPTIONS", PREFLIGHT), ("GET", {})):
        answer = await gateway.request(method, "/v1/stats", headers={**headers, "Origin": APP})
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
        assert "Vary" not in answer.headers


async def test_a_configured_page_may_ask_and_call(open_gateway: Gateway, backend: Backend) -> None:
    asked = await open_gateway.request(
        "OPTIONS", "/v1/sessions", token=None, key=None, headers={**PREFLIGHT, "Origin": APP}
    )
    assert asked.status == 204
    assert asked.headers["Access-Control-Allow-Origin"] == APP
    assert "POST" in asked.headers["Access-Control-Allow-Methods"]
    assert {"Authorization", "Idempotency-Key", "If-Match"} <= set(
        asked.headers["Access-Control-Allow-Headers"].split(", ")
    )
    assert not backend.items
    answer = await open_gateway.request("GET", "/v1/stats", headers={"Origin": APP})
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, APP)
    exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
    assert {"X-Request-Id", "ETag", "Idempotent-Replayed", "RateLimit", "Retry-After"} <= exposed
    refused = await open_gateway.request("GET", "/v1/stats", token=None, headers={"Origin": APP})
    assert (refused.status, refused.headers["Access-Control-Allow-Origin"]) == (401, APP)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example.org",
        "null",
        "*",
        APP + ".evil.org",
        APP + "/",
        "http://app.example.org",
        APP.upper(),
    ],
)
async def test_another_page_gets_nothing_and_nobody_gets_a_star_or_credentials(
    open_gateway: Gateway, backend: Backend, origin: str
) -> None:
    for each in (origin, APP):
        for method, headers in (("OPTIONS", PREFLIGHT), ("GET", {})):
            answer = await open_gateway.request(method, "/v1/stats", headers={**headers, "Origin": each})
            assert answer.headers["Vary"] == "Origin"
            assert answer.headers.get("Access-Control-Allow-Origin") == (APP if each == APP else None)
            assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    ["*", "null", "app.example.org", APP + "/", APP + "/x", "HTTPS://app.example.org", "https://a,b", ""],
)
def test_an_origin_must_be_exact(origin: str) -> None:
    assert check_origins([APP, origin])
    assert not check_origins([APP, "http://localhost:5173", "https://[::1]:8443"])


@pytest.mark.parametrize(
    "path",
    [
        "/v1/tests/..",
        "/v1/tests/%2e%2e",
        "/v1/tests/.%2E",
        "/v1/tests/.",
        "/v1/sessions/../tests",
        "/v1/sessions/%2e%2e/tests",
        "/v1/./tests/t",
        "/../../etc/passwd",
    ],
)
async def test_dot_segments_are_refused_however_they_are_written(
    gateway: Gateway, backend: Backend, path: str
) -> None:
    answer = await gateway.request("GET", path)
    assert (answer.status, answer.reason) == (400, "INVALID_ARGUMENT")
    assert not backend.items


@pytest.mark.parametrize(
    "path", ["/v1//tests", "//v1/tests", "/v1/tests/", "/V1/tests", "/v1/tests;a=1", "/v1/tests/t/"]
)
async def test_a_path_has_one_spelling(gateway: Gateway, backend: Backend, path: str) -> None:
    assert (await gateway.request("GET", path)).status in {400, 404}
    assert not backend.items


async def test_an_encoded_path_means_what_it_decodes_to(gateway: Gateway, backend: Backend) -> None:
    for path in ("/v1/tests/a%20b%2Fc", "/v1/%74ests/a%20b%2Fc"):
        assert (await gateway.request("GET", path)).status == 200
        assert backend.items[-1].request.test_id == "a b/c"
    assert set((await gateway.request("GET", "/v1/tests/a%00b")).fields) == {"testId"}


@pytest.mark.parametrize(
    "query", ["pageSize=1&pageSize=2", "pageSize=1;pageToken=x", "%70ageSize=x", "pageSize=%ff"]
)
async def test_a_query_is_read_one_way_or_refused(gateway: Gateway, backend: Backend, query: str) -> None:
    answer = await gateway.request("GET", f"/v1/tests?{query}")
    assert (answer.status, answer.reason) == (400, "INVALID_ARGUMENT")
    assert not backend.items


ODD = [
    b"GET /v1/stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"POST /v1/stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    b"GET /v1/stats HTTP/1.1\r\nHost: x\r\nBad Header: x\r\n\r\n",
    b"NONSENSE\r\n\r\n",
    b"GET /v1/stats HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
    b"GET /v1/stats HTTP/9.9\r\nHost: x\r\n\r\n",
    b"GET /docs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
]


@pytest.mark.parametrize("text", ODD, ids=lambda text: text[:30].decode())
async def test_no_answer_names_the_software_or_shows_a_trace(
    gateway: Gateway, backend: Backend, text: bytes
) -> None:
    answer = await gateway.raw(text)
    head, _, body = answer.partition(b"\r\n\r\n")
    names = {line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]}
    assert {
        b"x-content-type-options",
        b"content-security-policy",
        b"referrer-policy",
        b"cache-control",
    } <= names
    assert not names & {b"server", b"x-powered-by", b"via"}
    for word in (b"aiohttp", b"Traceback", b"python", b".py", b"homeroom/"):
        assert word not in answer.split(b"<body>")[0]
    assert body


async def test_a_fault_of_ours_says_nothing(gateway: Gateway, backend: Backend) -> None:
    def broken(_item: Any) -> Any:
        raise RuntimeError("the secret of the house")

    backend.answers["GetStats"] = broken
    answer = await gateway.request("GET", "/v1/stats")
    assert (answer.status, answer.reason) == (500, "INTERNAL")
    assert b"secret" not in answer.body
    assert answer.headers["Cache-Control"] == "no-store"
