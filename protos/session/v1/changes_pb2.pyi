import datetime

from protos.buf.validate import validate_pb2 as _validate_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from protos.chassis.v1 import options_pb2 as _options_pb2
from protos.session.v1 import sessions_pb2 as _sessions_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReadSessionChangesRequest(_message.Message):
    __slots__ = ("learners",)
    LEARNERS_FIELD_NUMBER: _ClassVar[int]
    learners: _containers.RepeatedCompositeFieldContainer[SessionPosition]
    def __init__(self, learners: _Optional[_Iterable[_Union[SessionPosition, _Mapping]]] = ...) -> None: ...

class SessionPosition(_message.Message):
    __slots__ = ("user_id", "since", "known")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    since: _timestamp_pb2.Timestamp
    known: _containers.RepeatedCompositeFieldContainer[KnownSession]
    def __init__(self, user_id: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., known: _Optional[_Iterable[_Union[KnownSession, _Mapping]]] = ...) -> None: ...

class KnownSession(_message.Message):
    __slots__ = ("session_id", "version")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    version: int
    def __init__(self, session_id: _Optional[bytes] = ..., version: _Optional[int] = ...) -> None: ...

class ReadSessionChangesResponse(_message.Message):
    __slots__ = ("learners",)
    LEARNERS_FIELD_NUMBER: _ClassVar[int]
    learners: _containers.RepeatedCompositeFieldContainer[SessionChanges]
    def __init__(self, learners: _Optional[_Iterable[_Union[SessionChanges, _Mapping]]] = ...) -> None: ...

class SessionChanges(_message.Message):
    __slots__ = ("failed", "as_of", "sessions")
    FAILED_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    failed: bool
    as_of: _timestamp_pb2.Timestamp
    sessions: _containers.RepeatedCompositeFieldContainer[SessionChange]
    def __init__(self, failed: _Optional[bool] = ..., as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., sessions: _Optional[_Iterable[_Union[SessionChange, _Mapping]]] = ...) -> None: ...

class SessionChange(_message.Message):
    __slots__ = ("session_id", "test_id", "state", "version")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TEST_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    test_id: str
    state: _sessions_pb2.Session.State
    version: int
    def __init__(self, session_id: _Optional[bytes] = ..., test_id: _Optional[str] = ..., state: _Optional[_Union[_sessions_pb2.Session.State, str]] = ..., version: _Optional[int] = ...) -> None: ...
