from protos.buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from protos.chassis.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Lesson(_message.Message):
    __slots__ = ("lesson_id", "title", "xp", "video_seconds", "min_watched_ratio")
    LESSON_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    XP_FIELD_NUMBER: _ClassVar[int]
    VIDEO_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MIN_WATCHED_RATIO_FIELD_NUMBER: _ClassVar[int]
    lesson_id: str
    title: str
    xp: int
    video_seconds: float
    min_watched_ratio: float
    def __init__(self, lesson_id: _Optional[str] = ..., title: _Optional[str] = ..., xp: _Optional[int] = ..., video_seconds: _Optional[float] = ..., min_watched_ratio: _Optional[float] = ...) -> None: ...

class Module(_message.Message):
    __slots__ = ("module_id", "title", "lessons")
    MODULE_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    LESSONS_FIELD_NUMBER: _ClassVar[int]
    module_id: str
    title: str
    lessons: _containers.RepeatedCompositeFieldContainer[Lesson]
    def __init__(self, module_id: _Optional[str] = ..., title: _Optional[str] = ..., lessons: _Optional[_Iterable[_Union[Lesson, _Mapping]]] = ...) -> None: ...

class Course(_message.Message):
    __slots__ = ("course_id", "title", "specialization", "modules", "revision")
    COURSE_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    SPECIALIZATION_FIELD_NUMBER: _ClassVar[int]
    MODULES_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    course_id: str
    title: str
    specialization: str
    modules: _containers.RepeatedCompositeFieldContainer[Module]
    revision: int
    def __init__(self, course_id: _Optional[str] = ..., title: _Optional[str] = ..., specialization: _Optional[str] = ..., modules: _Optional[_Iterable[_Union[Module, _Mapping]]] = ..., revision: _Optional[int] = ...) -> None: ...

class CourseSummary(_message.Message):
    __slots__ = ("course_id", "title", "specialization", "total_lessons", "revision")
    COURSE_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    SPECIALIZATION_FIELD_NUMBER: _ClassVar[int]
    TOTAL_LESSONS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    course_id: str
    title: str
    specialization: str
    total_lessons: int
    revision: int
    def __init__(self, course_id: _Optional[str] = ..., title: _Optional[str] = ..., specialization: _Optional[str] = ..., total_lessons: _Optional[int] = ..., revision: _Optional[int] = ...) -> None: ...

class PutCourseRequest(_message.Message):
    __slots__ = ("course_id", "title", "specialization", "modules")
    COURSE_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    SPECIALIZATION_FIELD_NUMBER: _ClassVar[int]
    MODULES_FIELD_NUMBER: _ClassVar[int]
    course_id: str
    title: str
    specialization: str
    modules: _containers.RepeatedCompositeFieldContainer[Module]
    def __init__(self, course_id: _Optional[str] = ..., title: _Optional[str] = ..., specialization: _Optional[str] = ..., modules: _Optional[_Iterable[_Union[Module, _Mapping]]] = ...) -> None: ...

class PutCourseResponse(_message.Message):
    __slots__ = ("course",)
    COURSE_FIELD_NUMBER: _ClassVar[int]
    course: Course
    def __init__(self, course: _Optional[_Union[Course, _Mapping]] = ...) -> None: ...

class GetCourseRequest(_message.Message):
    __slots__ = ("course_id",)
    COURSE_ID_FIELD_NUMBER: _ClassVar[int]
    course_id: str
    def __init__(self, course_id: _Optional[str] = ...) -> None: ...

class GetCourseResponse(_message.Message):
    __slots__ = ("course",)
    COURSE_FIELD_NUMBER: _ClassVar[int]
    course: Course
    def __init__(self, course: _Optional[_Union[Course, _Mapping]] = ...) -> None: ...

class ListCoursesRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListCoursesResponse(_message.Message):
    __slots__ = ("courses", "next_page_token")
    COURSES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    courses: _containers.RepeatedCompositeFieldContainer[CourseSummary]
    next_page_token: str
    def __init__(self, courses: _Optional[_Iterable[_Union[CourseSummary, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
