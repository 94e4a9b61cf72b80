"""Which RPC a path means, and which contracts are refused before anybody is served."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from chassis.errors import ServiceError
from gateway.contract import ContractError, public_methods
from gateway.routes import RouteTable, routes_of
from protos.chassis.v1 import options_pb2
from tests.gateway.made_contracts import Rpc, methods
from tests.gateway.running import UPSTREAMS, Gateway


def table(*rpcs: Rpc) -> RouteTable:
    return RouteTable(routes_of(methods(*rpcs), UPSTREAMS))


def rpc(name: str, verb: str, path: str, *more: dict[str, str], body: str = "") -> Rpc:
    return Rpc(name, ({verb: path, "body": body}, *more), safe=verb == "get")


def stream(name: str, **policy: Any) -> Rpc:
    return Rpc(name, [{"get": "/v1/a"}], safe=True, server_streaming=True, **policy)


def found(routes: RouteTable, http_method: str, path: str) -> tuple[str, tuple[str, ...]] | None:
    place = routes.find(path)
    if place is None or http_method not in place.routes:
        return None
    return place.routes[http_method].method.name, place.values


SHOP = table(
    rpc("List", "get", "/v1/things"),
    rpc("Create", "post", "/v1/things", body="*"),
    rpc("GetMine", "get", "/v1/things/mine"),
    rpc("Get", "get", "/v1/things/{a_string}", {"get": "/v1/objects/{a_string=*}"}),
    rpc("Put", "put", "/v1/things/{a_string}", body="*"),
    rpc("Paint", "post", "/v1/things/{a_string}:paint", body="*"),
    rpc("Import", "post", "/v1/things:import", body="*"),
    rpc("Part", "get", "/v1/things/{a_string}/parts/{a_int32}"),
    rpc("Nested", "get", "/v1/nested/{a_self.a_string}"),
)


@pytest.mark.parametrize(
    ("http_method", "path", "expected"),
    [
        ("GET", "/v1/things", ("List", ())),
        ("POST", "/v1/things", ("Create", ())),
        ("POST", "/v1/things:import", ("Import", ())),
        ("GET", "/v1/things/mine", ("GetMine", ())),
        ("GET", "/v1/things/t1", ("Get", ("t1",))),
        ("GET", "/v1/objects/t1", ("Get", ("t1",))),
        ("PUT", "/v1/things/t1", ("Put", ("t1",))),
        ("PUT", "/v1/things/mine", None),  # a literal keeps its place, whatever the method
        ("POST", "/v1/things/t1:paint", ("Paint", ("t1",))),
        ("POST", "/v1/things/mine:paint", ("Paint", ("mine",))),
        ("GET", "/v1/things/t1:paint", None),
        ("GET", "/v1/things/t1:unknown", ("Get", ("t1:unknown",))),
        ("GET", "/v1/things/a:b:c", ("Get", ("a:b:c",))),
        ("POST", "/v1/things/a:b:paint", ("Paint", ("a:b",))),
        ("GET", "/v1/things/t1%3Apaint", ("Get", ("t1:paint",))),  # written so, it is no verb
        ("GET", "/v1/things/mine/parts/7", ("Part", ("mine", "7"))),
        ("GET", "/v1/things/a%2Fb/parts/7", ("Part", ("a/b", "7"))),
        ("GET", "/v1/things/l%C3%A4ufer", ("Get", ("läufer",))),
        ("GET", "/v1/things/a+b%20c", ("Get", ("a+b c",))),
        ("GET", "/v1/%74hings", ("List", ())),
        ("GET", "/v1/nested/x", ("Nested", ("x",))),
        ("GET", "/v1/things/", None),
        ("GET", "/v1//mine", None),
        ("GET", "/v1/things/t1/", None),
        ("GET", "/v1/things/t1/parts", None),
        ("GET", "/v1/Things", None),
        ("GET", "v1/things", None),
        ("GET", "/", None),
        ("GET", "", None),
        ("POST", "/v1/things:", None),
        ("GET", "/" * 4000, None),
    ],
)
def test_a_path_means_one_method(
    http_method: str, path: str, expected: tuple[str, tuple[str, ...]] | None
) -> None:
    assert found(SHOP, http_method, path) == expected


@pytest.mark.parametrize("path", ["/v1/things/%ff", "/v1/things/%ED%A0%80", "/v1/things/\udcff"])
def test_a_path_must_be_utf8(path: str) -> None:
    with pytest.raises(ServiceError, match="UTF-8"):
        SHOP.find(path)


@pytest.mark.parametrize(
    ("rpcs", "complaint"),
    [
        ([Rpc("NoRoute")], "no google.api.http"),
        ([rpc("A", "get", "/v1/a"), rpc("B", "get", "/v1/a")], "means both"),
        ([rpc("A", "get", "/v1/{a_string}"), rpc("B", "get", "/v1/{a_bytes}")], "means both"),
        ([rpc("A", "get", "/v1/a", {"get": "/v1/a"})], "means both"),
        ([rpc("A", "get", "/v1/{nothing}")], "no field nothing"),
        ([rpc("A", "get", "/v1/{a_self.nothing}")], "no field a_self.nothing"),
        ([rpc("A", "get", "/v1/{a_self}")], "cannot be given as text"),
        ([rpc("A", "get", "/v1/{many_string}")], "repeated"),
        ([rpc("A", "get", "/v1/{a_string=**}")], "path template"),
        ([rpc("A", "get", "/v1/{a_string=things/*}")], "path template"),
        ([rpc("A", "get", "/v1/{a_string}/{a_string}")], "twice"),
        ([rpc("A", "get", "v1")], "path template"),
        ([rpc("A", "get", "/v1/")], "path template"),
        ([rpc("A", "get", "/v1/a:b:c")], "path template"),
        ([rpc("A", "get", "/v1/a", {"get": ""})], "path template"),
        ([rpc("A", "get", "/v1/a", body="*")], "takes no body"),
        ([rpc("A", "delete", "/v1/a", body="*")], "takes no body"),
        ([rpc("A", "post", "/v1/a", body="nothing")], "no field nothing"),
        ([rpc("A", "post", "/v1/a", {"post": "/v1/b", "response_body": "nothing"})], "nothing for the body"),
        ([rpc("A", "post", "/v1/a", {"post": "/v1/b", "response_body": "many"})], "many for the body"),
        ([rpc("A", "post", "/v1/a", {"body": "*"})], "unknown kind"),
        ([Rpc("A", [{"get": "/v1/a"}])], "not marked NO_SIDE_EFFECTS"),
        ([stream("A", event_id="nothing")], "event_id"),
        ([stream("A", event_id="number")], "event_id"),
        ([stream("A", resumes_from="nothing")], "resumes_from"),
        ([stream("A", resumes_from="a_int32")], "resumes_from"),
        ([stream("A", event_of="nothing")], "event_of"),
        ([stream("A", key_required=True)], "cannot have key_required"),
        ([Rpc("A", [{"post": "/v1/a"}], event_id="resumed")], "does not stream"),
        ([Rpc("A", [{"post": "/v1/a"}], created_unless="nothing")], "created_unless"),
        ([Rpc("A", [{"post": "/v1/a", "body": "*"}], token_in_body="nothing")], "token_in_body"),
        ([Rpc("A", [{"post": "/v1/a", "body": "*"}], token_in_body="a_int32")], "token_in_body"),
        ([Rpc("A", [{"post": "/v1/a"}], token_in_body="a_string")], "token_in_body"),
        ([Rpc("A", [{"post": "/v1/a"}], created_unless="held")], "created_unless"),
        (
            [Rpc("A", [{"post": "/v1/a", "response_body": "held"}], created_unless="resumed")],
            "created_unless",
        ),
    ],
)
def test_a_contract_that_cannot_be_served_stops_the_start(rpcs: Sequence[Rpc], complaint: str) -> None:
    with pytest.raises(ContractError, match=complaint):
        table(*rpcs)


def test_a_service_without_an_upstream_stops_the_start() -> None:
    with pytest.raises(ContractError, match="no upstream"):
        routes_of(methods(rpc("A", "get", "/v1/a"), owner="unheard_of"), UPSTREAMS)


def test_internal_methods_are_not_among_the_public_ones() -> None:
    assert public_methods()
    assert not [method.path for method in public_methods() if method.internal]
    internal = Rpc("A", [{"post": "/v1/a"}], roles=[options_pb2.ROLE_SERVICE])
    assert all(method.internal for method in methods(internal))


async def test_an_unknown_path_is_not_found(gateway: Gateway) -> None:
    for path in ("/", "/v1", "/v1/nothing", "/v1/sessions/a/b/c", "/v2/sessions"):
        answer = await gateway.request("GET", path)
        assert (answer.status, answer.reason) == (404, "NOT_FOUND")
        assert answer.json()["instance"] == path


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/sessions", "GET, HEAD, OPTIONS, POST"),
        ("/v1/accounts/me", "GET, HEAD, OPTIONS"),
        ("/v1/accounts/u1", "GET, HEAD, OPTIONS, PUT"),
        ("/v1/sessions/s1:complete", "OPTIONS, POST"),
        ("/livez", "GET, HEAD, OPTIONS"),
    ],
)
async def test_a_refused_method_gets_the_allowed_ones(gateway: Gateway, path: str, allowed: str) -> None:
    answer = await gateway.request("DELETE", path)
    assert (answer.status, answer.reason) == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["Allow"] == allowed
    options = await gateway.request("OPTIONS", path, token=None)
    assert (options.status, options.headers["Allow"], options.body) == (204, allowed, b"")
