"""JSON ⇄ messages of every kind of field, held against protobuf's own json_format."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson
import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.transcoding.faults import Unfit
from gateway.transcoding.json_to_message import MessageReader
from gateway.transcoding.message_to_json import FLOAT_MAX, MessageWriter
from protos.session.v1 import sessions_pb2
from tests.gateway.made_contracts import SCALARS, WELL_KNOWN, every_kind

DESCRIPTOR = every_kind()
EveryKind: Any = message_factory.GetMessageClass(DESCRIPTOR)
read = MessageReader(DESCRIPTOR)
write = MessageWriter(DESCRIPTOR)
SESSION: Any = sessions_pb2.Session.DESCRIPTOR  # its stub leaves open whose descriptor it is

INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
}
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
# Small values often, so that zero, which proto3 does not send, comes up too.
WELL_KNOWN_JSON: dict[str, st.SearchStrategy[Any]] = {
    "Timestamp": st.sampled_from(
        [
            "1970-01-01T00:00:00Z",
            "2026-01-31T23:59:59.999Z",
            "1969-12-31T23:59:59.000001Z",
            "9999-12-31T23:59:59.999999999Z",
            "0001-01-01T00:00:00Z",
            "2026-01-31T12:00:00.120Z",
            "2026-01-31T12:00:00.123400Z",
        ]
    ),
    "Duration": st.sampled_from(["0s", "1.500s", "-3.000000001s"]),
    "FieldMask": st.sampled_from(["", "title", "title,metaData.a"]),
    "Struct": st.dictionaries(TEXT, st.none() | st.booleans() | TEXT | st.just([1.5, {"a": []}]), max_size=2),
    "StringValue": TEXT,
    "BoolValue": st.booleans(),
    "Int64Value": INTEGERS[FieldDescriptor.CPPTYPE_INT64].map(str),
}


def messages(*, depth: int = 1) -> st.SearchStrategy[Message]:
    """Messages with any of the fields set."""
    fields = [field for field in DESCRIPTOR.fields if depth or "self" not in field.name]
    return st.lists(st.sampled_from(fields), max_size=6, unique_by=lambda field: field.name).flatmap(
        lambda chosen: st.tuples(*(_values(field, depth) for field in chosen)).map(
            lambda values: EveryKind(
                **{field.name: value for field, value in zip(chosen, values, strict=True)}
            )
        )
    )


def _values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        entry = field.message_type.fields_by_name
        return st.dictionaries(_one(entry["key"], depth), _one(entry["value"], depth), max_size=3)
    if field.is_repeated:
        return st.lists(_one(field, depth), max_size=3)
    return _one(field, depth)


def _one(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:  # noqa: PLR0911 — one per kind
    if field.message_type is not None:
        if field.message_type.file.package != "google.protobuf":
            return messages(depth=depth - 1)
        made = message_factory.GetMessageClass(field.message_type)
        return WELL_KNOWN_JSON[field.message_type.name].map(lambda js: json_format.ParseDict(js, made()))
    if field.enum_type is not None:
        return st.integers(0, 3)
    if field.cpp_type in INTEGERS:
        return st.integers(0, 1) | INTEGERS[field.cpp_type]
    if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        return st.floats(allow_nan=False) | st.just(math.nan)
    if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT:
        # json_format writes the largest float as 3.4028235e+38, which it then refuses to read.
        finite = st.floats(width=32, allow_nan=False).filter(lambda value: abs(value) != FLOAT_MAX)
        return finite | st.just(math.nan)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    return st.binary(max_size=8) if field.type == FieldDescriptor.TYPE_BYTES else TEXT


def same(one: Message, other: Message) -> bool:
    """Equality that also holds for NaN."""
    return one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)


@given(messages())
@settings(max_examples=100, deadline=None)
def test_a_message_is_written_as_json_format_writes_it(message: Message) -> None:
    expected = json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    assert write(message) == expected
    assert orjson.loads(orjson.dumps(write(message))) == json.loads(json.dumps(expected))


@given(messages())
@settings(max_examples=100, deadline=None)
def test_what_was_written_is_read_as_the_same_message(message: Message) -> None:
    written = write(message)
    assert same(read(written), message)
    assert same(read(written), json_format.ParseDict(written, EveryKind()))
    assert same(read(json_format.MessageToDict(message, preserving_proto_field_name=True)), message)


ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(["RED", "1", "-1", "1.5", "1e3", "NaN", "true", "AAAA", "2026-01-31T12:00:00Z", "3s"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4) | st.sampled_from(["true", "7"]), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = [field.json_name for field in DESCRIPTOR.fields] + [field.name for field in DESCRIPTOR.fields]


@given(st.dictionaries(st.sampled_from(NAMES), ANY_JSON, max_size=4))
@settings(max_examples=400, deadline=None)
def test_what_is_read_at_all_json_format_reads_alike(value: dict[str, Any]) -> None:
    try:
        message = read(value)
    except Unfit:
        return
    assert same(message, json_format.ParseDict(value, EveryKind()))


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("aInt32", "-5", -5),
        ("aInt32", 5.0, 5),
        ("aInt32", 1e3, 1000),
        ("aUint64", "18446744073709551615", 2**64 - 1),
        ("aInt64", -(2**63), -(2**63)),
        ("aDouble", 7, 7.0),
        ("aDouble", "1.5e3", 1500.0),
        ("aDouble", "-Infinity", -math.inf),
        ("aFloat", 1.5, 1.5),
        ("aBytes", "-_8=", b"\xfb\xff"),
        ("aBytes", "+/8", b"\xfb\xff"),
        ("aColor", "GREEN", 2),
        ("aColor", 1, 1),
        ("aString", "läufer 🏃", "läufer 🏃"),
        ("a_string", "by its own name", "by its own name"),
        ("aString", None, ""),
        ("manyString", ["a", ""], ["a", ""]),
        ("byString", {"a": "b"}, {"a": "b"}),
        ("ofBool", {"true": "yes"}, {True: "yes"}),
        ("ofInt32", {"-7": "x"}, {-7: "x"}),
    ],
)
def test_what_proto3_json_allows_is_read(field: str, value: Any, expected: Any) -> None:
    message = read({field: value})
    name = next(each.name for each in DESCRIPTOR.fields if field in {each.name, each.json_name})
    assert getattr(message, name) == expected


@pytest.mark.parametrize(
    ("value", "path", "description"),
    [
        ([], "", "must be an object"),
        ({"aString": 5}, "aString", "must be a string"),
        ({"aString": ["a"]}, "aString", "must be a string"),
        ({"aString": "a\0b"}, "aString", "must not contain the character NUL"),
        ({"aString": "\ud800"}, "aString", "must be valid Unicode, without half a surrogate pair"),
        ({"aInt32": "5x"}, "aInt32", "must be a whole number from -2147483648 to 2147483647"),
        ({"aInt32": "1_000"}, "aInt32", "must be a whole number from -2147483648 to 2147483647"),
        ({"aInt32": "٣"}, "aInt32", "must be a whole number from -2147483648 to 2147483647"),
        ({"aInt32": " 5"}, "aInt32", "must be a whole number from -2147483648 to 2147483647"),
        ({"aInt32": 1.5}, "aInt32", "must be a whole number from -2147483648 to 2147483647"),
        ({"aInt32": True}, "aInt32", "must be a whole number from -2147483648 to 2147483647"),
        ({"aInt32": 2**31}, "aInt32", "must be a whole number from -2147483648 to 2147483647"),
        ({"aUint32": -1}, "aUint32", "must be a whole number from 0 to 4294967295"),
        (
            {"aInt64": 1e300},
            "aInt64",
            "must be a whole number from -9223372036854775808 to 9223372036854775807",
        ),
        ({"aDouble": True}, "aDouble", "must be a number"),
        ({"aDouble": "1,5"}, "aDouble", "must be a number"),
        ({"aDouble": {}}, "aDouble", "must be a number"),
        ({"aDouble": math.inf}, "aDouble", "must be a number"),
        ({"aDouble": 10**400}, "aDouble", "is too large a number"),
        ({"aDouble": "1e999"}, "aDouble", "is too large a number"),
        ({"aFloat": 1e39}, "aFloat", "is too large a number"),
        ({"aBool": "true"}, "aBool", "must be true or false"),
        ({"aBool": 1}, "aBool", "must be true or false"),
        ({"aBytes": "a"}, "aBytes", "must be a base64 string"),
        ({"aBytes": "a b"}, "aBytes", "must be a base64 string"),
        ({"aBytes": 5}, "aBytes", "must be a base64 string"),
        ({"aColor": "BLUE"}, "aColor", "must be one of RED, GREEN"),
        ({"aColor": True}, "aColor", "must be one of RED, GREEN"),
        ({"aColor": 1.5}, "aColor", "must be one of RED, GREEN"),
        ({"aColor": ["RED"]}, "aColor", "must be one of RED, GREEN"),
        (
            {"aTimestamp": "yesterday"},
            "aTimestamp",
            'must be an RFC 3339 time such as "2026-01-31T12:00:00Z"',
        ),
        ({"aTimestamp": 5}, "aTimestamp", 'must be an RFC 3339 time such as "2026-01-31T12:00:00Z"'),
        ({"aDuration": "5"}, "aDuration", 'must be a duration in seconds such as "1.5s"'),
        ({"aStruct": []}, "aStruct", "must be an object"),
        ({"manyString": "a"}, "manyString", "must be an array"),
        ({"manyString": {"0": "a"}}, "manyString", "must be an array"),
        ({"manyString": ["a", None]}, "manyString[1]", "must be a string"),
        ({"byString": []}, "byString", "must be an object"),
        ({"byString": {"k": 1}}, "byString.k", "must be a string"),
        ({"byString": {"k": None}}, "byString.k", "must be a string"),
        ({"ofInt32": {"x": "a"}}, "ofInt32.x", "must be a whole number from -2147483648 to 2147483647"),
        ({"ofBool": {"yes": "a"}}, "ofBool.yes", "must have the key true or false"),
        ({"aSelf": "x"}, "aSelf", "must be an object"),
        (
            {"aSelf": {"manySelf": [{}, {"aInt32": {}}]}},
            "aSelf.manySelf[1].aInt32",
            "must be a whole number ",
        ),
        ({"bySelf": {"k": {"aBool": 1}}}, "bySelf.k.aBool", "must be true or false"),
        ({"unknown": 1}, "unknown", "is not a known field"),
        ({"aSelf": {"Unknown": 1}}, "aSelf.Unknown", "is not a known field"),
        ({"[ext.field]": 1}, "[ext.field]", "is not a known field"),
        ({"aString": "x", "a_string": "y"}, "a_string", "is given twice, in two spellings"),
        ({"chosenString": "x", "chosenInt32": 1}, "chosenInt32", "excludes chosenString"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(value: Any, path: str, description: str) -> None:
    with pytest.raises(Unfit) as refused:
        read(value)
    (fault,) = refused.value.faults
    assert fault.path == path
    assert fault.description.startswith(description)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(Unfit) as refused:
        read(
            {"aString": 1, "manyInt32": [1, "x", "y"], "aSelf": {"aBool": 0, "nope": 1}, "byString": {"k": 2}}
        )
    paths = [fault.path for fault in refused.value.faults]
    assert paths == ["aString", "manyInt32[1]", "manyInt32[2]", "aSelf.aBool", "aSelf.nope", "byString.k"]


def test_every_kind_of_field_was_there() -> None:
    assert len(DESCRIPTOR.fields) > 3 * (len(SCALARS) + len(WELL_KNOWN))


def test_an_empty_session_shows_its_fields_without_presence() -> None:
    written = MessageWriter(SESSION)(sessions_pb2.Session(score=0.0))
    assert written["questions"] == []
    assert written["metadata"] == {}
    assert written["resumed"] is False
    assert written["state"] == "STATE_UNSPECIFIED"
    assert written["score"] == 0.0
    assert not {"deadlineAt", "closeReason", "passed"} & written.keys()


def test_maps_are_written_in_the_order_of_their_keys() -> None:
    """In memory a map's order differs from process to process; a replay must have the same bytes."""
    names = [f"name-{number}" for number in range(40)]
    forwards, backwards = EveryKind(), EveryKind()
    for message, order in ((forwards, names), (backwards, names[::-1])):
        for name in order:
            message.by_string[name] = name
            message.by_self[name].a_string = name
            message.by_timestamp[name].seconds = 1
            message.a_struct.fields[name].string_value = name
        for number in range(-20, 20) if order is names else range(19, -21, -1):
            message.of_int32[number] = str(number)
        message.of_bool[order is names] = "x"
        message.of_bool[order is not names] = "x"
    assert orjson.dumps(write(forwards)) == orjson.dumps(write(backwards))
    assert list(write(forwards)["byString"]) == sorted(names)
    assert list(write(forwards)["ofInt32"]) == [str(number) for number in range(-20, 20)]


def test_the_deepest_struct_that_can_be_read_can_be_sent_on() -> None:
    value: Any = "inside"
    for _ in range(31):
        value = {"a": value}
    message = read({"aStruct": value})
    assert EveryKind.FromString(message.SerializeToString()) == message
    assert write(message)["aStruct"] == value
