import datetime

from protos.buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from protos.chassis.v1 import options_pb2 as _options_pb2
from protos.session.v1 import sessions_pb2 as _sessions_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RecordHeartbeatRequest(_message.Message):
    __slots__ = ("session_id", "seq", "visible", "occurred_at")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    VISIBLE_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_AT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    seq: int
    visible: bool
    occurred_at: _timestamp_pb2.Timestamp
    def __init__(self, session_id: _Optional[str] = ..., seq: _Optional[int] = ..., visible: _Optional[bool] = ..., occurred_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RecordHeartbeatResponse(_message.Message):
    __slots__ = ("engaged_seconds", "state", "deadline_at", "seq")
    ENGAGED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_AT_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    engaged_seconds: float
    state: _sessions_pb2.Session.State
    deadline_at: _timestamp_pb2.Timestamp
    seq: int
    def __init__(self, engaged_seconds: _Optional[float] = ..., state: _Optional[_Union[_sessions_pb2.Session.State, str]] = ..., deadline_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., seq: _Optional[int] = ...) -> None: ...

class LeaveSessionRequest(_message.Message):
    __slots__ = ("session_id", "token")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    token: str
    def __init__(self, session_id: _Optional[str] = ..., token: _Optional[str] = ...) -> None: ...

class LeaveSessionResponse(_message.Message):
    __slots__ = ("state",)
    STATE_FIELD_NUMBER: _ClassVar[int]
    state: _sessions_pb2.Session.State
    def __init__(self, state: _Optional[_Union[_sessions_pb2.Session.State, str]] = ...) -> None: ...
