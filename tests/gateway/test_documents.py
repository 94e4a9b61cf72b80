"""`/openapi.json`, its viewer, and the pages that explain problems: complete, valid, and self-contained."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
import uvloop
from google.protobuf import json_format, message_factory

from chassis.errors import Reason
from chassis.rpc.validation import validate
from gateway.contract import ContractError, public_methods
from gateway.documents.openapi import openapi
from gateway.documents.operations import path_of
from gateway.routes import Route, routes_of
from tests.gateway.made_contracts import Rpc, methods
from tests.gateway.running import UPSTREAMS, Gateway, running_gateway
from tests.gateway.tokens import IdentityProvider

ROUTES = routes_of(public_methods(), UPSTREAMS)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi(ROUTES, version="1.2.3")


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            yield f"{verb.upper()} {path}", operation


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    schema = schemathesis.openapi.from_dict(document)
    schema.validate()
    assert len(list(schema.get_all_operations())) == len(ROUTES)


def test_every_route_is_described_once(document: dict[str, Any]) -> None:
    described = dict(operations(document))
    assert set(described) == {f"{route.http_method} {path_of(route)}" for route in ROUTES}
    ids = [operation["operationId"] for operation in described.values()]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_an_operation_says_what_the_contract_says(document: dict[str, Any], route: Route) -> None:
    operation = document["paths"][path_of(route)][route.http_method.lower()]
    method = route.method
    names = {each["$ref"].rpartition("/")[2] for each in operation["parameters"] if "$ref" in each}
    assert ("Idempotency-Key" in names) == method.key_required
    assert {"Request-Timeout", "X-Request-Id"} <= names
    assert operation["x-roles"] == sorted(method.roles - {"service"})
    assert operation["security"][0] == {"bearer": []}
    assert ({} in operation["security"]) == bool(method.token_in_body)
    assert ("requestBody" in operation) == bool(route.request.body)
    assert ("201" in operation["responses"]) == bool(method.created_unless)
    assert {"200", "400", "401", "403", "404", "429", "500", "503", "504"} <= set(operation["responses"])
    assert ("422" in operation["responses"]) == method.key_required
    in_path = [each["name"] for each in operation["parameters"] if each.get("in") == "path"]
    assert in_path == re.findall(r"\{([^}]+)\}", path_of(route))


def test_a_list_that_is_also_a_table_says_so(document: dict[str, Any]) -> None:
    for route in ROUTES:
        success = document["paths"][path_of(route)][route.http_method.lower()]["responses"]["200"]
        assert ("text/csv" in success["content"]) == bool(route.method.csv_of), route.name
        assert ("Link" in success["headers"]) == bool(route.method.csv_of), route.name


def test_bounds_comments_and_requirements_come_from_the_contract(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    start = schemas["CreateSessionRequest"]
    assert start["required"] == ["testId"]
    assert start["additionalProperties"] is False
    assert start["properties"]["testId"] == {"type": "string", "minLength": 1, "maxLength": 128}
    assert start["properties"]["durationMinutes"]["maximum"] == 43200
    assert start["properties"]["durationMinutes"]["description"].startswith("It can only shorten")
    assert start["properties"]["metadata"]["maxProperties"] == 32
    test = schemas["PutTestRequest"]
    assert "testId" not in test["properties"]  # the path has it
    assert test["properties"]["kind"]["enum"] == ["PRACTICE", "MOCK", "QUIZ", "COMPLIANCE", "INTERVIEW"]
    session = schemas["Session"]
    assert "score" not in session["required"]  # absent until the session has ended
    assert {"sessionId", "state", "questions", "version"} <= set(session["required"])


def event_medias(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schema and the example of each event of a stream."""
    media = operation["responses"]["200"]["content"]["text/event-stream"]
    for text in media["example"].strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in text.split("\n"))
        schema = media["x-events"][fields.get("event", "message")]
        yield {"schema": schema, "example": json.loads(fields["data"])}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_examples_fit_their_schemas_and_the_contract(document: dict[str, Any], route: Route) -> None:
    operation = document["paths"][path_of(route)][route.http_method.lower()]
    medias = [
        response["content"]["application/json"]
        for response in operation["responses"].values()
        if "application/json" in response.get("content", {})
    ]
    if "requestBody" in operation:
        media = operation["requestBody"]["content"]["application/json"]
        medias.append(media)
        request = message_factory.GetMessageClass(route.method.descriptor.input_type)()
        json_format.ParseDict(media["example"], request)
        violations = () if (refusal := validate(request)) is None else refusal.violations
        in_path = {each["name"] for each in operation["parameters"] if each.get("in") == "path"}
        assert {violation.field for violation in violations} <= in_path
    if route.events is not None:
        assert medias == []
        medias = list(event_medias(operation))
    assert medias
    for media in medias:
        schema = {**media["schema"], "components": document["components"]}
        jsonschema_rs.validate(schema, media["example"], validate_formats=True)


