"""Tokens in the bodies of requests, for what a page sends while it is being closed.

`navigator.sendBeacon` sends no headers of the page's own, and to another origin no body of type
application/json without asking first (CORS). So these methods name a field of their request that may hold the
token.
"""

from __future__ import annotations

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from chassis.rpc.methods import Method
from gateway.contract import ContractError
from gateway.transcoding.requests import WHOLE_BODY


class BodyToken:
    """The field of a method's request that may hold the caller's token.

    Raises:
        ContractError: the policy names no string of the request, or the body is not the whole request.
    """

    def __init__(self, *, method: Method, body: str) -> None:
        request = method.descriptor.input_type
        field = request.fields_by_name.get(method.token_in_body)
        if field is None or field.type != FieldDescriptor.TYPE_STRING or field.is_repeated:
            raise ContractError(f"{method.path}: token_in_body must name a string of {request.full_name}")
        if body != WHOLE_BODY:
            raise ContractError(f"{method.path}: token_in_body needs the body {WHOLE_BODY!r}")
        self._name = field.name

    def take(self, message: Message) -> list[str]:
        """Takes the token out of a request. Returns it as an Authorization header; empty if there is none."""
        token: str = getattr(message, self._name)
        message.ClearField(self._name)
        return [f"Bearer {token}"] if token else []
