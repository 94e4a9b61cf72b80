"""One operation of `/openapi.json`: an HTTP method on a path, from a route of the contract."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import orjson
from google.protobuf.descriptor import Descriptor

from chassis.errors import Reason
from gateway.documents.comments import comments
from gateway.documents.examples import example_of, example_value
from gateway.documents.parameters import (
    IDEMPOTENCY_KEY_PARAMETER,
    IF_MATCH_PARAMETER,
    LAST_EVENT_ID_PARAMETER,
    REQUEST_ID_PARAMETER,
    REQUEST_TIMEOUT_PARAMETER,
    headers_of_problem,
    headers_of_success,
)
from gateway.documents.refusals import refusals_of
from gateway.documents.rules import Schema
from gateway.documents.schemas import Schemas, query_fields, required_fields
from gateway.problems import CONTENT_TYPE, type_of
from gateway.routes import Route
from gateway.streaming.events import CONTENT_TYPE as EVENT_STREAM
from gateway.streaming.events import PROBLEM as PROBLEM_EVENT
from gateway.streaming.events import data_types, event
from gateway.transcoding.requests import WHOLE_BODY

JSON = "application/json"
TEXT_CSV = "text/csv"
# What browsers call an event without a name.
MESSAGE = "message"
PROBLEM = {"$ref": "#/components/schemas/Problem"}

_VARIABLE = re.compile(r"\{([^}=]+)(?:=\*)?\}")
_WORDS = re.compile(r"[A-Z][a-z0-9]*")


class Operations:
    """Describes routes. The schemas and the responses that they share end up in the components."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self.responses: dict[str, Any] = {}

    def describe(self, route: Route, *, operation_id: str) -> dict[str, Any]:
        """The Operation Object of a route."""
        method = route.method
        described = comments().get(method.descriptor.full_name, "")
        roles = sorted(method.roles - {"service"})
        operation: dict[str, Any] = {
            "operationId": operation_id,
            "tags": [tag_of(route)],
            "summary": _summary(described, method.name),
            "description": " ".join(filter(None, [described, f"Roles: {', '.join(roles)}."])),
            # The token may be in the body instead, for what a page sends while it is being closed.
            "security": [{"bearer": []}, *([{}] if method.token_in_body else ())],
            "x-roles": roles,
            "parameters": [*self._path_and_query(route), *_header_parameters(route)],
        }
        if route.request.takes_body:
            operation["requestBody"] = self._request_body(route, operation_id)
        operation["responses"] = {
            **self._successes(route),
            **{str(status): self._refusal(status, reasons) for status, reasons in refusals_of(route).items()},
        }
        return operation

    def _path_and_query(self, route: Route) -> list[dict[str, Any]]:
        message = route.method.descriptor.input_type
        parameters: list[dict[str, Any]] = []
        for dotted in route.template.variables:
            field = _field_at(message, dotted)
            schema = self._schemas.field(field, request=True)
            parameters.append(
                _parameter("path", _json_name(message, dotted), schema, example_value(field), required=True)
            )
        if route.request.body == WHOLE_BODY:
            return parameters
        needed = required_fields(message)
        bound = {*route.template.variables, *([route.request.body] if route.request.body else ())}
        for name, field in query_fields(message, bound):
            if field.name == route.method.if_match:
                continue
            schema = self._schemas.field(field, request=True)
            parameters.append(_parameter("query", name, schema, None, required=name in needed))
        return parameters

    def _request_body(self, route: Route, operation_id: str) -> dict[str, Any]:
        message, body = route.method.descriptor.input_type, route.request.body
        if body == WHOLE_BODY:
            without = {*route.template.variables, *filter(None, [route.method.if_match])}
            name = "" if operation_id == route.method.name else f"{operation_id}Request"
            schema = self._schemas.request(message, without=without, name=name)
            example: Any = example_of(message, without=without, only=required_fields(message) or None)
            needed = bool(self._schemas.components[_name_of(schema)].get("required"))
        else:
            field = message.fields_by_name[body]
            schema = self._schemas.field(field, request=True)
            example, needed = example_value(field), field.json_name in required_fields(message)
        return {"required": needed, "content": {JSON: {"schema": schema, "example": example}}}

    def _successes(self, route: Route) -> dict[str, Any]:
        if route.events is not None:
            return {"200": self._stream(route)}
        message = body_type(route)
        example = example_of(message)
        content: dict[str, Any] = {JSON: {"schema": self._schemas.answer(message), "example": example}}
        if route.table is not None:
            content[TEXT_CSV] = {"schema": {"type": "string"}}
        headers = headers_of_success(route.method)
        if not route.method.created_unless:
            return {"200": {"description": "Done.", "headers": headers, "content": content}}
        flag = message.fields_by_name[route.method.created_unless].json_name
        return {
            "201": {
                "description": "Created.",
                "headers": headers,
                "content": {**content, JSON: {**content[JSON], "example": {**example, flag: False}}},
            },
            "200": {
                "description": f"It was there before: `{flag}` is true.",
                "headers": headers,
                "content": content,
            },
        }

    def _stream(self, route: Route) -> dict[str, Any]:
        """The response of a method that streams. OpenAPI 3.1 cannot describe events, so `x-events` does."""
        method = route.method
        kinds = dict(data_types(method).values()) if method.event_of else {"": body_type(route)}
        example = b"".join(
            event(name=name, data=orjson.dumps(example_of(kind))) for name, kind in kinds.items()
        )
        return {
            "description": (
                "Server-sent events. Each `data` is one line of JSON; `x-events` has its schema, by the name "
                "of the event. A stream that fails ends with the event `problem`, one that the server closes "
                "with `closing`, a complete one with `end`."
            ),
            "headers": headers_of_success(method),
            "content": {
                EVENT_STREAM: {
                    "schema": {"type": "string"},
                    "example": example.decode(),
                    "x-events": {
                        **{name or MESSAGE: self._schemas.answer(kind) for name, kind in kinds.items()},
                        PROBLEM_EVENT: PROBLEM,
                    },
                }
            },
        }

    def _refusal(self, status: int, reasons: Sequence[Reason]) -> dict[str, Any]:
        """A reference to the response of these reasons, which many operations share."""
        name = ".".join([str(status), *(reason.name for reason in reasons)])
        if name not in self.responses:
            self.responses[name] = {
                "description": f"{HTTPStatus(status).phrase}: "
                + "; ".join(f"`{reason.name}` ({reason.title})" for reason in reasons)
                + ".",
                "headers": headers_of_problem(status),
                "content": {CONTENT_TYPE: {"schema": _problem_schema(status, reasons)}},
            }
        return {"$ref": f"#/components/responses/{name}"}


