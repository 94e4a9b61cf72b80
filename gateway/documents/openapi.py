"""`/openapi.json`: the whole HTTP surface as OpenAPI 3.1, made once from the contract's descriptors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from gateway.documents.comments import comments
from gateway.documents.operations import JSON, Operations, body_type, path_of, tag_of
from gateway.documents.parameters import HEADERS, PARAMETERS
from gateway.documents.schemas import Schemas
from gateway.problems import PROBLEMS_PATH
from gateway.routes import Route

VERSION = "3.1.0"
_DESCRIPTION = f"""\
Every learner action counts exactly once: a mutation takes an `Idempotency-Key`, and every retry with this
key gets the same answer.

Bodies are proto3 JSON in lowerCamelCase, at most 64 KiB unless an operation says more. Fields may be added to
answers. A request may also have what proto3 JSON allows besides: numbers as strings, numbers of enums, `null`
for an absent field, and names as in the .proto files. Texts never contain the character NUL.

Each refusal is a problem (RFC 9457); its `type` is the address of a page that explains it ({PROBLEMS_PATH}).
"""
_PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "A refusal (RFC 9457). Some reasons add members, such as `limit` and `resetsAt`.",
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "instance": {"type": "string", "description": "The path of the request."},
        "reason": {"type": "string", "description": "Stable; clients may rely on it."},
        "requestId": {"type": "string"},
        "retryable": {"type": "boolean", "description": "Whether the same request may succeed later."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "description": {"type": "string"}},
                "required": ["field", "description"],
            },
        },
    },
    "required": ["type", "title", "status", "detail", "instance", "reason", "requestId", "retryable"],
}


def openapi(routes: Sequence[Route], *, version: str) -> dict[str, Any]:
    """The document.

    Raises:
        ContractError: a policy names a reason that does not exist.
    """
    schemas = Schemas(
        message
        for route in routes
        for message in (route.method.descriptor.input_type, route.method.descriptor.output_type)
    )
    operations = Operations(schemas)
    paths: dict[str, dict[str, Any]] = {}
    described: list[tuple[Route, dict[str, Any]]] = []
    for route, operation_id in _with_ids(routes):
        operation = operations.describe(route, operation_id=operation_id)
        paths.setdefault(path_of(route), {})[route.http_method.lower()] = operation
        described.append((route, operation))
    _add_links(described)
    return {
        "openapi": VERSION,
        "info": {
            "title": "Homeroom",
            "version": version,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": _tags(routes),
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted({**schemas.components, "Problem": _PROBLEM}.items())),
            "responses": dict(sorted(operations.responses.items())),
            "parameters": PARAMETERS,
            "headers": HEADERS,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _with_ids(routes: Iterable[Route]) -> Iterable[tuple[Route, str]]:
    """Each route with a unique operation id: the name of its method, and a number from the second path on."""
    seen: Counter[str] = Counter()
    services: dict[str, str] = {}
    for route in routes:
        method = route.method
        owner = services.setdefault(method.name, method.service)
        name = method.name if owner == method.service else f"{tag_of(route)}{method.name}"
        seen[name] += 1
        yield route, name if seen[name] == 1 else f"{name}{seen[name]}"


def _tags(routes: Iterable[Route]) -> list[dict[str, str]]:
    tags: dict[str, str] = {}
    for route in routes:
        service = route.method.descriptor.containing_service
        known = comments()
        described = known.get(service.full_name) or known.get(service.file.name, "")
        tags.setdefault(tag_of(route), described)
    return [
        {"name": name, **({"description": described} if described else {})}
        for name, described in sorted(tags.items())
    ]


def _add_links(described: Sequence[tuple[Route, dict[str, Any]]]) -> None:
    """Links an answer to the operations of its service whose path it can fill."""
    for route, operation in described:
        names = {field.json_name for field in body_type(route).fields if not field.is_repeated}
        links: dict[str, Any] = {}
        for other, target in described:
            variables = [each["name"] for each in target["parameters"] if each.get("in") == "path"]
            if (
                target is not operation
                and other.method.service == route.method.service
                and variables
                and names.issuperset(variables)
            ):
                links[target["operationId"]] = {
                    "operationId": target["operationId"],
                    "parameters": {name: f"$response.body#/{name}" for name in variables},
                }
        if links:
            for status, response in operation["responses"].items():
                if status.startswith("2") and JSON in response["content"]:
                    response["links"] = links
