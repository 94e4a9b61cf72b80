"""Who gets what on a whole stack: every caller on every route, with requests that are valid.

The routes, the roles and the request bodies come from the contract, so a new RPC is covered at once. What its
path names must be known here: somebody's own thing, which others do not find, or a thing for everybody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.contract import public_methods
from gateway.documents.openapi import openapi
from gateway.documents.operations import path_of
from gateway.routes import Route, routes_of
from tests.support.http_client import Answer, HttpClient, unique

ROUTES = routes_of(public_methods(), ("session", "subscription", "progress"))
DOCUMENT = openapi(ROUTES, version="0")
# Variables of paths that name somebody's own thing, and those that name what everybody may see.
OWNED = frozenset({"sessionId"})
SHARED = frozenset({"testId", "planId", "specialization", "courseId", "moduleId", "lessonId"})
# These find the session, but not what their example body names in it.
NAMES_MORE_IN_ITS_BODY = frozenset({"POST /v1/sessions/{session_id}/identity-checks"})
# The fields of a request body that must name something that exists.
QUESTION = "q1"


@dataclass(frozen=True)
class Caller:
    name: str
    user: str | None
    role: str | None


@dataclass(frozen=True)
class School:
    """Two learners, and what the first one owns."""

    http: HttpClient
    owner: str
    other: str
    test: str
    values: dict[str, str]

    @property
    def callers(self) -> list[Caller]:
        return [
            Caller("anonymous", None, None),
            Caller("other learner", self.other, "learner"),
            Caller("instructor", "ivan", "instructor"),
            Caller("admin", "root", "admin"),
            Caller("learner", self.owner, "learner"),
        ]


@pytest.fixture(scope="module")
async def school(http: HttpClient) -> School:
    owner, other, test = unique("owner"), unique("other"), unique("test")
    for user in (owner, other, "ivan", "root"):
        await http.put_account(user)
    await http.put_test(test, questions=1)
    started = await http.start(owner, test, key="k1")
    assert started.status == 201
    values = {"userId": owner, "sessionId": started.body["sessionId"], "testId": test}
    return School(http, owner, other, test, values | {"planId": unique("plan")})


def variables(route: Route) -> list[str]:
    return re.findall(r"\{([^}]+)\}", path_of(route))


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_what_a_learners_path_names_is_known(route: Route) -> None:
    if "learner" in route.method.roles:
        unknown = set(variables(route)) - OWNED - SHARED
        assert not unknown, f"say in OWNED or SHARED what {unknown} names, and give an example in `school`"


def body_of(route: Route, school: School) -> Any:
    operation = DOCUMENT["paths"][path_of(route)][route.http_method.lower()]
    if "requestBody" not in operation:
        return None
    example = operation["requestBody"]["content"]["application/json"]["example"]
    known = {"testId": school.test, "questionId": QUESTION, "email": f"{school.owner}@example.org"}
    return {name: known.get(name, value) for name, value in example.items()}


async def ask(school: School, route: Route, caller: Caller) -> Answer:
    path = re.sub(r"\{([^}]+)\}", lambda found: school.values.get(found[1], "physics"), path_of(route))
    return await school.http.send(
        route.http_method,
        path,
        user=caller.user,
        roles=() if caller.role is None else (caller.role,),
        json=body_of(route, school),
        key=unique("key") if route.method.key_required else None,
    )


def is_not_found(answer: Answer) -> bool:
    """Whether nothing was found; an upload says so for each of its operations."""
    results = answer.body.get("results", [])
    refused = bool(results) and all(each["reason"] == "NOT_FOUND" for each in results)
    return answer.status == 404 or refused


def is_let_in(status: int, reason: str) -> bool:
    return status < 500 and status != 401 and reason != "PERMISSION_DENIED"


def is_right(route: Route, caller: Caller, answer: Answer) -> bool:
    """Whether an answer is right for this caller."""
    reason = "" if answer.status < 400 else answer.body["reason"]
    if caller.role is None:
        return (answer.status, reason) == (401, "UNAUTHENTICATED")
    if caller.role not in route.method.roles:
        return (answer.status, reason) == (403, "PERMISSION_DENIED")
    owned = bool(OWNED.intersection(variables(route)))
    if owned and caller.name == "other learner":
        return is_not_found(answer)
    if owned and caller.name == "learner" and route.name not in NAMES_MORE_IN_ITS_BODY:
        return is_let_in(answer.status, reason) and not is_not_found(answer)
    return is_let_in(answer.status, reason)


# The owner comes last: some routes end what the path names.
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
async def test_every_caller_on_this_route(school: School, route: Route) -> None:
    for caller in school.callers:
        answer = await ask(school, route, caller)
        assert is_right(route, caller, answer), f"{caller.name}: {answer.text}"
        if answer.status in {401, 403}:
            assert school.values["sessionId"] not in answer.text.replace(answer.body["instance"], "")
