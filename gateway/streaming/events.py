"""Makes events from the messages of a server-streaming method."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import orjson
from google.protobuf.descriptor import Descriptor

from chassis.rpc.methods import Method
from chassis.telemetry.logs import get_logger
from gateway.contract import ContractError, is_single_string
from gateway.transcoding.message_to_json import writer_of

CONTENT_TYPE = "text/event-stream"
# What the gateway itself says in a stream; no method may name its own events so.
PROBLEM, CLOSING, END = "problem", "closing", "end"
COMMENT = b":\n\n"

# They would end the line of an id, or make browsers ignore it.
_ID_BREAKERS = frozenset("\r\n\0")

log = get_logger(__name__)


def event(*, data: bytes = b"", event_id: str = "", name: str = "", retry_ms: int = 0) -> bytes:
    """One event. `data` is one line. An event without data only tells its id: browsers keep it for later."""
    return b"".join(
        (
            f"id: {event_id}\n".encode() if event_id else b"",
            f"retry: {retry_ms}\n".encode() if retry_ms else b"",
            f"event: {name}\n".encode() if name else b"",
            b"data: " + data + b"\n" if data else b"",
            b"\n",
        )
    )


class EventWriter:
    """Writes the streamed messages of one route as events.

    Args:
        method: the RPC; its policy says which field is the id, and which oneof names the event.
        response_body: the field of the message that is the data; "" for the whole message.

    Raises:
        ContractError: the policy or the route names a field that does not exist, or what streams cannot do.
    """

    def __init__(self, *, method: Method, response_body: str) -> None:
        message = method.descriptor.output_type
        for name in ("key_required", "created_unless", "csv_of", "etag", "if_match", "token_in_body"):
            if getattr(method, name):
                raise ContractError(f"{method.path} streams, so it cannot have {name}")
        self._path = method.path
        self._id_of = None
        if method.event_id:
            if not is_single_string(message, method.event_id):
                raise ContractError(f"{method.path}: event_id must name a string of {message.full_name}")
            self._id_of = attrgetter(method.event_id)
        self._oneof = method.event_of
        self._body_of = attrgetter(response_body) if response_body else None
        self._write: Any = None
        self._writers: dict[str, tuple[str, Any]] = {}
        if self._oneof:
            self._writers = {
                name: (json_name, writer_of(kind)) for name, (json_name, kind) in data_types(method).items()
            }
            if response_body:
                raise ContractError(f"{method.path} has event_of, so it cannot have a response_body")
        else:
            inner = message.fields_by_name[response_body].message_type if response_body else None
            self._write = writer_of(inner or message)

    def write(self, message: Any) -> bytes:
        """The event of a message."""
        event_id = "" if self._id_of is None else self._id_of(message)
        if not _ID_BREAKERS.isdisjoint(event_id):
            log.error("event_id_unfit", method=self._path)
            event_id = ""
        if not self._oneof:
            body = message if self._body_of is None else self._body_of(message)
            return event(data=orjson.dumps(self._write(body)), event_id=event_id)
        field = message.WhichOneof(self._oneof)
        if field is None:
            return event(event_id=event_id) if event_id else COMMENT
        name, write = self._writers[field]
        return event(data=orjson.dumps(write(getattr(message, field))), event_id=event_id, name=name)


def data_types(method: Method) -> dict[str, tuple[str, Descriptor]]:
    """The event's name and the message that is its data, for each field of the oneof that names the events.

    Raises:
        ContractError: there is no such oneof, or one of its fields cannot be an event.
    """
    message = method.descriptor.output_type
    oneof = message.oneofs_by_name.get(method.event_of)
    if oneof is None:
        raise ContractError(f"{method.path}: event_of must name a oneof of {message.full_name}")
    found: dict[str, tuple[str, Descriptor]] = {}
    for field in oneof.fields:
        if field.message_type is None or field.json_name in {PROBLEM, CLOSING, END}:
            raise ContractError(f"{method.path}: {field.name} cannot be an event")
        found[field.name] = (field.json_name, field.message_type)
    return found
