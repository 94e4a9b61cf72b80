"""Example values: of a request that is valid, and of the answer to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from chassis.rpc.validation import validate
from gateway.documents.rules import WELL_KNOWN, rules_of
from protos.buf.validate import validate_pb2

# Names that mean the same everywhere; a field with another name gets a value of its type.
_BY_NAME: Mapping[str, Any] = {
    "choice": "9.81",
    "choices": ["3.14", "9.81"],
    "close_reason": "submitted",
    "daily_test_limit": 10,
    "difficulty": "medium",
    "display_name": "Ada Lovelace",
    "duration_minutes": 30,
    "email": "ada@example.org",
    "features": ["practice"],
    "metadata": {"course": "physics"},
    "next_page_token": "",
    "plan_id": "free",
    "prompt": "What is the acceleration of free fall, in m/s²?",
    "question_id": "q1",
    "reason": "agreed by phone",
    "score": 0.75,
    "session_id": "3f0c8a4e-58a1-4b06-9d0f-2f5b7a1c9e11",
    "specialization": "physics",
    "test_id": "physics-01",
    "title": "Physics, first test",
    "user_id": "ada",
}
_TIME = "2026-01-31T12:00:00Z"
_UUID = "3f0c8a4e-58a1-4b06-9d0f-2f5b7a1c9e11"
_INTEGERS = frozenset(
    {
        FieldDescriptor.TYPE_INT32,
        FieldDescriptor.TYPE_UINT32,
        FieldDescriptor.TYPE_SINT32,
        FieldDescriptor.TYPE_FIXED32,
        FieldDescriptor.TYPE_SFIXED32,
    }
)
_WIDE = frozenset(
    {
        FieldDescriptor.TYPE_INT64,
        FieldDescriptor.TYPE_UINT64,
        FieldDescriptor.TYPE_SINT64,
        FieldDescriptor.TYPE_FIXED64,
        FieldDescriptor.TYPE_SFIXED64,
    }
)
_BY_TYPE: Mapping[int, Any] = {FieldDescriptor.TYPE_BOOL: True, FieldDescriptor.TYPE_BYTES: "aG9tZXJvb20="}
_DEPTH_MAX = 6


def example_of(
    message: Descriptor, *, without: Collection[str] = (), only: Collection[str] | None = None
) -> dict[str, Any]:
    """An example of a message.

    Args:
        message: the type.
        without: the names of fields to leave out.
        only: the JSON names of the fields to show; None for all.
    """
    return _object(message, without, only, _DEPTH_MAX)


def example_value(field: FieldDescriptor) -> Any:
    """An example of a field's value."""
    return _value(field, _DEPTH_MAX)


def _object(
    message: Descriptor, without: Collection[str], only: Collection[str] | None, depth: int
) -> dict[str, Any]:
    oneofs: set[str] = set()
    made: dict[str, Any] = {}
    for field in message.fields:
        if field.name in without or (only is not None and field.json_name not in only):
            continue
        oneof = field.containing_oneof
        if oneof is not None and len(oneof.fields) > 1:
            if oneof.name in oneofs:
                continue
            oneofs.add(oneof.name)
        made[field.json_name] = _value(field, depth)
    return made


def _valid_object(message: Descriptor, depth: int) -> dict[str, Any]:
    """An example with all fields; with fewer, if a rule over several fields refuses all of them together."""
    whole = _object(message, (), None, depth)
    if not message.GetOptions().Extensions[cast("Any", validate_pb2.message)].cel:
        return whole
    candidates = [whole, *({name: value} for name, value in whole.items())]
    return next((each for each in candidates if _is_valid(message, each)), whole)


def _is_valid(message: Descriptor, example: dict[str, Any]) -> bool:
    made = json_format.ParseDict(example, message_factory.GetMessageClass(message)())
    return validate(made) is None


def _value(field: FieldDescriptor, depth: int) -> Any:
    named = _BY_NAME.get(field.name)
    if named is not None and _fits(field, named):
        return named
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        return {"a": _one(entry.fields_by_name["value"], rules_of(field).map.values, depth)}
    if not field.is_repeated:
        return _one(field, rules_of(field), depth)
    rules = rules_of(field).repeated
    return [_one(field, rules.items, depth)] * max(1, rules.min_items) if depth else []


def _fits(field: FieldDescriptor, value: Any) -> bool:
    """Whether a value that the name suggests has the type of the field."""
    if isinstance(value, dict):
        return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)
    if field.is_repeated:
        return isinstance(value, list) and field.type == FieldDescriptor.TYPE_STRING
    if isinstance(value, str):
        return field.type == FieldDescriptor.TYPE_STRING
    if isinstance(value, int):
        return field.type in _INTEGERS
    return isinstance(value, float) and field.type == FieldDescriptor.TYPE_DOUBLE


def _one(field: FieldDescriptor, rules: validate_pb2.FieldRules, depth: int) -> Any:
    message = field.message_type
    if message is not None:
        if message.full_name in WELL_KNOWN:
            return _well_known(message)
        return _valid_object(message, depth - 1) if depth else {}
    if field.enum_type is not None:
        refused = set(rules.enum.not_in)
        return next(
            (v.name for v in field.enum_type.values if v.number and v.number not in refused),
            field.enum_type.values[0].name,
        )
    if field.type == FieldDescriptor.TYPE_STRING:
        return _text(field, rules.string)
    return _BY_TYPE.get(field.type) or _number(field, rules)


def _text(field: FieldDescriptor, rules: Any) -> str:
    choices = list(getattr(rules, "in"))
    if choices:
        return str(choices[0])
    if rules.uuid:
        return _UUID
    if rules.uri:
        return "https://example.org/"
    text = field.json_name
    least = rules.len or rules.min_len
    most = rules.len or (rules.max_len if rules.HasField("max_len") else len(text))
    return text.ljust(least, "x")[: max(least, most)]


def _number(field: FieldDescriptor, rules: validate_pb2.FieldRules) -> Any:
    kind = rules.WhichOneof("type")
    own: Any = getattr(rules, kind) if kind else None
    value = 1.0
    if own is not None:
        if own.HasField("gte"):
            value = max(value, own.gte)
        elif own.HasField("gt"):
            value = max(value, own.gt + 1)
        if own.HasField("lte"):
            value = min(value, own.lte)
        elif own.HasField("lt"):
            value = min(value, own.lt - 1)
    if field.type in _INTEGERS:
        return int(value)
    return str(int(value)) if field.type in _WIDE else value


def _well_known(message: Descriptor) -> Any:
    return {
        "google.protobuf.Timestamp": _TIME,
        "google.protobuf.Duration": "1.5s",
        "google.protobuf.FieldMask": "title",
        "google.protobuf.Struct": {"a": 1.0},
        "google.protobuf.ListValue": [1.0],
        "google.protobuf.Empty": {},
        "google.protobuf.BoolValue": True,
        "google.protobuf.Int32Value": 1,
        "google.protobuf.UInt32Value": 1,
        "google.protobuf.Int64Value": "1",
        "google.protobuf.UInt64Value": "1",
        "google.protobuf.FloatValue": 1.0,
        "google.protobuf.DoubleValue": 1.0,
    }.get(message.full_name, "a")
