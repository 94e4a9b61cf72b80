"""JSON Schemas of single values: the type of a protobuf field, and the bounds that `buf.validate` sets."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from protos.buf.validate import validate_pb2

Schema = dict[str, Any]

_SMALL = frozenset(
    {
        FieldDescriptor.TYPE_INT32,
        FieldDescriptor.TYPE_SINT32,
        FieldDescriptor.TYPE_SFIXED32,
    }
)
_SMALL_UNSIGNED = frozenset({FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_FIXED32})
_WIDE = frozenset({FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SINT64, FieldDescriptor.TYPE_SFIXED64})
_WIDE_UNSIGNED = frozenset({FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64})
_SCALARS: dict[int, Schema] = {
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number", "format": "float"},
    **{kind: {"type": "integer", "format": "int32"} for kind in _SMALL},
    **{kind: {"type": "integer", "format": "uint32"} for kind in _SMALL_UNSIGNED},
    # proto3 JSON writes 64-bit integers as strings.
    **{kind: {"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$"} for kind in _WIDE},
    **{kind: {"type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$"} for kind in _WIDE_UNSIGNED},
}
_RANGES = {
    **dict.fromkeys(_SMALL, (-(2**31), 2**31 - 1)),
    **dict.fromkeys(_SMALL_UNSIGNED, (0, 2**32 - 1)),
}
WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$"},
    "google.protobuf.FieldMask": {"type": "string"},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Value": {},
    "google.protobuf.ListValue": {"type": "array"},
    "google.protobuf.Empty": {"type": "object"},
    "google.protobuf.BoolValue": {"type": "boolean"},
    "google.protobuf.StringValue": {"type": "string"},
    "google.protobuf.BytesValue": {"type": "string", "contentEncoding": "base64"},
    "google.protobuf.Int32Value": {"type": "integer", "format": "int32"},
    "google.protobuf.UInt32Value": {"type": "integer", "format": "uint32"},
    "google.protobuf.Int64Value": {"type": "string", "format": "int64"},
    "google.protobuf.UInt64Value": {"type": "string", "format": "uint64"},
    "google.protobuf.FloatValue": {"type": "number", "format": "float"},
    "google.protobuf.DoubleValue": {"type": "number", "format": "double"},
}
_NUMBER_BOUNDS = (
    ("gte", "minimum"),
    ("gt", "exclusiveMinimum"),
    ("lte", "maximum"),
    ("lt", "exclusiveMaximum"),
)
_STRING_BOUNDS = (("min_len", "minLength"), ("max_len", "maxLength"), ("pattern", "pattern"))
_STRING_FORMATS = (
    ("email", "email"),
    ("uuid", "uuid"),
    ("uri", "uri"),
    ("hostname", "hostname"),
    ("ipv4", "ipv4"),
    ("ipv6", "ipv6"),
)


def rules_of(field: FieldDescriptor) -> validate_pb2.FieldRules:
    """The rules of a field; empty when it has none."""
    rules: validate_pb2.FieldRules = field.GetOptions().Extensions[cast("Any", validate_pb2.field)]
    if rules.ignore == validate_pb2.IGNORE_ALWAYS:
        return validate_pb2.FieldRules()
    return rules


def scalar_schema(field: FieldDescriptor) -> Schema:
    """The type of a field that is neither a message nor an enum."""
    return dict(_SCALARS[field.type])


def enum_schema(enum: EnumDescriptor, rules: validate_pb2.FieldRules | None) -> Schema:
    """The names of an enum. For a request, only those that the rules allow."""
    values = enum.values
    if rules is not None:
        own = rules.enum
        refused = set(own.not_in)
        allowed = set(getattr(own, "in")) or ({own.const} if own.HasField("const") else None)
        values = [
            value
            for value in values
            if value.number not in refused and (allowed is None or value.number in allowed)
        ]
    return {"type": "string", "enum": [value.name for value in values]}


def bounds(field: FieldDescriptor, rules: validate_pb2.FieldRules) -> Schema:
    """What the rules say of one value of a field: keywords that narrow its type."""
    kind = rules.WhichOneof("type")
    narrowed: Schema = {}
    if field.type in _RANGES:
        narrowed["minimum"], narrowed["maximum"] = _RANGES[field.type]
    narrower = _NARROWERS.get(kind or "")
    if narrower is not None:
        narrower(narrowed, getattr(rules, cast("str", kind)))
    return narrowed


def _narrow_string(narrowed: Schema, rules: Any) -> None:
    for rule, keyword in _STRING_BOUNDS:
        if rules.HasField(rule):
            narrowed[keyword] = getattr(rules, rule)
    if rules.HasField("len"):
        narrowed["minLength"] = narrowed["maxLength"] = rules.len
    for rule, form in _STRING_FORMATS:
        if getattr(rules, rule):
            narrowed["format"] = form
    _narrow_choice(narrowed, rules)


def _narrow_number(narrowed: Schema, rules: Any) -> None:
    for rule, keyword in _NUMBER_BOUNDS:
        if rules.HasField(rule):
            narrowed.pop("minimum" if rule.startswith("g") else "maximum", None)
            narrowed[keyword] = getattr(rules, rule)
    _narrow_choice(narrowed, rules)


def _narrow_choice(narrowed: Schema, rules: Any) -> None:
    choices, refused = list(getattr(rules, "in")), list(rules.not_in)
    if rules.HasField("const"):
        narrowed["const"] = rules.const
    if choices:
        narrowed["enum"] = choices
    if refused:
        narrowed["not"] = {"enum": refused}


def _narrow_timestamp(narrowed: Schema, rules: Any) -> None:
    """JSON Schema has no bound for times, so the description has it."""
    words = [
        f"{word} {_day(getattr(rules, rule))}"
        for rule, word in (("gte", "from"), ("gt", "after"), ("lt", "before"), ("lte", "until"))
        if rules.HasField(rule)
    ]
    if words:
        text = ", ".join(words)
        narrowed["description"] = f"{text[0].upper()}{text[1:]}."


def _day(timestamp: Timestamp) -> str:
    return f"{datetime.fromtimestamp(timestamp.seconds, UTC):%Y-%m-%d}"


_NARROWERS: dict[str, Callable[[Schema, Any], None]] = {
    "string": _narrow_string,
    "timestamp": _narrow_timestamp,
    **dict.fromkeys(
        ("int32", "sint32", "sfixed32", "uint32", "fixed32", "double", "float"),
        _narrow_number,
    ),
}
