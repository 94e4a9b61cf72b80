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

class Stats(_message.Message):
    __slots__ = ("user_id", "enrolled", "completed_lessons", "completed_sessions", "questions_answered", "answers", "correct", "xp", "streak_days", "updated_at", "version")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ENROLLED_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_LESSONS_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    QUESTIONS_ANSWERED_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    CORRECT_FIELD_NUMBER: _ClassVar[int]
    XP_FIELD_NUMBER: _ClassVar[int]
    STREAK_DAYS_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    enrolled: int
    completed_lessons: int
    completed_sessions: int
    questions_answered: int
    answers: int
    correct: int
    xp: int
    streak_days: int
    updated_at: _timestamp_pb2.Timestamp
    version: int
    def __init__(self, user_id: _Optional[str] = ..., enrolled: _Optional[int] = ..., completed_lessons: _Optional[int] = ..., completed_sessions: _Optional[int] = ..., questions_answered: _Optional[int] = ..., answers: _Optional[int] = ..., correct: _Optional[int] = ..., xp: _Optional[int] = ..., streak_days: _Optional[int] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., version: _Optional[int] = ...) -> None: ...

class GetStatsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatsResponse(_message.Message):
    __slots__ = ("stats",)
    STATS_FIELD_NUMBER: _ClassVar[int]
    stats: Stats
    def __init__(self, stats: _Optional[_Union[Stats, _Mapping]] = ...) -> None: ...

class RecordSessionResultRequest(_message.Message):
    __slots__ = ("user_id", "session_id", "test_id", "specialization", "completed", "answered", "total", "answers", "correct", "score", "passed", "xp", "closed_at")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TEST_ID_FIELD_NUMBER: _ClassVar[int]
    SPECIALIZATION_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    CORRECT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    XP_FIELD_NUMBER: _ClassVar[int]
    CLOSED_AT_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    session_id: str
    test_id: str
    specialization: str
    completed: bool
    answered: int
    total: int
    answers: int
    correct: int
    score: float
    passed: bool
    xp: int
    closed_at: _timestamp_pb2.Timestamp
    def __init__(self, user_id: _Optional[str] = ..., session_id: _Optional[str] = ..., test_id: _Optional[str] = ..., specialization: _Optional[str] = ..., completed: _Optional[bool] = ..., answered: _Optional[int] = ..., total: _Optional[int] = ..., answers: _Optional[int] = ..., correct: _Optional[int] = ..., score: _Optional[float] = ..., passed: _Optional[bool] = ..., xp: _Optional[int] = ..., closed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RecordSessionResultResponse(_message.Message):
    __slots__ = ("recorded", "version")
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    recorded: bool
    version: int
    def __init__(self, recorded: _Optional[bool] = ..., version: _Optional[int] = ...) -> None: ...
