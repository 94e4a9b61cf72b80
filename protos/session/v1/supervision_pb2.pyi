import datetime

from protos.buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from protos.chassis.v1 import options_pb2 as _options_pb2
from protos.session.v1 import sessions_pb2 as _sessions_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TimelineEvent(_message.Message):
    __slots__ = ("kind", "at", "version", "actor_id", "request_id", "trace_id", "reason", "note", "answer")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[TimelineEvent.Kind]
        STARTED: _ClassVar[TimelineEvent.Kind]
        ANSWERED: _ClassVar[TimelineEvent.Kind]
        PAUSED: _ClassVar[TimelineEvent.Kind]
        RESUMED: _ClassVar[TimelineEvent.Kind]
        COMPLETED: _ClassVar[TimelineEvent.Kind]
        ABANDONED: _ClassVar[TimelineEvent.Kind]
        EXPIRED: _ClassVar[TimelineEvent.Kind]
        REFUSED: _ClassVar[TimelineEvent.Kind]
    KIND_UNSPECIFIED: TimelineEvent.Kind
    STARTED: TimelineEvent.Kind
    ANSWERED: TimelineEvent.Kind
    PAUSED: TimelineEvent.Kind
    RESUMED: TimelineEvent.Kind
    COMPLETED: TimelineEvent.Kind
    ABANDONED: TimelineEvent.Kind
    EXPIRED: TimelineEvent.Kind
    REFUSED: TimelineEvent.Kind
    class Answer(_message.Message):
        __slots__ = ("question_id", "attempt", "choice", "correct", "occurred_at", "occurred_at_clamped")
        QUESTION_ID_FIELD_NUMBER: _ClassVar[int]
        ATTEMPT_FIELD_NUMBER: _ClassVar[int]
        CHOICE_FIELD_NUMBER: _ClassVar[int]
        CORRECT_FIELD_NUMBER: _ClassVar[int]
        OCCURRED_AT_FIELD_NUMBER: _ClassVar[int]
        OCCURRED_AT_CLAMPED_FIELD_NUMBER: _ClassVar[int]
        question_id: str
        attempt: int
        choice: str
        correct: bool
        occurred_at: _timestamp_pb2.Timestamp
        occurred_at_clamped: bool
        def __init__(self, question_id: _Optional[str] = ..., attempt: _Optional[int] = ..., choice: _Optional[str] = ..., correct: _Optional[bool] = ..., occurred_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., occurred_at_clamped: _Optional[bool] = ...) -> None: ...
    KIND_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ACTOR_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    kind: TimelineEvent.Kind
    at: _timestamp_pb2.Timestamp
    version: int
    actor_id: str
    request_id: str
    trace_id: str
    reason: str
    note: str
    answer: TimelineEvent.Answer
    def __init__(self, kind: _Optional[_Union[TimelineEvent.Kind, str]] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., version: _Optional[int] = ..., actor_id: _Optional[str] = ..., request_id: _Optional[str] = ..., trace_id: _Optional[str] = ..., reason: _Optional[str] = ..., note: _Optional[str] = ..., answer: _Optional[_Union[TimelineEvent.Answer, _Mapping]] = ...) -> None: ...

class GetTimelineRequest(_message.Message):
    __slots__ = ("session_id", "user_id", "page_size", "page_token")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    user_id: str
    page_size: int
    page_token: str
    def __init__(self, session_id: _Optional[str] = ..., user_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class GetTimelineResponse(_message.Message):
    __slots__ = ("events", "next_page_token")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[TimelineEvent]
    next_page_token: str
    def __init__(self, events: _Optional[_Iterable[_Union[TimelineEvent, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListAccountSessionsRequest(_message.Message):
    __slots__ = ("user_id", "state", "test_id", "page_size", "page_token")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TEST_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    state: _sessions_pb2.Session.State
    test_id: str
    page_size: int
    page_token: str
    def __init__(self, user_id: _Optional[str] = ..., state: _Optional[_Union[_sessions_pb2.Session.State, str]] = ..., test_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListAccountSessionsResponse(_message.Message):
    __slots__ = ("sessions", "next_page_token")
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[_sessions_pb2.Session]
    next_page_token: str
    def __init__(self, sessions: _Optional[_Iterable[_Union[_sessions_pb2.Session, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CloseAccountSessionRequest(_message.Message):
    __slots__ = ("user_id", "session_id", "reason")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    session_id: str
    reason: str
    def __init__(self, user_id: _Optional[str] = ..., session_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class CloseAccountSessionResponse(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: _sessions_pb2.Session
    def __init__(self, session: _Optional[_Union[_sessions_pb2.Session, _Mapping]] = ...) -> None: ...

class TestResult(_message.Message):
    __slots__ = ("user_id", "attempts", "best_score", "passed", "engaged_seconds", "last_ended_at")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    BEST_SCORE_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    ENGAGED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LAST_ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    attempts: int
    best_score: float
    passed: bool
    engaged_seconds: float
    last_ended_at: _timestamp_pb2.Timestamp
    def __init__(self, user_id: _Optional[str] = ..., attempts: _Optional[int] = ..., best_score: _Optional[float] = ..., passed: _Optional[bool] = ..., engaged_seconds: _Optional[float] = ..., last_ended_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListTestResultsRequest(_message.Message):
    __slots__ = ("test_id", "page_size", "page_token")
    TEST_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    test_id: str
    page_size: int
    page_token: str
    def __init__(self, test_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListTestResultsResponse(_message.Message):
    __slots__ = ("results", "next_page_token")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[TestResult]
    next_page_token: str
    def __init__(self, results: _Optional[_Iterable[_Union[TestResult, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
