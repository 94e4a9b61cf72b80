from protos.buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from protos.chassis.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Level(_message.Message):
    __slots__ = ("level", "name", "xp_required")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    XP_REQUIRED_FIELD_NUMBER: _ClassVar[int]
    level: int
    name: str
    xp_required: int
    def __init__(self, level: _Optional[int] = ..., name: _Optional[str] = ..., xp_required: _Optional[int] = ...) -> None: ...

class Specialization(_message.Message):
    __slots__ = ("specialization", "name", "levels")
    SPECIALIZATION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    specialization: str
    name: str
    levels: _containers.RepeatedCompositeFieldContainer[Level]
    def __init__(self, specialization: _Optional[str] = ..., name: _Optional[str] = ..., levels: _Optional[_Iterable[_Union[Level, _Mapping]]] = ...) -> None: ...

class SpecializationProgress(_message.Message):
    __slots__ = ("specialization", "xp", "level", "max_level", "next_level_xp")
    SPECIALIZATION_FIELD_NUMBER: _ClassVar[int]
    XP_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MAX_LEVEL_FIELD_NUMBER: _ClassVar[int]
    NEXT_LEVEL_XP_FIELD_NUMBER: _ClassVar[int]
    specialization: str
    xp: int
    level: int
    max_level: int
    next_level_xp: int
    def __init__(self, specialization: _Optional[str] = ..., xp: _Optional[int] = ..., level: _Optional[int] = ..., max_level: _Optional[int] = ..., next_level_xp: _Optional[int] = ...) -> None: ...

class PutSpecializationRequest(_message.Message):
    __slots__ = ("specialization", "name", "levels")
    SPECIALIZATION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    specialization: str
    name: str
    levels: _containers.RepeatedCompositeFieldContainer[Level]
    def __init__(self, specialization: _Optional[str] = ..., name: _Optional[str] = ..., levels: _Optional[_Iterable[_Union[Level, _Mapping]]] = ...) -> None: ...

class PutSpecializationResponse(_message.Message):
    __slots__ = ("specialization",)
    SPECIALIZATION_FIELD_NUMBER: _ClassVar[int]
    specialization: Specialization
    def __init__(self, specialization: _Optional[_Union[Specialization, _Mapping]] = ...) -> None: ...

class ListSpecializationsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSpecializationsResponse(_message.Message):
    __slots__ = ("specializations", "next_page_token")
    SPECIALIZATIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    specializations: _containers.RepeatedCompositeFieldContainer[Specialization]
    next_page_token: str
    def __init__(self, specializations: _Optional[_Iterable[_Union[Specialization, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListSpecializationProgressRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSpecializationProgressResponse(_message.Message):
    __slots__ = ("specializations", "next_page_token")
    SPECIALIZATIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    specializations: _containers.RepeatedCompositeFieldContainer[SpecializationProgress]
    next_page_token: str
    def __init__(self, specializations: _Optional[_Iterable[_Union[SpecializationProgress, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
