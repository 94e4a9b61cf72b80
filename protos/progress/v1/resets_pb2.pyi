import datetime

from protos.buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from protos.chassis.v1 import options_pb2 as _options_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ResetScope(_message.Message):
    __slots__ = ("specialization", "course_id", "all")
    SPECIALIZATION_FIELD_NUMBER: _ClassVar[int]
    COURSE_ID_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    specialization: str
    course_id: str
    all: bool
    def __init__(self, specialization: _Optional[str] = ..., course_id: _Optional[str] = ..., all: _Optional[bool] = ...) -> None: ...

class ResetProgressRequest(_message.Message):
    __slots__ = ("user_id", "scope", "reason")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    scope: ResetScope
    reason: str
    def __init__(self, user_id: _Optional[str] = ..., scope: _Optional[_Union[ResetScope, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class ResetProgressResponse(_message.Message):
    __slots__ = ("epoch", "reset_at", "version")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    RESET_AT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    reset_at: _timestamp_pb2.Timestamp
    version: int
    def __init__(self, epoch: _Optional[int] = ..., reset_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., version: _Optional[int] = ...) -> None: ...