def body_type(route: Route) -> Descriptor:
    """The message that is the body of a success."""
    response = route.method.descriptor.output_type
    name = route.response.response_body
    inner = response.fields_by_name[name].message_type if name else None
    return inner or response


def tag_of(route: Route) -> str:
    """The group of an operation: the name of its service without "Service"."""
    return route.method.descriptor.containing_service.name.removesuffix("Service")


def path_of(route: Route) -> str:
    """The path with lowerCamelCase variables, as OpenAPI writes it."""
    message = route.method.descriptor.input_type
    return _VARIABLE.sub(lambda found: f"{{{_json_name(message, found[1])}}}", route.template.text)


def _problem_schema(status: int, reasons: Sequence[Reason]) -> Schema:
    return {
        "allOf": [
            PROBLEM,
            {
                "properties": {
                    "status": {"const": status},
                    "type": {"enum": [type_of(reason) for reason in reasons]},
                    "reason": {"enum": [reason.name for reason in reasons]},
                }
            },
        ],
        "example": {
            "type": type_of(reasons[0]),
            "title": reasons[0].title,
            "status": status,
            "detail": reasons[0].title,
            "instance": "/v1/sessions",
            "reason": reasons[0].name,
            "requestId": "0123456789abcdef0123456789abcdef",
            "retryable": reasons[0].retryable,
        },
    }


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    method = route.method
    return [
        *([IDEMPOTENCY_KEY_PARAMETER] if method.key_required else ()),
        *([IF_MATCH_PARAMETER] if method.if_match else ()),
        *([LAST_EVENT_ID_PARAMETER] if method.resumes_from else ()),
        REQUEST_TIMEOUT_PARAMETER,
        REQUEST_ID_PARAMETER,
    ]


def _parameter(where: str, name: str, schema: Schema, example: Any, *, required: bool) -> dict[str, Any]:
    schema = dict(schema)
    parameter: dict[str, Any] = {"name": name, "in": where}
    if described := schema.pop("description", ""):
        parameter["description"] = described
    if required:
        parameter["required"] = True
    parameter["schema"] = schema
    if example is not None:
        parameter["example"] = example
    return parameter


def _field_at(message: Descriptor, dotted: str) -> Any:
    *outer, last = dotted.split(".")
    for name in outer:
        message = message.fields_by_name[name].message_type or message
    return message.fields_by_name[last]


def _json_name(message: Descriptor, dotted: str) -> str:
    names: list[str] = []
    for name in dotted.split("."):
        field = message.fields_by_name[name]
        names.append(field.json_name)
        message = field.message_type or message
    return ".".join(names)


def _name_of(schema: Schema) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _summary(described: str, name: str) -> str:
    """The first sentence of the comment; without a comment, the words of the method's name."""
    if described:
        return described.partition(". ")[0].rstrip(".")
    first, *others = _WORDS.findall(name)
    return " ".join([first, *(word.lower() for word in others)])
