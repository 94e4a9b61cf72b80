from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CarryRequest(_message.Message):
    __slots__ = ("method", "calls", "sent_at", "clock")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    method: str
    calls: _containers.RepeatedCompositeFieldContainer[CarriedCall]
    sent_at: float
    clock: int
    def __init__(self, method: _Optional[str] = ..., calls: _Optional[_Iterable[_Union[CarriedCall, _Mapping]]] = ..., sent_at: _Optional[float] = ..., clock: _Optional[int] = ...) -> None: ...

class CarriedCall(_message.Message):
    __slots__ = ("request", "timeout_ms", "user_id", "roles", "idempotency_key", "request_id", "traceparent")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    request: bytes
    timeout_ms: int
    user_id: str
    roles: _containers.RepeatedScalarFieldContainer[str]
    idempotency_key: str
    request_id: str
    traceparent: str
    def __init__(self, request: _Optional[bytes] = ..., timeout_ms: _Optional[int] = ..., user_id: _Optional[str] = ..., roles: _Optional[_Iterable[str]] = ..., idempotency_key: _Optional[str] = ..., request_id: _Optional[str] = ..., traceparent: _Optional[str] = ...) -> None: ...

class CarryResponse(_message.Message):
    __slots__ = ("outcomes", "clock", "received_at", "answered_at")
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_AT_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[CarriedOutcome]
    clock: int
    received_at: float
    answered_at: float
    def __init__(self, outcomes: _Optional[_Iterable[_Union[CarriedOutcome, _Mapping]]] = ..., clock: _Optional[int] = ..., received_at: _Optional[float] = ..., answered_at: _Optional[float] = ...) -> None: ...

class CarriedOutcome(_message.Message):
    __slots__ = ("response", "error", "replayed")
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    response: bytes
    error: _status_pb2.Status
    replayed: bool
    def __init__(self, response: _Optional[bytes] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., replayed: _Optional[bool] = ...) -> None: ...
