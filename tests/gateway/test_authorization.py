"""Who may call what: every route with every role, held against the .proto files themselves."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.api import annotations_pb2

import protos
from protos.chassis.v1 import options_pb2
from tests.gateway.backend import Backend
from tests.gateway.running import Gateway

ROLES = ("learner", "instructor", "admin")
# The gateway itself answers these.
OWN = frozenset({"/v1/events"})
VERBS = ("get", "put", "post", "delete", "patch")


@dataclass(frozen=True)
class Declared:
    """One HTTP route as its .proto file declares it; read here without the gateway's own code."""

    verb: str
    path: str
    roles: frozenset[str]
    key_required: bool

    def __str__(self) -> str:
        return f"{self.verb} {self.path}"


def declared_routes() -> tuple[list[Declared], list[str]]:
    """The routes of public methods, and the gRPC paths of the internal ones."""
    routes: list[Declared] = []
    internal: list[str] = []
    for path in sorted(Path(protos.__path__[0]).glob("*/v1/*_pb2.py")):
        if path.parent.parent.name == "chassis":
            continue
        module = importlib.import_module(f"protos.{path.parent.parent.name}.v1.{path.stem}")
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                options: Any = method.GetOptions()
                policy = options.Extensions[options_pb2.policy]
                roles = {options_pb2.Role.Name(role).removeprefix("ROLE_").lower() for role in policy.roles}
                assert roles, method.full_name
                if roles == {"service"}:
                    internal.append(f"/{service.full_name}/{method.name}")
                    continue
                rule = options.Extensions[annotations_pb2.http]
                for each in (rule, *rule.additional_bindings):
                    verb = next(verb for verb in VERBS if getattr(each, verb))
                    routes.append(
                        Declared(verb.upper(), getattr(each, verb), frozenset(roles), policy.key_required)
                    )
    return routes, internal


PUBLIC, INTERNAL = declared_routes()


def example(path: str) -> str:
    return re.sub(r"\{[^}]+\}", "some-id", path)


async def ask(gateway: Gateway, route: Declared, token: str | None) -> tuple[int, str]:
    answer = await gateway.request(
        route.verb, example(route.path), token=token, body=None if route.verb == "GET" else {}
    )
    return answer.status, "" if answer.status < 400 else answer.reason


def test_the_contract_has_routes_for_each_service() -> None:
    assert {route.path.split("/")[2] for route in PUBLIC} >= {
        "sessions",
        "tests",
        "accounts",
        "plans",
        "stats",
    }
    assert INTERNAL


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("route", PUBLIC, ids=str)
async def test_a_role_reaches_exactly_the_routes_that_name_it(
    gateway: Gateway, backend: Backend, route: Declared, role: str
) -> None:
    status, reason = await ask(gateway, route, gateway.identity.token("ada", (role,)))
    if role in route.roles:
        # What was let in is answered, or refused for its empty body; either way not for who asked.
        assert status in {200, 201} or reason == "INVALID_ARGUMENT"
        assert bool(backend.items) == (status < 300 and route.path not in OWN)
    else:
        assert (status, reason) == (403, "PERMISSION_DENIED")
        assert not backend.items


@pytest.mark.parametrize("route", PUBLIC, ids=str)
async def test_nobody_gets_in_without_a_token_or_a_role(
    gateway: Gateway, backend: Backend, route: Declared
) -> None:
    assert await ask(gateway, route, None) == (401, "UNAUTHENTICATED")
    for roles in ((), ("service",), ("root", "LEARNER", "admin ")):
        assert await ask(gateway, route, gateway.identity.token("ada", roles)) == (403, "PERMISSION_DENIED")
    assert not backend.items


@pytest.mark.parametrize("path", INTERNAL)
async def test_internal_methods_cannot_be_reached(gateway: Gateway, backend: Backend, path: str) -> None:
    token = gateway.identity.token("ada", (*ROLES, "service"))
    for verb in ("GET", "POST"):
        answer = await gateway.request(verb, path, token=token, body={} if verb == "POST" else None)
        assert (answer.status, answer.reason) == (404, "NOT_FOUND")
    assert not backend.items


async def test_the_services_get_the_user_id_and_the_roles(gateway: Gateway, backend: Backend) -> None:
    token = gateway.identity.token("grace", ("admin", "learner", "service", "visitor"))
    await gateway.request("GET", "/v1/stats", token=token)
    assert backend.only_item.context.user_id == "grace"
    assert backend.only_item.context.roles == {"admin", "learner"}
