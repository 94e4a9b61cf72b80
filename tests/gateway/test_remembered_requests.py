"""The gateway remembers what it made of small requests. Nobody may notice, but for the time it takes."""

from __future__ import annotations

from typing import Any, cast

import pytest
from google.protobuf.message import Message

from chassis.errors import ServiceError
from chassis.rpc.payloads import serialized
from gateway.contract import public_methods
from gateway.routes import Place, RouteTable, routes_of
from gateway.transcoding.requests import REMEMBERED_LENGTH_MAX, _remembered
from protos.buf.validate import validate_pb2

TABLE = RouteTable(routes_of(public_methods(), ("session", "subscription", "progress")))
SESSION = "/v1/sessions/0199a8f0-0000-7000-8000-000000000001"


@pytest.fixture(autouse=True)
def _nothing_is_remembered() -> None:
    _remembered.cache_clear()


def place(path: str) -> Place:
    found = TABLE.find(path)
    assert found is not None
    return found


def payload(verb: str, path: str, body: bytes = b"", *, query: str = "", version: int | None = None) -> bytes:
    found = place(path)
    return found.routes[verb].request.payload(body=body, values=found.values, query=query, version=version)


def test_the_same_request_has_the_same_message_and_is_read_once() -> None:
    body = b'{"testId":"physics-01"}'
    first = payload("POST", "/v1/sessions", body)
    assert payload("POST", "/v1/sessions", body) == first
    assert _remembered.cache_info()[:2] == (1, 1)
    read = place("/v1/sessions").routes["POST"].request.read(body=body, values=(), query="")
    assert serialized(read) == first


def test_requests_that_differ_anywhere_have_their_own_messages() -> None:
    answer = b'{"questionId":"q-01","choice":"a"}'
    made = [
        payload("POST", f"{SESSION}/answers", answer),
        payload("POST", f"{SESSION}/answers", answer.replace(b'"a"', b'"b"')),
        payload("POST", f"{SESSION[:-1]}2/answers", answer),
        payload("GET", "/v1/sessions", query="pageSize=3"),
        payload("GET", "/v1/sessions", query="pageSize=4"),
    ]
    assert len(set(made)) == len(made)
    assert _remembered.cache_info().hits == 0


def test_the_same_values_on_another_route_are_another_request() -> None:
    for path in ("", ":pause", ":resume"):
        payload("GET" if not path else "POST", SESSION + path)
    assert _remembered.cache_info()[:2] == (0, 3)


def test_a_version_belongs_to_the_request() -> None:
    assert place(f"{SESSION}:pause").routes["POST"].request.takes_version
    assert len({payload("POST", f"{SESSION}:pause", version=each) for each in (None, 1, 2)}) == 3


def test_a_refused_request_is_refused_again() -> None:
    for body in (b'{"testId":""}', b'{"testId":1}', b'{"testId":"a","testId":"a"}', b"{"):
        refusals = []
        for _ in range(2):
            with pytest.raises(ServiceError) as refused:
                payload("POST", "/v1/sessions", body)
            refusals.append((refused.value.detail, refused.value.violations))
        assert refusals[0] == refusals[1]
    assert _remembered.cache_info().currsize == 0


def test_a_large_request_is_not_remembered() -> None:
    payload("POST", "/v1/sessions", b'{"testId":"physics-01"' + b" " * REMEMBERED_LENGTH_MAX + b"}")
    assert _remembered.cache_info().currsize == 0


def test_no_rule_of_the_contract_depends_on_the_time() -> None:
    """Otherwise a request that was valid a minute ago may be invalid now."""
    for method in public_methods():
        for rule in rules_below(method.request_type.DESCRIPTOR, set()):
            text = str(rule)
            assert "_now" not in text, (method.path, text)
            assert "within" not in text, (method.path, text)
            assert not any("now" in each.expression for each in expressions_of(rule)), (method.path, text)


def rules_below(descriptor: Any, seen: set[str]) -> list[Message]:
    if descriptor.full_name in seen:
        return []
    seen.add(descriptor.full_name)
    found = [descriptor.GetOptions().Extensions[cast("Any", validate_pb2.message)]]
    for field in descriptor.fields:
        found.append(field.GetOptions().Extensions[cast("Any", validate_pb2.field)])
        if field.message_type is not None:
            found += rules_below(field.message_type, seen)
    return found


def expressions_of(rule: Any) -> list[Any]:
    return list(rule.cel)
