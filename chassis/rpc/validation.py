"""Checks messages against their `buf.validate` rules; a violation names the field as JSON spells it."""

from __future__ import annotations

from typing import Any

import protovalidate
from google.protobuf.message import Message

from chassis.errors import FieldViolation, Reason, ServiceError

# The violations that a client sees. A message may break a rule in each of its thousands of elements.
VIOLATIONS_MAX = 100


def validate(message: Message) -> ServiceError | None:
    """Checks a message against the rules in its .proto file; None when it is valid."""
    found = protovalidate.collect_violations(message)
    if not found:
        return None
    violations = [
        FieldViolation(json_path(violation.proto.field, message.DESCRIPTOR), violation.proto.message)
        for violation in found[:VIOLATIONS_MAX]
    ]
    first = violations[0]
    detail = f"{first.field}: {first.description}" if first.field else first.description
    return ServiceError(Reason.INVALID_ARGUMENT, detail, violations=violations)


def json_path(path: Any, descriptor: Any) -> str:
    """Renders a protovalidate field path as JSON writes it: `questions[3].prompt`, `metadata.a`."""
    parts: list[str] = []
    scope = descriptor
    for element in path.elements if path is not None else ():
        field = scope.fields_by_name.get(element.field_name) if scope is not None else None
        text = field.json_name if field is not None else element.field_name
        subscript = element.subscript
        if subscript is not None:
            text += f"[{subscript.value}]" if subscript.field == "index" else f".{subscript.value}"
        parts.append(text)
        scope = field.message_type if field is not None else None
    return ".".join(parts)
