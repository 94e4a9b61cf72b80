"""Contracts that no .proto file has, for what the gateway must refuse at start-up or transcode in general."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from google.api import annotations_pb2
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from chassis.rpc.methods import Method, methods_of
from protos.chassis.v1 import options_pb2

_numbers = itertools.count(1)
_Kind = descriptor_pb2.FieldDescriptorProto

SCALARS = (
    *("double", "float", "int32", "int64", "uint32", "uint64", "sint32", "sint64"),
    *("fixed32", "fixed64", "sfixed32", "sfixed64", "bool", "string", "bytes"),
)
WELL_KNOWN: dict[str, type[Message]] = {
    "timestamp": timestamp_pb2.Timestamp,
    "duration": duration_pb2.Duration,
    "field_mask": field_mask_pb2.FieldMask,
    "struct": struct_pb2.Struct,
    "string_value": wrappers_pb2.StringValue,
    "bool_value": wrappers_pb2.BoolValue,
    "int64_value": wrappers_pb2.Int64Value,
}


@dataclass(frozen=True)
class Rpc:
    """A method to make; `http` are rules as {"post": "/v1/things", "body": "*"}, the main one first."""

    name: str
    http: Sequence[dict[str, str]] = ()
    roles: Sequence[int] = (options_pb2.ROLE_LEARNER,)
    safe: bool = False
    created_unless: str = ""
    csv_of: str = ""
    token_in_body: str = ""
    refusals: Sequence[str] = ()
    etag: str = ""
    if_match: str = ""
    server_streaming: bool = False
    event_id: str = ""
    resumes_from: str = ""
    event_of: str = ""
    key_required: bool = False
    options: dict[str, Any] = field(default_factory=dict)


def methods(*rpcs: Rpc, owner: str = "session") -> list[Method]:
    """Methods of a made-up service of that owner; requests and responses are `every_kind()`-like messages.

    A method that streams answers with messages of the type Told: `at`, `number`, and `note` or `other`.
    """
    file = _file(owner)
    service = file.service.add(name="MadeService")
    for rpc in rpcs:
        method = service.method.add(
            name=rpc.name,
            input_type=f".{file.package}.EveryKind",
            output_type=f".{file.package}.{'Told' if rpc.server_streaming else 'Holder'}",
            server_streaming=rpc.server_streaming,
        )
        policy: Any = method.options.Extensions[cast("Any", options_pb2.policy)]
        policy.roles.extend(rpc.roles)
        policy.created_unless = rpc.created_unless
        policy.csv_of = rpc.csv_of
        policy.token_in_body = rpc.token_in_body
        policy.refusals.extend(rpc.refusals)
        policy.etag = rpc.etag
        policy.if_match = rpc.if_match
        policy.event_id = rpc.event_id
        policy.resumes_from = rpc.resumes_from
        policy.event_of = rpc.event_of
        policy.key_required = rpc.key_required
        if rpc.safe:
            method.options.idempotency_level = descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS
        for number, rule in enumerate(rpc.http):
            main: Any = method.options.Extensions[cast("Any", annotations_pb2).http]
            made = main if number == 0 else main.additional_bindings.add()
            for name, value in rule.items():
                setattr(made, name, value)
    descriptor_pool.Default().Add(file)
    return methods_of(f"{file.package}.MadeService")


def every_kind() -> Descriptor:
    """A message with fields of every kind: single, optional, repeated, in maps, in a oneof, of itself."""
    file = _file("session")
    descriptor_pool.Default().Add(file)
    return descriptor_pool.Default().FindMessageTypeByName(f"{file.package}.EveryKind")


def _file(owner: str) -> descriptor_pb2.FileDescriptorProto:
    package = f"made_{next(_numbers)}.{owner}.v1"
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}.proto",
        package=package,
        syntax="proto3",
        dependency=sorted({kind.DESCRIPTOR.file.name for kind in WELL_KNOWN.values()}),
    )
    color = file.enum_type.add(name="Color")
    for number, name in enumerate(("COLOR_UNSPECIFIED", "RED", "GREEN")):
        color.value.add(name=name, number=number)
    message = file.message_type.add(name="EveryKind")
    kinds: list[tuple[str, int, str]] = [
        *((name, getattr(_Kind, f"TYPE_{name.upper()}"), "") for name in SCALARS),
        *((name, _Kind.TYPE_MESSAGE, f".{kind.DESCRIPTOR.full_name}") for name, kind in WELL_KNOWN.items()),
        ("color", _Kind.TYPE_ENUM, f".{package}.Color"),
        ("self", _Kind.TYPE_MESSAGE, f".{package}.EveryKind"),
    ]
    for name, kind, type_name in kinds:
        _add(message, f"a_{name}", kind, type_name)
        _add(message, f"many_{name}", kind, type_name, label=_Kind.LABEL_REPEATED)
        entry = message.nested_type.add(name=f"By{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add(entry, "key", _Kind.TYPE_STRING, "")
        _add(entry, "value", kind, type_name)
        _add(
            message,
            f"by_{name}",
            _Kind.TYPE_MESSAGE,
            f".{package}.EveryKind.{entry.name}",
            label=_Kind.LABEL_REPEATED,
        )
    for name in ("bool", "int32", "uint64"):
        entry = message.nested_type.add(name=f"Of{name.title()}Entry")
        entry.options.map_entry = True
        _add(entry, "key", getattr(_Kind, f"TYPE_{name.upper()}"), "")
        _add(entry, "value", _Kind.TYPE_STRING, "")
        type_name = f".{package}.EveryKind.{entry.name}"
        _add(message, f"of_{name}", _Kind.TYPE_MESSAGE, type_name, label=_Kind.LABEL_REPEATED)
    message.oneof_decl.add(name="choice")
    for name in ("string", "int32"):
        _add(message, f"chosen_{name}", getattr(_Kind, f"TYPE_{name.upper()}"), "").oneof_index = 0
    for name, kind, type_name in kinds:
        if kind != _Kind.TYPE_MESSAGE:
            optional = _add(message, f"maybe_{name}", kind, type_name)
            optional.proto3_optional = True
            optional.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_maybe_{name}")
    holder = file.message_type.add(name="Holder")
    _add(holder, "held", _Kind.TYPE_MESSAGE, f".{package}.EveryKind")
    _add(holder, "many", _Kind.TYPE_MESSAGE, f".{package}.EveryKind", label=_Kind.LABEL_REPEATED)
    _add(holder, "resumed", _Kind.TYPE_BOOL, "")
    note = file.message_type.add(name="Note")
    _add(note, "text", _Kind.TYPE_STRING, "")
    told = file.message_type.add(name="Told")
    _add(told, "at", _Kind.TYPE_STRING, "")
    _add(told, "number", _Kind.TYPE_INT32, "")
    told.oneof_decl.add(name="told")
    for name in ("note", "other"):
        _add(told, name, _Kind.TYPE_MESSAGE, f".{package}.Note").oneof_index = 0
    return file


def _add(
    message: Any, name: str, kind: int, type_name: str, *, label: int = _Kind.LABEL_OPTIONAL
) -> descriptor_pb2.FieldDescriptorProto:
    added: descriptor_pb2.FieldDescriptorProto = message.field.add(
        name=name, number=len(message.field) + 1, type=kind, type_name=type_name or None, label=label
    )
    return added
