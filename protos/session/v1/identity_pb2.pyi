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

class IdentityEnrollment(_message.Message):
    __slots__ = ("prompts", "enrolled_at", "version")
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    ENROLLED_AT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    prompts: _containers.RepeatedScalarFieldContainer[str]
    enrolled_at: _timestamp_pb2.Timestamp
    version: int
    def __init__(self, prompts: _Optional[_Iterable[str]] = ..., enrolled_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., version: _Optional[int] = ...) -> None: ...

class IdentityChecks(_message.Message):
    __slots__ = ("session_id", "state", "locked", "total", "passed", "check")
    class Check(_message.Message):
        __slots__ = ("check_id", "prompt", "answer_by", "attempts_left")
        CHECK_ID_FIELD_NUMBER: _ClassVar[int]
        PROMPT_FIELD_NUMBER: _ClassVar[int]
        ANSWER_BY_FIELD_NUMBER: _ClassVar[int]
        ATTEMPTS_LEFT_FIELD_NUMBER: _ClassVar[int]
        check_id: str
        prompt: str
        answer_by: _timestamp_pb2.Timestamp
        attempts_left: int
        def __init__(self, check_id: _Optional[str] = ..., prompt: _Optional[str] = ..., answer_by: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., attempts_left: _Optional[int] = ...) -> None: ...
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    LOCKED_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    CHECK_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    state: _sessions_pb2.Session.State
    locked: bool
    total: int
    passed: int
    check: IdentityChecks.Check
    def __init__(self, session_id: _Optional[str] = ..., state: _Optional[_Union[_sessions_pb2.Session.State, str]] = ..., locked: _Optional[bool] = ..., total: _Optional[int] = ..., passed: _Optional[int] = ..., check: _Optional[_Union[IdentityChecks.Check, _Mapping]] = ...) -> None: ...

class EnrolledQuestion(_message.Message):
    __slots__ = ("prompt", "answer")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    answer: str
    def __init__(self, prompt: _Optional[str] = ..., answer: _Optional[str] = ...) -> None: ...

class PutIdentityQuestionsRequest(_message.Message):
    __slots__ = ("questions",)
    QUESTIONS_FIELD_NUMBER: _ClassVar[int]
    questions: _containers.RepeatedCompositeFieldContainer[EnrolledQuestion]
    def __init__(self, questions: _Optional[_Iterable[_Union[EnrolledQuestion, _Mapping]]] = ...) -> None: ...

class PutIdentityQuestionsResponse(_message.Message):
    __slots__ = ("enrollment",)
    ENROLLMENT_FIELD_NUMBER: _ClassVar[int]
    enrollment: IdentityEnrollment
    def __init__(self, enrollment: _Optional[_Union[IdentityEnrollment, _Mapping]] = ...) -> None: ...

class GetIdentityQuestionsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetIdentityQuestionsResponse(_message.Message):
    __slots__ = ("enrollment",)
    ENROLLMENT_FIELD_NUMBER: _ClassVar[int]
    enrollment: IdentityEnrollment
    def __init__(self, enrollment: _Optional[_Union[IdentityEnrollment, _Mapping]] = ...) -> None: ...

class GetIdentityChecksRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class GetIdentityChecksResponse(_message.Message):
    __slots__ = ("checks",)
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    checks: IdentityChecks
    def __init__(self, checks: _Optional[_Union[IdentityChecks, _Mapping]] = ...) -> None: ...

class AnswerIdentityCheckRequest(_message.Message):
    __slots__ = ("session_id", "check_id", "answer")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CHECK_ID_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    check_id: str
    answer: str
    def __init__(self, session_id: _Optional[str] = ..., check_id: _Optional[str] = ..., answer: _Optional[str] = ...) -> None: ...

class AnswerIdentityCheckResponse(_message.Message):
    __slots__ = ("check_id", "passed", "attempts_left", "state", "locked")
    CHECK_ID_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_LEFT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    LOCKED_FIELD_NUMBER: _ClassVar[int]
    check_id: str
    passed: bool
    attempts_left: int
    state: _sessions_pb2.Session.State
    locked: bool
    def __init__(self, check_id: _Optional[str] = ..., passed: _Optional[bool] = ..., attempts_left: _Optional[int] = ..., state: _Optional[_Union[_sessions_pb2.Session.State, str]] = ..., locked: _Optional[bool] = ...) -> None: ...

class ReleaseSessionRequest(_message.Message):
    __slots__ = ("user_id", "session_id", "reason")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    session_id: str
    reason: str
    def __init__(self, user_id: _Optional[str] = ..., session_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ReleaseSessionResponse(_message.Message):
    __slots__ = ("checks",)
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    checks: IdentityChecks
    def __init__(self, checks: _Optional[_Union[IdentityChecks, _Mapping]] = ...) -> None: ...

class IdentityEvent(_message.Message):
    __slots__ = ("check_id", "step", "kind", "by", "reason", "request_id", "recorded_at")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[IdentityEvent.Kind]
        PASSED: _ClassVar[IdentityEvent.Kind]
        FAILED: _ClassVar[IdentityEvent.Kind]
        LAPSED: _ClassVar[IdentityEvent.Kind]
        RELEASED: _ClassVar[IdentityEvent.Kind]
    KIND_UNSPECIFIED: IdentityEvent.Kind
    PASSED: IdentityEvent.Kind
    FAILED: IdentityEvent.Kind
    LAPSED: IdentityEvent.Kind
    RELEASED: IdentityEvent.Kind
    CHECK_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RECORDED_AT_FIELD_NUMBER: _ClassVar[int]
    check_id: str
    step: int
    kind: IdentityEvent.Kind
    by: str
    reason: str
    request_id: str
    recorded_at: _timestamp_pb2.Timestamp
    def __init__(self, check_id: _Optional[str] = ..., step: _Optional[int] = ..., kind: _Optional[_Union[IdentityEvent.Kind, str]] = ..., by: _Optional[str] = ..., reason: _Optional[str] = ..., request_id: _Optional[str] = ..., recorded_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListIdentityEventsRequest(_message.Message):
    __slots__ = ("user_id", "session_id", "page_size", "page_token")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    session_id: str
    page_size: int
    page_token: str
    def __init__(self, user_id: _Optional[str] = ..., session_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListIdentityEventsResponse(_message.Message):
    __slots__ = ("events", "next_page_token")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[IdentityEvent]
    next_page_token: str
    def __init__(self, events: _Optional[_Iterable[_Union[IdentityEvent, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
