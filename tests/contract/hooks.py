"""What schemathesis must know of Homeroom: who may call what, and what an Idempotency-Key promises.

schemathesis imports this module in a process of its own. TOKENS has a token for each role, as JSON.
"""

from __future__ import annotations

import json
import os
import uuid
from datetime import UTC, datetime
from typing import Any

import jsonschema_rs
import protovalidate
import requests
import schemathesis
from google.protobuf import json_format
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict
from schemathesis.core.failures import Failure
from schemathesis.specs.openapi.checks import negative_data_rejection

from gateway.contract import public_methods
from gateway.documents.operations import path_of
from gateway.routes import routes_of

KEY = "Idempotency-Key"
TIMEOUT = "Request-Timeout"
AUTHORIZATION = "Authorization"

TOKENS: dict[str, str] = json.loads(os.environ["TOKENS"])

METHODS = {
    (route.http_method, path_of(route)): route.method
    for route in routes_of(public_methods(), ("session", "subscription", "progress"))
}


@schemathesis.auth(refresh_interval=None)
class RoleAuth:
    """Calls each operation with a role that may call it."""

    def get(self, case: Any, _context: Any) -> str:
        roles = case.operation.definition.raw["x-roles"]
        return TOKENS["learner" if "learner" in roles else roles[0]]

    def set(self, case: Any, data: str, _context: Any) -> None:
        case.headers[AUTHORIZATION] = f"Bearer {data}"


# JSON Schema has no bounds for a time; the contract has them.
schemathesis.openapi.format(
    "date-time",
    st.integers(946_684_800, 4_102_444_799).map(lambda time: f"{datetime.fromtimestamp(time, UTC):%FT%TZ}"),
)


def is_valid(case: Any) -> bool:
    """Whether schemathesis means this request to be valid, and it is.

    A link between two operations puts a value of one answer into the next request: the `planId` of a plan
    that is sold into the path of a plan of repairs. schemathesis then checks types and lengths, not formats.
    """
    return case.meta is not None and case.meta.generation.mode.is_positive and _keeps_formats(case)


def _keeps_formats(case: Any) -> bool:
    """Whether the variables of the path keep their schema, formats included."""
    schema = case.operation.path_parameters.validation_schema
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True).is_valid(case.path_parameters)


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: dict[str, Any]) -> None:
    """Makes a valid request a new action, and lets a list begin at its beginning: page tokens are sealed."""
    if is_valid(case):
        if KEY in case.headers:
            case.headers[KEY] = str(uuid.uuid4())
        case.query.pop("pageToken", None)
        if TIMEOUT in case.headers:  # on a busy machine half a second is not enough
            case.headers[TIMEOUT] = "60"


@schemathesis.check
def an_invalid_request_is_refused(ctx: Any, response: Any, case: Any) -> None:
    """schemathesis' own check, except for bodies that proto3 JSON allows besides what the schema says."""
    try:
        negative_data_rejection(ctx, response, case)
    except Failure:
        if not _is_proto3_json(case):
            raise


@schemathesis.check
def a_valid_request_is_not_called_invalid(_ctx: Any, response: Any, case: Any) -> None:
    """The domain may refuse it. But a request that the schema allows keeps the rules for fields."""
    if is_valid(case) and response.status_code == 400:
        broken = [violation for violation in _violations(case) if _is_about_one_field(violation)]
        assert not broken, str(broken)


@schemathesis.check
def the_same_keyed_call_twice_is_identical(_ctx: Any, response: Any, case: Any) -> None:
    """A retry gets the stored answer."""
    if _was_done(response, case):
        again = _send(response, response.request.body)
        assert again.status_code == response.status_code, again.status_code
        assert again.content == response.content, again.content
        assert again.headers.get("Idempotent-Replayed") == "true"


@schemathesis.check
def another_body_under_the_same_key_is_422(_ctx: Any, response: Any, case: Any) -> None:
    """A key belongs to one request."""
    if _was_done(response, case) and isinstance(case.body, dict) and (changed := _changed(case.body)):
        again = _send(response, json.dumps(changed).encode())
        assert again.status_code in {400, 422}, again.status_code
        reason = again.json()["reason"]
        assert reason in {"INVALID_ARGUMENT", "IDEMPOTENCY_KEY_REUSED"}, reason


def _violations(case: Any) -> list[Any]:
    """What breaks the contract's rules; json_format.ParseError if protobuf cannot read the request."""
    method = METHODS[case.operation.method.upper(), "/v1" + case.operation.path.partition("/v1")[2]]
    request = method.request_type()
    body = case.body if isinstance(case.body, dict) else {}
    json_format.ParseDict({**body, **case.query, **case.path_parameters}, request)
    return list(protovalidate.collect_violations(request))


def _is_about_one_field(violation: Any) -> bool:
    """Whether a rule of one field is broken; rules in CEL compare several, which JSON Schema cannot do."""
    rule = violation.proto.rule
    return rule is not None and all(element.field_name != "cel" for element in rule.elements)


def _is_proto3_json(case: Any) -> bool:
    """Whether protobuf accepts the request: `null`, "5" for a number, 1 for an enum."""
    try:
        return not _violations(case)
    except json_format.ParseError:
        return False


def _was_done(response: Any, case: Any) -> bool:
    """Whether this was a keyed call that has succeeded."""
    return (
        is_valid(case)
        and 200 <= response.status_code < 300
        and response.request.method == case.operation.method.upper()
        and KEY in response.request.headers
    )


def _send(response: Any, body: Any) -> Any:
    sent = response.request
    return requests.request(
        sent.method, sent.url, data=body, headers=CaseInsensitiveDict(sent.headers), timeout=30
    )


def _changed(body: dict[str, Any]) -> dict[str, Any] | None:
    """The body with one value changed, so that it is another request, and most often a valid one."""
    for name, value in body.items():
        if isinstance(value, str) and value:
            return {**body, name: value[:-1] + ("a" if value[-1] != "a" else "b")}
        if isinstance(value, int) and not isinstance(value, bool):
            return {**body, name: value - 1 if value > 1 else value + 1}
    return None
