"""Makes a request message from an HTTP request: path variables, query parameters and body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self
from urllib.parse import parse_qsl

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from chassis.rpc.payloads import serialized
from chassis.rpc.validation import validate
from gateway.contract import ContractError, is_single_string
from gateway.transcoding.faults import VIOLATIONS_MAX, Fault, Unfit, refuse, refuse_all
from gateway.transcoding.json_text import DEPTH_MAX, load
from gateway.transcoding.json_to_message import MessageReader

WHOLE_BODY = "*"
PARAMETERS_MAX = 200
# The requests whose messages are remembered, of all routes, and the length of each: 10 MB at most.
REMEMBERED_MAX = 4096
REMEMBERED_LENGTH_MAX = 256

_TEXT_MESSAGES = frozenset(
    f"google.protobuf.{name}"
    for name in (
        *("Timestamp", "Duration", "FieldMask", "BoolValue", "StringValue", "BytesValue"),
        *("Int32Value", "Int64Value", "UInt32Value", "UInt64Value", "FloatValue", "DoubleValue"),
    )
)
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class _TextField:
    """A field that a text can fill: a scalar, or a well-known type that is a string in JSON."""

    path: tuple[str, ...]  # from the request message down, in lowerCamelCase
    proto_name: str
    repeated: bool
    boolean: bool

    @classmethod
    def at(cls, descriptor: Descriptor, dotted: str) -> Self:
        """Finds a field by its dotted path; raises ContractError when text cannot fill it."""
        path: list[str] = []
        field: FieldDescriptor | None = None
        scope: Descriptor | None = descriptor
        for name in dotted.split("."):
            field = _field_of(scope, name)
            if field is None:
                raise ContractError(f"{descriptor.full_name} has no field {dotted}")
            path.append(field.json_name)
            scope = None if field.is_repeated else field.message_type
        assert field is not None  # noqa: S101 — split() gives at least one name
        message_type = field.message_type
        if message_type is not None and message_type.full_name not in _TEXT_MESSAGES:
            raise ContractError(f"{descriptor.full_name}.{dotted} cannot be given as text")
        return cls(
            path=tuple(path),
            proto_name=field.name,
            repeated=field.is_repeated,
            boolean=field.type == FieldDescriptor.TYPE_BOOL
            or (message_type is not None and message_type.name == "BoolValue"),
        )

    def put(self, fields: dict[str, Any], text: str) -> bool:
        """Adds the text as a JSON value; False when the field was given before."""
        inside = fields
        *outer, name = self.path
        for each in outer:
            inside = inside.setdefault(each, {})
            if not isinstance(inside, dict):
                return True  # the body has a wrong value there, and is refused later
        # proto3 JSON takes strings for numbers and enums, but not for booleans.
        value: Any = _BOOLEANS.get(text, text) if self.boolean else text
        if self.repeated:
            inside.setdefault(name, []).append(value)
            return True
        if name in inside or self.proto_name in inside:
            return False
        inside[name] = value
        return True


class RequestReader:
    """Reads the requests of one route.

    Args:
        descriptor: the type of the request message.
        variables: the fields that the path gives, as dotted paths, in the path's order.
        body: the `body` of `google.api.http`: "*", the name of one field, or "" for none.
        if_match: the optional int32 field that `If-Match` fills; "" for none.
        resumes_from: the string field that `Last-Event-ID` fills; "" for none.

    Raises:
        ContractError: the route names a field that does not exist, or that a text cannot fill.
    """

    def __init__(
        self,
        *,
        descriptor: Descriptor,
        variables: Sequence[str],
        body: str,
        if_match: str = "",
        resumes_from: str = "",
    ) -> None:
        self._descriptor = descriptor
        self._read = MessageReader(descriptor)
        self._variables = [_TextField.at(descriptor, variable) for variable in variables]
        if any(variable.repeated for variable in self._variables):
            raise ContractError(f"{descriptor.full_name}: a path variable cannot be a repeated field")
        self._version = None
        if if_match:
            version = descriptor.fields_by_name.get(if_match)
            if version is None or version.type != FieldDescriptor.TYPE_INT32 or not version.has_presence:
                raise ContractError(f"{descriptor.full_name}: if_match must name an optional int32")
            self._version = _TextField.at(descriptor, if_match)
        self._resumed: FieldDescriptor | None = None
        if resumes_from:
            if not is_single_string(descriptor, resumes_from):
                raise ContractError(f"{descriptor.full_name}: resumes_from must name a string")
            self._resumed = descriptor.fields_by_name[resumes_from]
        self.body = body
        self._whole_body = body == WHOLE_BODY
        self._body_field = ""
        if body and not self._whole_body:
            field = _field_of(descriptor, body)
            if field is None:
                raise ContractError(f"{descriptor.full_name} has no field {body} for the body")
            self._body_field = field.json_name

    @property
    def takes_body(self) -> bool:
        return self.body != ""

    @property
    def takes_version(self) -> bool:
        return self._version is not None

    @property
    def takes_last_event_id(self) -> bool:
        return self._resumed is not None

    def read(
        self,
        *,
        body: bytes,
        values: Sequence[str],
        query: str,
        version: int | None = None,
        last_event_id: str = "",
    ) -> Message:
        """Makes the message and validates it; an empty body is the same as `{}`.

        `version` is the one that `If-Match` names. `last_event_id` replaces what the query has in its field,
        because a browser that comes back repeats its first query.

        Raises:
            ServiceError: INVALID_ARGUMENT, with the fields that are wrong.
        """
        fields = self._body_fields(body)
        faults: list[Fault] = []
        for variable, text in zip(self._variables, values):  # noqa: B905 - as long by the template
            if not variable.put(fields, text):
                faults.append(Fault("is given by the path", *reversed(variable.path)))
        if version is not None and self._version is not None and not self._version.put(fields, str(version)):
            faults.append(Fault("is given by If-Match", *reversed(self._version.path)))
        if query:
            self._add_query(fields, query, faults)
        if last_event_id and self._resumed is not None:
            fields.pop(self._resumed.name, None)
            fields[self._resumed.json_name] = last_event_id
        try:
            message: Message = self._read(fields)
        except Unfit as unfit:
            refuse_all([*faults, *unfit.faults])
        if faults:
            refuse_all(faults)
        invalid = validate(message)
        if invalid is not None:
            raise invalid
        return message

    def payload(self, *, body: bytes, values: tuple[str, ...], query: str, version: int | None) -> bytes:
        """The serialized message of such a request: `read`, for when it is only passed on.

        Many learners send the same, such as the start of one test. The message depends on nothing else, not
        even on the time, so the last small ones are remembered. A start then takes 15 µs less.

        Raises:
            ServiceError: as `read`; a refusal is not remembered.
        """
        if len(body) + len(query) + sum(map(len, values)) > REMEMBERED_LENGTH_MAX:
            return self._serialized(body, values, query, version)
        return _remembered(self, body, values, query, version)

    def _serialized(self, body: bytes, values: tuple[str, ...], query: str, version: int | None) -> bytes:
        return serialized(self.read(body=body, values=values, query=query, version=version))

    def _body_fields(self, body: bytes) -> dict[str, Any]:
        if not body:
            return {}
        if self._whole_body:
            fields = load(body)
            if not isinstance(fields, dict):
                refuse("The body must be a JSON object")
            return fields
        if not self._body_field:
            refuse("This request takes no body")
        return {self._body_field: load(body)}

    def _add_query(self, fields: dict[str, Any], query: str, faults: list[Fault]) -> None:
        try:
            parameters = parse_qsl(
                query, keep_blank_values=True, errors="strict", max_num_fields=PARAMETERS_MAX
            )
        except ValueError:
            refuse(f"The query must be UTF-8, with at most {PARAMETERS_MAX} parameters")
        for name, text in parameters:
            parameter = self._parameter(name)
            if parameter is None:
                faults.append(Fault("is not a query parameter of this request", name))
            elif not parameter.put(fields, text):
                faults.append(Fault("is given more than once", name))
            if len(faults) >= VIOLATIONS_MAX:
                return

    def _parameter(self, name: str) -> _TextField | None:
        """The field of a query parameter; None when it does not exist, or when the path or body has it."""
        if self._whole_body or name.count(".") >= DEPTH_MAX:
            return None
        try:
            parameter = _TextField.at(self._descriptor, name)
        except ContractError:
            return None
        bound = parameter.path[0] == self._body_field or any(
            parameter.path == variable.path for variable in self._variables
        )
        return None if bound else parameter


@lru_cache(maxsize=REMEMBERED_MAX)
def _remembered(
    reader: RequestReader, body: bytes, values: tuple[str, ...], query: str, version: int | None
) -> bytes:
    return reader._serialized(body, values, query, version)  # noqa: SLF001 - it belongs to the class


def _field_of(descriptor: Descriptor | None, name: str) -> FieldDescriptor | None:
    """Finds a field by its name in the .proto file or in JSON."""
    if descriptor is None:
        return None
    field: FieldDescriptor | None = descriptor.fields_by_name.get(name)
    if field is None:
        field = next((each for each in descriptor.fields if each.json_name == name), None)
    return field
