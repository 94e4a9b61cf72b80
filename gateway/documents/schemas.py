"""JSON Schemas of messages, from their descriptors: what a request may hold, and what an answer holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, cast

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, OneofDescriptor

from chassis.rpc.validation import validate
from gateway.documents.comments import comments
from gateway.documents.rules import WELL_KNOWN, Schema, bounds, enum_schema, rules_of, scalar_schema
from protos.buf.validate import validate_pb2

REFERENCE = "#/components/schemas/"
# A message in a request has bounds; the same message in an answer does not.
_INPUT = "Input"
# The JSON types that a query parameter can have.
_TEXTS = frozenset({"string", "boolean", "integer", "number"})


class Schemas:
    """The schemas of all messages that are used. A message has one for requests and one for answers.

    Args:
        messages: the types of all requests and answers, so that names stay short where they are unique.
    """

    def __init__(self, messages: Iterable[Descriptor]) -> None:
        self.components: dict[str, Schema] = {}
        reached = {each.full_name: each for message in messages for each in _reached(message)}
        self._uses = Counter(_short_name(each) for each in reached.values())

    def answer(self, message: Descriptor) -> Schema:
        """A reference to the schema of a message in an answer."""
        return self._reference(message, request=False)

    def request(self, message: Descriptor, *, without: Collection[str], name: str = "") -> Schema:
        """A reference to the schema of a body; fields that the path gives are left out."""
        name = name or self._name(message)
        if name not in self.components:
            self.components[name] = {}
            self.components[name] = self._object(message, request=True, without=without)
        return {"$ref": REFERENCE + name}

    def field(self, field: FieldDescriptor, *, request: bool) -> Schema:
        """The schema of a field, with its comment."""
        schema = self._field(field, request=request)
        words = [comments().get(field.full_name, ""), schema.pop("description", "")]
        if described := " ".join(word for word in words if word):
            schema = {"description": described, **schema}
        return schema

    def _reference(self, message: Descriptor, *, request: bool) -> Schema:
        name = self._name(message) + (_INPUT if request else "")
        if name not in self.components:
            self.components[name] = {}  # a type may contain itself
            self.components[name] = self._object(message, request=request)
        return {"$ref": REFERENCE + name}

    def _name(self, message: Descriptor) -> str:
        short = _short_name(message)
        package = message.file.package.split(".")[1]
        return short if self._uses[short] <= 1 else f"{package}.{short}"

    def _object(self, message: Descriptor, *, request: bool, without: Collection[str] = ()) -> Schema:
        fields = [field for field in message.fields if field.name not in without]
        schema: Schema = {"type": "object"}
        if comment := comments().get(message.full_name):
            schema["description"] = comment
        schema["properties"] = {field.json_name: self.field(field, request=request) for field in fields}
        needed = required_fields(message) if request else None
        required = [
            field.json_name
            for field in fields
            if (field.json_name in needed if needed is not None else not field.has_presence)
        ]
        if required:
            schema["required"] = required
        if request:
            schema["additionalProperties"] = False
            choices = [_choice(oneof) for oneof in message.oneofs if len(oneof.fields) > 1]
            if choices:
                schema["allOf"] = choices
        return schema

    def _field(self, field: FieldDescriptor, *, request: bool) -> Schema:
        rules = rules_of(field) if request else None
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            return self._map(field.message_type, rules)
        if field.is_repeated:
            return self._list(field, rules)
        one = self._value(field, rules)
        if rules is not None and _zero_is_allowed(field, rules):
            return {"anyOf": [one, {"const": ""}]}
        return one

    def _list(self, field: FieldDescriptor, rules: validate_pb2.FieldRules | None) -> Schema:
        if rules is None:
            return {"type": "array", "items": self._value(field, None)}
        schema: Schema = {"type": "array", "items": self._value(field, rules.repeated.items)}
        if rules.repeated.HasField("min_items"):
            schema["minItems"] = rules.repeated.min_items
        if rules.repeated.HasField("max_items"):
            schema["maxItems"] = rules.repeated.max_items
        if rules.repeated.unique:
            schema["uniqueItems"] = True
        return schema

    def _map(self, entry: Descriptor, rules: validate_pb2.FieldRules | None) -> Schema:
        key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
        schema: Schema = {"type": "object"}
        if rules is None:
            return {**schema, "additionalProperties": self._value(value, None)}
        schema["additionalProperties"] = self._value(value, rules.map.values)
        if key.type == FieldDescriptor.TYPE_STRING and (narrowed := bounds(key, rules.map.keys)):
            schema["propertyNames"] = narrowed
        if rules.map.HasField("min_pairs"):
            schema["minProperties"] = rules.map.min_pairs
        if rules.map.HasField("max_pairs"):
            schema["maxProperties"] = rules.map.max_pairs
        return schema

    def _value(self, field: FieldDescriptor, rules: validate_pb2.FieldRules | None) -> Schema:
        message = field.message_type
        if message is not None:
            known = WELL_KNOWN.get(message.full_name)
            if known is None:
                return self._reference(message, request=rules is not None)
            return {**known, **(bounds(field, rules) if rules is not None else {})}
        if field.enum_type is not None:
            return enum_schema(field.enum_type, rules)
        return {**scalar_schema(field), **(bounds(field, rules) if rules is not None else {})}


def _choice(oneof: OneofDescriptor) -> Schema:
    """At most one of the fields of a oneof; exactly one, if the rules require it."""
    each: list[Schema] = [{"required": [field.json_name]} for field in oneof.fields]
    rules = oneof.GetOptions().Extensions[cast("Any", validate_pb2.oneof)]
    return {"oneOf": each if rules.required else [*each, {"not": {"anyOf": each}}]}


def required_fields(message: Descriptor) -> frozenset[str]:
    """The JSON names of the fields that a request must have: those that are refused when they are absent."""
    refusal = validate(message_factory.GetMessageClass(message)())
    violations = () if refusal is None else refusal.violations
    return frozenset(violation.field for violation in violations)


def query_fields(
    message: Descriptor, bound: Collection[str], prefix: str = ""
) -> Iterator[tuple[str, FieldDescriptor]]:
    """The query parameters of a request, and their fields; those of a nested message have dotted names."""
    for field in message.fields:
        if field.name in bound:
            continue
        inner = field.message_type
        if inner is None or WELL_KNOWN.get(inner.full_name, {}).get("type") in _TEXTS:
            yield prefix + field.json_name, field
        elif inner.full_name not in WELL_KNOWN and not field.is_repeated and not prefix:
            yield from query_fields(inner, (), f"{prefix}{field.json_name}.")


def _zero_is_allowed(field: FieldDescriptor, rules: validate_pb2.FieldRules) -> bool:
    """Whether an empty text is valid although the rules of the text refuse it."""
    return (
        rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE
        and field.type == FieldDescriptor.TYPE_STRING
        and not field.has_presence
    )


def _short_name(message: Descriptor) -> str:
    return message.full_name.removeprefix(f"{message.file.package}.")


def _reached(message: Descriptor, seen: Mapping[str, Descriptor] | None = None) -> Iterator[Descriptor]:
    """A message, and every message that it contains."""
    known: dict[str, Any] = {} if seen is None else dict(seen)
    if message.full_name in known or message.full_name in WELL_KNOWN:
        return
    known[message.full_name] = message
    if not message.GetOptions().map_entry:
        yield message
    for field in message.fields:
        if field.message_type is not None:
            yield from _reached(field.message_type, known)
