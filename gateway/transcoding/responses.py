"""Makes an HTTP status and a JSON body from a response message."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import orjson
from google.protobuf.descriptor import FieldDescriptor

from chassis.rpc.methods import Method
from gateway.contract import ContractError
from gateway.transcoding.message_to_json import writer_of

OK = 200
CREATED = 201


class ResponseWriter:
    """Writes the responses of one route.

    Args:
        method: the RPC; its policy says when success is 201.
        response_body: the field of the response that is the body; "" for the whole response.

    Raises:
        ContractError: the route or the policy names a field that does not exist, or of the wrong type.
    """

    def __init__(self, *, method: Method, response_body: str) -> None:
        response = method.descriptor.output_type
        body_type = response
        self.response_body = response_body
        self._body_of = None
        if response_body:
            field = response.fields_by_name.get(response_body)
            if field is None or field.message_type is None or field.is_repeated:
                raise ContractError(
                    f"{response.full_name} has no single message {response_body} for the body"
                )
            body_type = field.message_type
            self._body_of = attrgetter(response_body)
        self._write = writer_of(body_type)
        self._resumed_of = None
        if method.created_unless:
            flag = body_type.fields_by_name.get(method.created_unless)
            if flag is None or flag.type != FieldDescriptor.TYPE_BOOL or flag.is_repeated:
                raise ContractError(
                    f"{method.path}: created_unless must name a bool of {body_type.full_name}"
                )
            self._resumed_of = attrgetter(method.created_unless)

        self._version_of = None
        if method.etag:
            field = body_type.fields_by_name.get(method.etag)
            if field is None or field.type != FieldDescriptor.TYPE_INT32 or field.is_repeated:
                raise ContractError(f"{method.path}: etag must name an int32 of {body_type.full_name}")
            path = f"{response_body}.{method.etag}" if response_body else method.etag
            self._version_of = attrgetter(path)

    def etag(self, message: Any) -> str:
        """The `ETag` of a success; empty when the document has no version."""
        return "" if self._version_of is None else f'"{self._version_of(message)}"'

    def write(self, message: Any) -> tuple[int, bytes]:
        """The status and the body of a success."""
        if self._body_of is not None:
            message = self._body_of(message)
        status = OK if self._resumed_of is None or self._resumed_of(message) else CREATED
        return status, orjson.dumps(self._write(message))