def test_a_policy_can_only_name_reasons_that_exist() -> None:
    rpc = Rpc("Make", http=[{"post": "/v1/things", "body": "*"}], refusals=["NO_SUCH_REASON"])
    with pytest.raises(ContractError, match="NO_SUCH_REASON"):
        openapi(routes_of(methods(rpc), UPSTREAMS), version="0")


def test_every_kind_of_field_can_be_described() -> None:
    rpcs = (
        Rpc("Make", http=[{"post": "/v1/things", "body": "*"}, {"post": "/v1/others", "body": "*"}]),
        Rpc("Get", http=[{"get": "/v1/things"}], safe=True),
    )
    made = openapi(routes_of(methods(*rpcs), UPSTREAMS), version="0")
    schemathesis.openapi.from_dict(made).validate()
    assert {operation["operationId"] for _, operation in operations(made)} == {"Make", "Make2", "Get"}


async def test_the_document_needs_no_token_and_has_an_etag(gateway: Gateway) -> None:
    answer = await gateway.request("GET", "/openapi.json", token=None)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json()["openapi"].startswith("3.1.")
    etag = answer.headers["ETag"]
    for known in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        again = await gateway.request("GET", "/openapi.json", token=None, headers={"If-None-Match": known})
        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", etag)
        assert "Content-Length" not in again.headers
    other = await gateway.request("GET", "/openapi.json", token=None, headers={"If-None-Match": '"x"'})
    assert other.status == 200


async def test_the_viewer_loads_nothing_from_elsewhere(gateway: Gateway) -> None:
    page = await gateway.request("GET", "/docs", token=None)
    assert page.status == 200
    assert page.headers["Content-Type"].startswith("text/html")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert not re.findall(r"https?:|\*|unsafe", policy)
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
    assert loaded == ["docs/swagger-ui.css", "docs/swagger-ui-bundle.js", "docs/start.js"]
    for path in loaded:
        assert (await gateway.request("GET", f"/{path}", token=None)).status == 200
    start = (await gateway.request("GET", "/docs/start.js", token=None)).body.decode()
    assert "validatorUrl: null" in start
    assert "http" not in start


def test_a_page_that_nobody_reads_costs_no_copy_for_each_connection(identity: IdentityProvider) -> None:
    async def grown_bytes() -> int:
        loop = asyncio.get_running_loop()
        async with running_gateway(upstream_port=1, identity=identity) as gateway:
            _limit_send_buffers(gateway, 16 * 1024)
            tracemalloc.start()
            with ExitStack() as stack:
                stack.callback(tracemalloc.stop)
                for _ in range(50):
                    client = stack.enter_context(socket.socket())
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    client.setblocking(False)
                    await loop.sock_connect(client, ("127.0.0.1", gateway.port))
                    await loop.sock_sendall(
                        client, b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"
                    )
                    assert await loop.sock_recv(client, 1)  # the rest is on its way, and is not read
                return tracemalloc.get_traced_memory()[0]

    with ThreadPoolExecutor(1) as thread:  # the processes run on uvloop; asyncio's own loop copies
        grown = thread.submit(uvloop.run, grown_bytes()).result()
    assert grown < 20_000_000  # 87 MB with a copy each


def _limit_send_buffers(gateway: Gateway, size_bytes: int) -> None:
    """To what the kernel takes for a distant client: over the loopback it would take everything."""
    runner: Any = gateway.parts.listener._runner
    (site,) = runner.sites
    (listening,) = site._server.sockets
    with socket.socket(fileno=os.dup(listening.fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size_bytes)


@pytest.mark.parametrize("reason", Reason)
async def test_each_problem_type_is_the_address_of_its_page(gateway: Gateway, reason: Reason) -> None:
    path = f"/problems/{reason.name.lower().replace('_', '-')}"
    page = await gateway.request("GET", path, token=None)
    assert page.status == 200
    assert reason.name in page.body.decode()
    assert path.removeprefix("/") in (await gateway.request("GET", "/problems", token=None)).body.decode()


async def test_the_pages_can_only_be_read(gateway: Gateway) -> None:
    for path in ("/openapi.json", "/docs", "/problems", "/problems/not-found"):
        assert (await gateway.request("POST", path, token=None)).status == 405
        head = await gateway.request("HEAD", path, token=None)
        assert (head.status, head.body) == (200, b"")
    assert (await gateway.request("GET", "/problems/no-such-reason", token=None)).status == 404
    assert (await gateway.request("GET", "/docs/../docs", token=None)).status == 400
