from protos.buf.validate import validate_pb2 as _validate_pb2
from protos.chassis.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LicenseLevel(_message.Message):
    __slots__ = ("user_id", "specialization", "level", "max_level", "epoch", "age_seconds")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SPECIALIZATION_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MAX_LEVEL_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    specialization: str
    level: int
    max_level: int
    epoch: int
    age_seconds: float
    def __init__(self, user_id: _Optional[str] = ..., specialization: _Optional[str] = ..., level: _Optional[int] = ..., max_level: _Optional[int] = ..., epoch: _Optional[int] = ..., age_seconds: _Optional[float] = ...) -> None: ...

class LicenseLevelPosition(_message.Message):
    __slots__ = ("specialization", "user_id")
    SPECIALIZATION_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    specialization: str
    user_id: str
    def __init__(self, specialization: _Optional[str] = ..., user_id: _Optional[str] = ...) -> None: ...

class ListLicenseLevelsRequest(_message.Message):
    __slots__ = ("specialization", "user_id", "page_size", "page_token", "after")
    SPECIALIZATION_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    specialization: str
    user_id: str
    page_size: int
    page_token: str
    after: LicenseLevelPosition
    def __init__(self, specialization: _Optional[str] = ..., user_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., after: _Optional[_Union[LicenseLevelPosition, _Mapping]] = ...) -> None: ...

class ListLicenseLevelsResponse(_message.Message):
    __slots__ = ("levels", "next_page_token")
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    levels: _containers.RepeatedCompositeFieldContainer[LicenseLevel]
    next_page_token: str
    def __init__(self, levels: _Optional[_Iterable[_Union[LicenseLevel, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class MirrorLevelRequest(_message.Message):
    __slots__ = ("user_id", "specialization", "level", "max_level", "epoch", "event_id", "by", "reason")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SPECIALIZATION_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MAX_LEVEL_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    specialization: str
    level: int
    max_level: int
    epoch: int
    event_id: str
    by: str
    reason: str
    def __init__(self, user_id: _Optional[str] = ..., specialization: _Optional[str] = ..., level: _Optional[int] = ..., max_level: _Optional[int] = ..., epoch: _Optional[int] = ..., event_id: _Optional[str] = ..., by: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class MirrorLevelResponse(_message.Message):
    __slots__ = ("license", "level_before")
    LICENSE_FIELD_NUMBER: _ClassVar[int]
    LEVEL_BEFORE_FIELD_NUMBER: _ClassVar[int]
    license: LicenseLevel
    level_before: int
    def __init__(self, license: _Optional[_Union[LicenseLevel, _Mapping]] = ..., level_before: _Optional[int] = ...) -> None: ...
