import datetime

from protos.buf.validate import validate_pb2 as _validate_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from protos.chassis.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Hold(_message.Message):
    __slots__ = ("user_id", "hold_id", "state", "tests", "credits", "subject", "method", "idempotency_key", "day", "placed_at")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Hold.State]
        OPEN: _ClassVar[Hold.State]
        COMMITTED: _ClassVar[Hold.State]
        RELEASED: _ClassVar[Hold.State]
    STATE_UNSPECIFIED: Hold.State
    OPEN: Hold.State
    COMMITTED: Hold.State
    RELEASED: Hold.State
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    HOLD_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TESTS_FIELD_NUMBER: _ClassVar[int]
    CREDITS_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    DAY_FIELD_NUMBER: _ClassVar[int]
    PLACED_AT_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    hold_id: str
    state: Hold.State
    tests: int
    credits: int
    subject: str
    method: str
    idempotency_key: str
    day: str
    placed_at: _timestamp_pb2.Timestamp
    def __init__(self, user_id: _Optional[str] = ..., hold_id: _Optional[str] = ..., state: _Optional[_Union[Hold.State, str]] = ..., tests: _Optional[int] = ..., credits: _Optional[int] = ..., subject: _Optional[str] = ..., method: _Optional[str] = ..., idempotency_key: _Optional[str] = ..., day: _Optional[str] = ..., placed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class PlaceHoldRequest(_message.Message):
    __slots__ = ("user_id", "hold_id", "tests", "credits", "subject", "method", "idempotency_key")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    HOLD_ID_FIELD_NUMBER: _ClassVar[int]
    TESTS_FIELD_NUMBER: _ClassVar[int]
    CREDITS_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    hold_id: str
    tests: int
    credits: int
    subject: str
    method: str
    idempotency_key: str
    def __init__(self, user_id: _Optional[str] = ..., hold_id: _Optional[str] = ..., tests: _Optional[int] = ..., credits: _Optional[int] = ..., subject: _Optional[str] = ..., method: _Optional[str] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class PlaceHoldResponse(_message.Message):
    __slots__ = ("hold", "rival")
    HOLD_FIELD_NUMBER: _ClassVar[int]
    RIVAL_FIELD_NUMBER: _ClassVar[int]
    hold: Hold
    rival: Hold
    def __init__(self, hold: _Optional[_Union[Hold, _Mapping]] = ..., rival: _Optional[_Union[Hold, _Mapping]] = ...) -> None: ...

class CommitHoldRequest(_message.Message):
    __slots__ = ("user_id", "hold_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    HOLD_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    hold_id: str
    def __init__(self, user_id: _Optional[str] = ..., hold_id: _Optional[str] = ...) -> None: ...

class CommitHoldResponse(_message.Message):
    __slots__ = ("hold",)
    HOLD_FIELD_NUMBER: _ClassVar[int]
    hold: Hold
    def __init__(self, hold: _Optional[_Union[Hold, _Mapping]] = ...) -> None: ...

class ReleaseHoldRequest(_message.Message):
    __slots__ = ("user_id", "hold_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    HOLD_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    hold_id: str
    def __init__(self, user_id: _Optional[str] = ..., hold_id: _Optional[str] = ...) -> None: ...

class ReleaseHoldResponse(_message.Message):
    __slots__ = ("hold",)
    HOLD_FIELD_NUMBER: _ClassVar[int]
    hold: Hold
    def __init__(self, hold: _Optional[_Union[Hold, _Mapping]] = ...) -> None: ...

class OpenHoldPosition(_message.Message):
    __slots__ = ("placed_at", "user_id", "hold_id")
    PLACED_AT_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    HOLD_ID_FIELD_NUMBER: _ClassVar[int]
    placed_at: _timestamp_pb2.Timestamp
    user_id: str
    hold_id: str
    def __init__(self, placed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., user_id: _Optional[str] = ..., hold_id: _Optional[str] = ...) -> None: ...

class ListOpenHoldsRequest(_message.Message):
    __slots__ = ("method", "older_than_seconds", "page_size", "page_token", "placed_after")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    OLDER_THAN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    PLACED_AFTER_FIELD_NUMBER: _ClassVar[int]
    method: str
    older_than_seconds: float
    page_size: int
    page_token: str
    placed_after: OpenHoldPosition
    def __init__(self, method: _Optional[str] = ..., older_than_seconds: _Optional[float] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., placed_after: _Optional[_Union[OpenHoldPosition, _Mapping]] = ...) -> None: ...

class ListOpenHoldsResponse(_message.Message):
    __slots__ = ("holds", "next_page_token")
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    holds: _containers.RepeatedCompositeFieldContainer[Hold]
    next_page_token: str
    def __init__(self, holds: _Optional[_Iterable[_Union[Hold, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
