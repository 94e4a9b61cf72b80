"""`ETag` and `If-Match`: the gateway hands versions on; the service compares them."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from chassis.batch import Item, Reply
from gateway.contract import ContractError
from gateway.routes import routes_of
from protos.session.v1 import sessions_pb2
from tests.gateway.backend import Backend
from tests.gateway.made_contracts import Rpc, methods
from tests.gateway.running import UPSTREAMS, Answer, Gateway


def answer_with_version(backend: Backend, version: int) -> None:
    session = sessions_pb2.Session(session_id="s1", version=version)
    for name in ("GetSession", "CreateSession", "CompleteSession"):
        response: Any = getattr(sessions_pb2, f"{name}Response")
        backend.answers[name] = partial(_reply, response(session=session))


def _reply(message: Any, _item: Item[Any]) -> Reply[Any]:
    return Reply(message)


async def complete(gateway: Gateway, if_match: str | None, body: Any = None) -> Answer:
    headers = {} if if_match is None else {"If-Match": if_match}
    return await gateway.request("POST", "/v1/sessions/s1:complete", body=body or {}, headers=headers)


async def test_a_document_with_a_version_has_an_etag(gateway: Gateway, backend: Backend) -> None:
    answer_with_version(backend, 7)
    for method, path in (
        ("GET", "/v1/sessions/s1"),
        ("HEAD", "/v1/sessions/s1"),
        ("POST", "/v1/sessions/s1:complete"),
        ("POST", "/v1/sessions"),
    ):
        answer = await gateway.request(method, path, body={"testId": "t"} if path == "/v1/sessions" else None)
        assert answer.headers["ETag"] == '"7"'
    assert "ETag" not in (await gateway.request("GET", "/v1/stats")).headers


@pytest.mark.parametrize(
    ("if_match", "version"), [(None, 0), ("*", 0), ('"7"', 7), (' "123456789" ', 123456789)]
)
async def test_the_service_gets_the_version_that_the_caller_has_seen(
    gateway: Gateway, backend: Backend, if_match: str | None, version: int
) -> None:
    assert (await complete(gateway, if_match)).status == 200
    assert backend.only_item.request.expected_version == version
    assert backend.only_item.request.HasField("expected_version") == bool(version)


@pytest.mark.parametrize("if_match", ['"abc"', 'W/"7"', '"0"', '"07"', '""', '"-1"', '"1234567890"'])
async def test_an_etag_that_no_version_has_is_412(gateway: Gateway, backend: Backend, if_match: str) -> None:
    answer = await complete(gateway, if_match)
    assert (answer.status, answer.reason) == (412, "VERSION_MISMATCH")
    assert not backend.items


@pytest.mark.parametrize("if_match", ["7", '"7', '"7", "8"', "", '"7";x', "W/7", "**"])
async def test_a_malformed_if_match_is_400(gateway: Gateway, backend: Backend, if_match: str) -> None:
    assert set((await complete(gateway, if_match)).fields) == {"If-Match"}


async def test_a_second_if_match_is_not_overlooked(gateway: Gateway, backend: Backend) -> None:
    answer = await gateway.raw(
        b"POST /v1/sessions/s1:complete HTTP/1.1\r\nHost: x\r\nConnection: close\r\nIdempotency-Key: k\r\n"
        b"Authorization: Bearer " + gateway.identity.token().encode() + b"\r\n"
        b'If-Match: *\r\nIf-Match: "7"\r\nContent-Length: 0\r\n\r\n'
    )
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"must be one ETag" in answer
    assert not backend.items


async def test_a_version_may_be_given_once(gateway: Gateway, backend: Backend) -> None:
    assert (await complete(gateway, None, {"expectedVersion": 7})).status == 200
    answer = await complete(gateway, '"7"', {"expectedVersion": 7})
    assert answer.fields == {"expectedVersion": "is given by If-Match"}
    assert len(backend.items) == 1


async def test_a_condition_that_cannot_be_checked_is_refused_not_ignored(
    gateway: Gateway, backend: Backend
) -> None:
    answer = await gateway.request("POST", "/v1/sessions", body={"testId": "t"}, headers={"If-Match": '"7"'})
    assert answer.fields == {"If-Match": "is not supported by this operation"}
    assert not backend.items
    assert (await gateway.request("GET", "/v1/stats", headers={"If-Match": '"7"'})).status == 200


@pytest.mark.parametrize("options", [{"etag": "none"}, {"if_match": "none"}, {"if_match": "a_string"}])
def test_a_policy_must_name_fields_that_fit(options: dict[str, str]) -> None:
    rpc = Rpc("Make", http=[{"post": "/v1/things", "body": "*"}], **options)
    with pytest.raises(ContractError, match="must name"):
        routes_of(methods(rpc), UPSTREAMS)
