import datetime

from protos.buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from protos.chassis.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Enrollment(_message.Message):
    __slots__ = ("course_id", "enrolled_at", "completed_lessons", "total_lessons", "completed_at", "version")
    COURSE_ID_FIELD_NUMBER: _ClassVar[int]
    ENROLLED_AT_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_LESSONS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_LESSONS_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_AT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    course_id: str
    enrolled_at: _timestamp_pb2.Timestamp
    completed_lessons: int
    total_lessons: int
    completed_at: _timestamp_pb2.Timestamp
    version: int
    def __init__(self, course_id: _Optional[str] = ..., enrolled_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., completed_lessons: _Optional[int] = ..., total_lessons: _Optional[int] = ..., completed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., version: _Optional[int] = ...) -> None: ...

class EnrollRequest(_message.Message):
    __slots__ = ("course_id",)
    COURSE_ID_FIELD_NUMBER: _ClassVar[int]
    course_id: str
    def __init__(self, course_id: _Optional[str] = ...) -> None: ...

class EnrollResponse(_message.Message):
    __slots__ = ("enrollment",)
    ENROLLMENT_FIELD_NUMBER: _ClassVar[int]
    enrollment: Enrollment
    def __init__(self, enrollment: _Optional[_Union[Enrollment, _Mapping]] = ...) -> None: ...

class ListEnrollmentsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListEnrollmentsResponse(_message.Message):
    __slots__ = ("enrollments", "next_page_token")
    ENROLLMENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    enrollments: _containers.RepeatedCompositeFieldContainer[Enrollment]
    next_page_token: str
    def __init__(self, enrollments: _Optional[_Iterable[_Union[Enrollment, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CompleteLessonRequest(_message.Message):
    __slots__ = ("module_id", "lesson_id", "occurred_at")
    MODULE_ID_FIELD_NUMBER: _ClassVar[int]
    LESSON_ID_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_AT_FIELD_NUMBER: _ClassVar[int]
    module_id: str
    lesson_id: str
    occurred_at: _timestamp_pb2.Timestamp
    def __init__(self, module_id: _Optional[str] = ..., lesson_id: _Optional[str] = ..., occurred_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CompleteLessonResponse(_message.Message):
    __slots__ = ("success", "db_updated", "cache_updated", "version", "xp_awarded", "next")
    class Next(_message.Message):
        __slots__ = ("module_id", "lesson_id", "accessible")
        MODULE_ID_FIELD_NUMBER: _ClassVar[int]
        LESSON_ID_FIELD_NUMBER: _ClassVar[int]
        ACCESSIBLE_FIELD_NUMBER: _ClassVar[int]
        module_id: str
        lesson_id: str
        accessible: bool
        def __init__(self, module_id: _Optional[str] = ..., lesson_id: _Optional[str] = ..., accessible: _Optional[bool] = ...) -> None: ...
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    DB_UPDATED_FIELD_NUMBER: _ClassVar[int]
    CACHE_UPDATED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    XP_AWARDED_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    success: bool
    db_updated: bool
    cache_updated: bool
    version: int
    xp_awarded: int
    next: CompleteLessonResponse.Next
    def __init__(self, success: _Optional[bool] = ..., db_updated: _Optional[bool] = ..., cache_updated: _Optional[bool] = ..., version: _Optional[int] = ..., xp_awarded: _Optional[int] = ..., next: _Optional[_Union[CompleteLessonResponse.Next, _Mapping]] = ...) -> None: ...

class GetLessonAccessRequest(_message.Message):
    __slots__ = ("module_id", "lesson_id", "min_version")
    MODULE_ID_FIELD_NUMBER: _ClassVar[int]
    LESSON_ID_FIELD_NUMBER: _ClassVar[int]
    MIN_VERSION_FIELD_NUMBER: _ClassVar[int]
    module_id: str
    lesson_id: str
    min_version: int
    def __init__(self, module_id: _Optional[str] = ..., lesson_id: _Optional[str] = ..., min_version: _Optional[int] = ...) -> None: ...

class GetLessonAccessResponse(_message.Message):
    __slots__ = ("accessible", "reason", "source", "version")
    class Source(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SOURCE_UNSPECIFIED: _ClassVar[GetLessonAccessResponse.Source]
        CACHE: _ClassVar[GetLessonAccessResponse.Source]
        STORE: _ClassVar[GetLessonAccessResponse.Source]
    SOURCE_UNSPECIFIED: GetLessonAccessResponse.Source
    CACHE: GetLessonAccessResponse.Source
    STORE: GetLessonAccessResponse.Source
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[GetLessonAccessResponse.Reason]
        PREREQUISITE_INCOMPLETE: _ClassVar[GetLessonAccessResponse.Reason]
        FIRST_LESSON: _ClassVar[GetLessonAccessResponse.Reason]
        PREREQUISITE_COMPLETED: _ClassVar[GetLessonAccessResponse.Reason]
        STARTED: _ClassVar[GetLessonAccessResponse.Reason]
        COMPLETED: _ClassVar[GetLessonAccessResponse.Reason]
    REASON_UNSPECIFIED: GetLessonAccessResponse.Reason
    PREREQUISITE_INCOMPLETE: GetLessonAccessResponse.Reason
    FIRST_LESSON: GetLessonAccessResponse.Reason
    PREREQUISITE_COMPLETED: GetLessonAccessResponse.Reason
    STARTED: GetLessonAccessResponse.Reason
    COMPLETED: GetLessonAccessResponse.Reason
    ACCESSIBLE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    accessible: bool
    reason: GetLessonAccessResponse.Reason
    source: GetLessonAccessResponse.Source
    version: int
    def __init__(self, accessible: _Optional[bool] = ..., reason: _Optional[_Union[GetLessonAccessResponse.Reason, str]] = ..., source: _Optional[_Union[GetLessonAccessResponse.Source, str]] = ..., version: _Optional[int] = ...) -> None: ...

class WatchedRange(_message.Message):
    __slots__ = ("from_seconds", "to_seconds")
    FROM_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TO_SECONDS_FIELD_NUMBER: _ClassVar[int]
    from_seconds: float
    to_seconds: float
    def __init__(self, from_seconds: _Optional[float] = ..., to_seconds: _Optional[float] = ...) -> None: ...

class PutWatchedRequest(_message.Message):
    __slots__ = ("module_id", "lesson_id", "ranges", "op_id")
    MODULE_ID_FIELD_NUMBER: _ClassVar[int]
    LESSON_ID_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    OP_ID_FIELD_NUMBER: _ClassVar[int]
    module_id: str
    lesson_id: str
    ranges: _containers.RepeatedCompositeFieldContainer[WatchedRange]
    op_id: str
    def __init__(self, module_id: _Optional[str] = ..., lesson_id: _Optional[str] = ..., ranges: _Optional[_Iterable[_Union[WatchedRange, _Mapping]]] = ..., op_id: _Optional[str] = ...) -> None: ...

class PutWatchedResponse(_message.Message):
    __slots__ = ("ranges", "watched_ratio", "version", "op_id")
    RANGES_FIELD_NUMBER: _ClassVar[int]
    WATCHED_RATIO_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    OP_ID_FIELD_NUMBER: _ClassVar[int]
    ranges: _containers.RepeatedCompositeFieldContainer[WatchedRange]
    watched_ratio: float
    version: int
    op_id: str
    def __init__(self, ranges: _Optional[_Iterable[_Union[WatchedRange, _Mapping]]] = ..., watched_ratio: _Optional[float] = ..., version: _Optional[int] = ..., op_id: _Optional[str] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("course_id", "lessons", "completed_lessons", "total_lessons", "source", "version")
    class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATUS_UNSPECIFIED: _ClassVar[Progress.Status]
        LOCKED: _ClassVar[Progress.Status]
        OPEN: _ClassVar[Progress.Status]
        COMPLETED: _ClassVar[Progress.Status]
    STATUS_UNSPECIFIED: Progress.Status
    LOCKED: Progress.Status
    OPEN: Progress.Status
    COMPLETED: Progress.Status
    class LessonProgress(_message.Message):
        __slots__ = ("module_id", "lesson_id", "status", "reason")
        MODULE_ID_FIELD_NUMBER: _ClassVar[int]
        LESSON_ID_FIELD_NUMBER: _ClassVar[int]
        STATUS_FIELD_NUMBER: _ClassVar[int]
        REASON_FIELD_NUMBER: _ClassVar[int]
        module_id: str
        lesson_id: str
        status: Progress.Status
        reason: GetLessonAccessResponse.Reason
        def __init__(self, module_id: _Optional[str] = ..., lesson_id: _Optional[str] = ..., status: _Optional[_Union[Progress.Status, str]] = ..., reason: _Optional[_Union[GetLessonAccessResponse.Reason, str]] = ...) -> None: ...
    COURSE_ID_FIELD_NUMBER: _ClassVar[int]
    LESSONS_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_LESSONS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_LESSONS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    course_id: str
    lessons: _containers.RepeatedCompositeFieldContainer[Progress.LessonProgress]
    completed_lessons: int
    total_lessons: int
    source: GetLessonAccessResponse.Source
    version: int
    def __init__(self, course_id: _Optional[str] = ..., lessons: _Optional[_Iterable[_Union[Progress.LessonProgress, _Mapping]]] = ..., completed_lessons: _Optional[int] = ..., total_lessons: _Optional[int] = ..., source: _Optional[_Union[GetLessonAccessResponse.Source, str]] = ..., version: _Optional[int] = ...) -> None: ...

class GetProgressRequest(_message.Message):
    __slots__ = ("course_id", "min_version")
    COURSE_ID_FIELD_NUMBER: _ClassVar[int]
    MIN_VERSION_FIELD_NUMBER: _ClassVar[int]
    course_id: str
    min_version: int
    def __init__(self, course_id: _Optional[str] = ..., min_version: _Optional[int] = ...) -> None: ...

class GetProgressResponse(_message.Message):
    __slots__ = ("progress",)
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ...) -> None: ...
