"""Checks messages against their `buf.validate` rules. A violation names the field as in JSON."""

from __future__ import annotations

from typing import Any

import protovalidate
from google.protobuf.message import Message

from chassis.errors import FieldViolation, ServiceError, invalid_fields

# The violations that a client sees.
VIOLATIONS_MAX = 100
# A violation costs 32 µs, and a message may have violations in each of thousands of elements. So all
# violations are collected only for a message with few elements. For a larger one, the first one is shown.
ELEMENTS_EXPLAINED_MAX = 200


def validate(message: Message) -> ServiceError | None:
    """Checks a message against the rules in its .proto file; None when it is valid."""
    found = protovalidate.collect_violations(message, fail_fast=True)
    if not found:
        return None
    if not _has_more_elements(message, ELEMENTS_EXPLAINED_MAX):
        found = protovalidate.collect_violations(message)
    return invalid_fields(
        [
            FieldViolation(json_path(violation.proto.field, message.DESCRIPTOR), violation.proto.message)
            for violation in found[:VIOLATIONS_MAX]
        ]
    )


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


def _has_more_elements(message: Message, limit: int) -> bool:
    """Whether the lists and maps of a message have more elements than this, nested ones included."""
    count = 0
    pending = [message]
    while pending:
        for field, value in pending.pop().ListFields():
            if field.is_repeated:
                count += len(value)
                if count > limit:
                    return True
                if field.message_type is not None:
                    values = value.values() if field.message_type.GetOptions().map_entry else value
                    pending += [each for each in values if isinstance(each, Message)]
            elif field.message_type is not None:
                pending.append(value)
    return False
