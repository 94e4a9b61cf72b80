"""JSON values to values of protobuf fields: numbers, strings, enums, and protobuf's well-known types."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable
from typing import Any

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.transcoding.faults import Unfit
from gateway.transcoding.message_to_json import FLOAT_MAX

Convert = Callable[[Any], Any]
"""Reads a JSON value; raises Unfit when it does not fit."""

_INTEGER_TEXT = re.compile(r"-?[0-9]{1,20}")
_NUMBER_TEXT = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,5})?")
_BASE64_TEXT = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")
_INTEGER_BITS = {
    FieldDescriptor.TYPE_INT32: (32, True),
    FieldDescriptor.TYPE_SINT32: (32, True),
    FieldDescriptor.TYPE_SFIXED32: (32, True),
    FieldDescriptor.TYPE_UINT32: (32, False),
    FieldDescriptor.TYPE_FIXED32: (32, False),
    FieldDescriptor.TYPE_INT64: (64, True),
    FieldDescriptor.TYPE_SINT64: (64, True),
    FieldDescriptor.TYPE_SFIXED64: (64, True),
    FieldDescriptor.TYPE_UINT64: (64, False),
    FieldDescriptor.TYPE_FIXED64: (64, False),
}
_WELL_KNOWN_FORMS = {
    "google.protobuf.Duration": 'must be a duration in seconds such as "1.5s"',
    "google.protobuf.FieldMask": 'must be field names such as "title,metadata"',
}


def scalar_conversion(field: FieldDescriptor) -> Convert:
    """The conversion for a field that is neither a message nor an enum."""
    if field.type in _INTEGER_BITS:
        return _integer_conversion(*_INTEGER_BITS[field.type])
    return _SCALARS.get(field.type, _string)


def key_conversion(field: FieldDescriptor) -> Convert:
    """The conversion for the key of a map, which is always a string in JSON."""
    return _bool_key if field.type == FieldDescriptor.TYPE_BOOL else scalar_conversion(field)


def well_known_conversion(descriptor: Descriptor) -> Convert:
    """The conversion for a message of the package google.protobuf."""
    conversion = _WELL_KNOWN.get(descriptor.full_name)
    if conversion is not None:
        return conversion
    made: Callable[[], Message] = message_factory.GetMessageClass(descriptor)
    form = _WELL_KNOWN_FORMS.get(descriptor.full_name, f"must be a {descriptor.name}")

    def convert(value: Any) -> Message:
        try:
            return json_format.ParseDict(value, made())
        except Exception:  # noqa: BLE001 — json_format also raises TypeError, OverflowError and others
            raise Unfit.because(form) from None

    return convert


def enum_conversion(enum: EnumDescriptor) -> Convert:
    """The conversion for an enum, from its name or its number."""
    numbers = {value.name: value.number for value in enum.values}
    choices = [value.name for value in enum.values if value.number != 0] or list(numbers)
    form = "must be one of " + ", ".join(choices)
    integer = _integer_conversion(32, signed=True)

    def convert(value: Any) -> int:
        if isinstance(value, str):
            number = numbers.get(value)
            if number is not None:
                return number
        try:
            # The number may be undeclared: enums are open, and validation decides.
            return int(integer(value))
        except Unfit:
            raise Unfit.because(form) from None

    return convert


def _integer_conversion(bits: int, signed: bool) -> Convert:
    low = -(1 << bits - 1) if signed else 0
    high = (1 << (bits - 1 if signed else bits)) - 1
    form = f"must be a whole number from {low} to {high}"

    def convert(value: Any) -> int:
        if isinstance(value, str) and _INTEGER_TEXT.fullmatch(value):
            number = int(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            number = value
        elif isinstance(value, float) and value.is_integer():
            number = int(value)
        else:
            raise Unfit.because(form)
        if not low <= number <= high:
            raise Unfit.because(form)
        return number

    return convert


def _double(value: Any) -> float:
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, str):
        if value in {"NaN", "Infinity", "-Infinity"}:
            return float(value)
        if not _NUMBER_TEXT.fullmatch(value):
            raise Unfit.because("must be a number")
    elif isinstance(value, bool) or not isinstance(value, int):
        raise Unfit.because("must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        raise Unfit.because("is too large a number")
    return number


def _float(value: Any) -> float:
    number = _double(value)
    if math.isfinite(number) and abs(number) > FLOAT_MAX:
        raise Unfit.because("is too large a number")
    return number


def _bool(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise Unfit.because("must be true or false")


def _bool_key(name: str) -> bool:
    if name in {"true", "false"}:
        return name == "true"
    raise Unfit.because("must have the key true or false")


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise Unfit.because("must be a string")
    if "\0" in value:
        raise Unfit.because("must not contain the character NUL")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Unfit.because("must be valid Unicode, without half a surrogate pair") from None
    return value


def _bytes(value: Any) -> bytes:
    if not isinstance(value, str) or not _BASE64_TEXT.fullmatch(value):
        raise Unfit.because("must be a base64 string")
    text = value.rstrip("=").translate({ord("-"): "+", ord("_"): "/"})
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise Unfit.because("must be a base64 string") from None


def _timestamp(value: Any) -> Timestamp:
    timestamp = Timestamp()
    try:
        timestamp.FromJsonString(value)
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise Unfit.because('must be an RFC 3339 time such as "2026-01-31T12:00:00Z"') from None
    return timestamp


def _struct(value: Any) -> Struct:
    if not isinstance(value, dict):
        raise Unfit.because("must be an object")
    return _value(value).struct_value


def _list_value(value: Any) -> ListValue:
    if not isinstance(value, list):
        raise Unfit.because("must be an array")
    return _value(value).list_value


def _value(value: Any) -> Value:
    made = Value()
    _fill(made, value)
    return made


def _fill(made: Value, value: Any) -> None:
    """Fills a Value in place. json_format would copy the path to each value, a constructor inner values."""
    if value is None:
        made.null_value = 0  # type: ignore[assignment] # the one value of NullValue
    elif isinstance(value, bool):
        made.bool_value = value
    elif isinstance(value, str):
        made.string_value = _string(value)
    elif isinstance(value, dict):
        made.struct_value.SetInParent()
        for name, inner in value.items():
            _fill(made.struct_value.fields[_string(name)], inner)
    elif isinstance(value, list):
        made.list_value.SetInParent()
        for inner in value:
            _fill(made.list_value.values.add(), inner)
    else:
        made.number_value = _double(value)


_SCALARS: dict[int, Convert] = {
    FieldDescriptor.TYPE_DOUBLE: _double,
    FieldDescriptor.TYPE_FLOAT: _float,
    FieldDescriptor.TYPE_BOOL: _bool,
    FieldDescriptor.TYPE_BYTES: _bytes,
}
_WELL_KNOWN: dict[str, Convert] = {
    Timestamp.DESCRIPTOR.full_name: _timestamp,
    Struct.DESCRIPTOR.full_name: _struct,
    ListValue.DESCRIPTOR.full_name: _list_value,
    Value.DESCRIPTOR.full_name: _value,
}
