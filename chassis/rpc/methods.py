"""The methods of the contract and their policies: roles, safety, keys, priority, and when to retry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, cast

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message

from chassis.errors import Reason
from chassis.rpc.retries import ATTEMPTS_MAX, BACKOFF_SECONDS, RETRIED, RetryPolicy
from protos.chassis.v1 import options_pb2

# The largest body of an HTTP request, unless the method's policy has another limit.
BODY_BYTES_MAX_DEFAULT = 64 * 1024
# A list has this field in its request.
PAGE_TOKEN = "page_token"  # noqa: S105 - the name of a field, not a secret


class Priority(IntEnum):
    """What is served first under overload, and refused last."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


# How much of the room each priority may use. Calls of a lower priority leave the rest to the higher ones.
ROOM: Mapping[Priority, float] = {Priority.HIGH: 1.25, Priority.NORMAL: 1.0, Priority.LOW: 0.75}

_PRIORITIES = {
    options_pb2.PRIORITY_HIGH: Priority.HIGH,
    options_pb2.PRIORITY_NORMAL: Priority.NORMAL,
    options_pb2.PRIORITY_LOW: Priority.LOW,
}
_REFUSALS = {
    options_pb2.RETRIED_REFUSAL_UNAVAILABLE: Reason.UNAVAILABLE,
    options_pb2.RETRIED_REFUSAL_OVERLOADED: Reason.OVERLOADED,
}


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC and its policy. `path` is its gRPC path, `roles` are lower-case: "learner", "service" …"""

    path: str
    name: str
    service: str
    descriptor: MethodDescriptor
    request_type: type[Message]
    response_type: type[Message]
    server_streaming: bool
    roles: frozenset[str]
    key_required: bool
    safe: bool
    idempotent: bool
    created_unless: str
    priority: Priority
    retry: RetryPolicy
    body_bytes_max: int
    csv_of: str
    refusals: tuple[str, ...]
    etag: str
    if_match: str
    token_in_body: str
    owner_in_path: str = ""
    event_id: str = ""
    resumes_from: str = ""
    event_of: str = ""

    @property
    def internal(self) -> bool:
        """Whether only other Homeroom processes may call it."""
        return self.roles == frozenset({"service"})

    def in_flight_limit(self, in_flight_max: int) -> float:
        """How many requests may be in flight before a call of this method is refused."""
        return in_flight_max * ROOM[self.priority]

    @property
    def retryable(self) -> bool:
        """Whether it may be sent again: it is safe, naturally idempotent, or has a key, so it counts once."""
        return self.safe or self.idempotent or self.key_required


def methods_of(service: str) -> list[Method]:
    """The methods of a service with this full name. Its generated module must have been imported.

    Raises:
        ValueError: a method has no policy, so it is not known who may call it.
    """
    descriptor = descriptor_pool.Default().FindServiceByName(service)
    return [_method(method) for method in descriptor.methods]


def find_method(path: str) -> Method:
    """The method with a gRPC path such as "/homeroom.session.v1.SessionService/CreateSession".

    Raises:
        LookupError: there is no such method.
    """
    service, _, name = path.removeprefix("/").rpartition("/")
    for method in methods_of(service):
        if method.name == name:
            return method
    raise LookupError(path)


def _method(descriptor: MethodDescriptor) -> Method:
    options = descriptor.GetOptions()
    policy = cast("options_pb2.MethodPolicy", options.Extensions[cast("Any", options_pb2.policy)])
    if not policy.roles:
        raise ValueError(f"{descriptor.full_name} has no (homeroom.chassis.v1.policy) with roles")
    service = descriptor.containing_service.full_name
    return Method(
        path=f"/{service}/{descriptor.name}",
        name=descriptor.name,
        service=service,
        descriptor=descriptor,
        request_type=message_factory.GetMessageClass(descriptor.input_type),
        response_type=message_factory.GetMessageClass(descriptor.output_type),
        server_streaming=descriptor.server_streaming,
        roles=frozenset(options_pb2.Role.Name(role).removeprefix("ROLE_").lower() for role in policy.roles),
        key_required=policy.key_required,
        safe=options.idempotency_level == MethodOptions.NO_SIDE_EFFECTS,
        idempotent=options.idempotency_level == MethodOptions.IDEMPOTENT,
        created_unless=policy.created_unless,
        priority=_priority(policy, descriptor),
        retry=_retry_policy(policy.retry),
        body_bytes_max=policy.body_bytes_max or BODY_BYTES_MAX_DEFAULT,
        csv_of=policy.csv_of,
        refusals=tuple(policy.refusals),
        etag=policy.etag,
        if_match=policy.if_match,
        token_in_body=policy.token_in_body,
        owner_in_path=policy.owner_in_path,
        event_id=policy.event_id,
        resumes_from=policy.resumes_from,
        event_of=policy.event_of,
    )


def _priority(policy: options_pb2.MethodPolicy, descriptor: MethodDescriptor) -> Priority:
    if policy.priority:
        return _PRIORITIES[policy.priority]
    if policy.shed_last:
        return Priority.HIGH
    public_stream = descriptor.server_streaming and list(policy.roles) != [options_pb2.ROLE_SERVICE]
    is_list = PAGE_TOKEN in descriptor.input_type.fields_by_name
    return Priority.LOW if is_list or public_stream else Priority.NORMAL


def _retry_policy(policy: options_pb2.RetryPolicy) -> RetryPolicy:
    """The policy of the contract; what it does not say is as usual."""
    return RetryPolicy(
        attempts_max=policy.attempts_max or ATTEMPTS_MAX,
        # `full_jitter` doubles the base once before the second attempt.
        backoff_seconds=policy.backoff_ms_max / 2000 or BACKOFF_SECONDS,
        after=frozenset(_REFUSALS[refusal] for refusal in policy.after) or RETRIED,
    )
