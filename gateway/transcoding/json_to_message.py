"""proto3 JSON to protobuf messages. It is strict, and finds all faults in one pass, each with its JSON path.

`json_format.ParseDict` accepts the same values with the same result; a test compares them. This reader also
refuses `true` for a number, `1.5` for an enum, one field in both spellings, and the character NUL, which
PostgreSQL cannot store. It takes a third of the time, because each type is compiled once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway.transcoding.faults import Faults, Unfit
from gateway.transcoding.json_values import (
    Convert,
    enum_conversion,
    key_conversion,
    scalar_conversion,
    well_known_conversion,
)
from protos.buf.validate import validate_pb2


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    attribute: str
    convert: Convert
    oneof: str | None


class MessageReader:
    """Makes messages of one type from decoded JSON."""

    def __init__(self, descriptor: Descriptor, _known: dict[str, MessageReader] | None = None) -> None:
        known = {} if _known is None else _known
        known[descriptor.full_name] = self  # this comes before the fields, because a type may contain itself
        self._type: Callable[..., Any] = message_factory.GetMessageClass(descriptor)
        self._fields: dict[str, _Field] = {}
        for field in descriptor.fields:
            compiled = _Field(field.json_name, field.name, _field_conversion(field, known), _oneof(field))
            self._fields[field.name] = self._fields[field.json_name] = compiled

    def __call__(self, value: Any) -> Any:
        """Makes a message; raises Unfit with its first faults."""
        if not isinstance(value, dict):
            raise Unfit.because("must be an object")
        fields = self._fields
        read: dict[str, Any] = {}
        oneofs: dict[str, str] = {}
        faults = Faults()
        for name, each in value.items():
            field = fields.get(name)
            if field is None:
                faults.add(name, "is not a known field")
            elif field.attribute in read:
                faults.add(name, "is given twice, in two spellings")
            elif each is not None:  # null is the same as absent
                try:
                    read[field.attribute] = field.convert(each)
                except Unfit as unfit:
                    faults.add_below(name, unfit)
                if field.oneof is not None:
                    other = oneofs.setdefault(field.oneof, field.name)
                    if other != field.name:
                        faults.add(name, f"excludes {other}")
        faults.check()
        return self._type(**read)


def _oneof(field: FieldDescriptor) -> str | None:
    """The oneof of a field; None for the hidden oneof of an `optional` field, which excludes nothing."""
    oneof = field.containing_oneof
    return None if oneof is None or len(oneof.fields) == 1 else oneof.name


def _field_conversion(field: FieldDescriptor, known: dict[str, MessageReader]) -> Convert:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return _map_conversion(field.message_type, known)
    one = _value_conversion(field, known)
    return _list_conversion(one, _rules(field).repeated.max_items) if field.is_repeated else one


def _rules(field: FieldDescriptor) -> validate_pb2.FieldRules:
    rules: validate_pb2.FieldRules = field.GetOptions().Extensions[cast("Any", validate_pb2.field)]
    return rules


def _list_conversion(one: Convert, items_max: int) -> Convert:
    """Reads an array. If its length is not valid, no element is converted."""

    def convert(values: Any) -> list[Any]:
        if not isinstance(values, list):
            raise Unfit.because("must be an array")
        if items_max and len(values) > items_max:
            raise Unfit.because(f"must contain no more than {items_max} item(s)")
        read: list[Any] = []
        faults = Faults()
        for index, value in enumerate(values):
            try:
                read.append(one(value))
            except Unfit as unfit:
                faults.add_below(index, unfit)
        faults.check()
        return read

    return convert


def _map_conversion(entry: Descriptor, known: dict[str, MessageReader]) -> Convert:
    one = _value_conversion(entry.fields_by_name["value"], known)
    key = key_conversion(entry.fields_by_name["key"])

    def convert(values: Any) -> dict[Any, Any]:
        if not isinstance(values, dict):
            raise Unfit.because("must be an object")
        read: dict[Any, Any] = {}
        faults = Faults()
        for name, value in values.items():
            try:
                read[key(name)] = one(value)
            except Unfit as unfit:
                faults.add_below(name, unfit)
        faults.check()
        return read

    return convert


def _value_conversion(field: FieldDescriptor, known: dict[str, MessageReader]) -> Convert:
    descriptor = field.message_type
    if descriptor is None:
        return scalar_conversion(field) if field.enum_type is None else enum_conversion(field.enum_type)
    if descriptor.file.package == "google.protobuf":
        return well_known_conversion(descriptor)
    return known.get(descriptor.full_name) or MessageReader(descriptor, known)
