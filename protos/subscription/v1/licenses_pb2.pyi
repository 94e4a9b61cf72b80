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

class License(_message.Message):
    __slots__ = ("specialization", "level", "max_level", "status", "updated_at", "user_id")
    class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATUS_UNSPECIFIED: _ClassVar[License.Status]
        ACTIVE: _ClassVar[License.Status]
        COMPLETED: _ClassVar[License.Status]
    STATUS_UNSPECIFIED: License.Status
    ACTIVE: License.Status
    COMPLETED: License.Status
    SPECIALIZATION_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MAX_LEVEL_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    specialization: str
    level: int
    max_level: int
    status: License.Status
    updated_at: _timestamp_pb2.Timestamp
    user_id: str
    def __init__(self, specialization: _Optional[str] = ..., level: _Optional[int] = ..., max_level: _Optional[int] = ..., status: _Optional[_Union[License.Status, str]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., user_id: _Optional[str] = ...) -> None: ...

class Progression(_message.Message):
    __slots__ = ("to", "by", "reason", "at")
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    to: int
    by: str
    reason: str
    at: _timestamp_pb2.Timestamp
    def __init__(self, to: _Optional[int] = ..., by: _Optional[str] = ..., reason: _Optional[str] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., **kwargs) -> None: ...

class ListMyLicensesRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListMyLicensesResponse(_message.Message):
    __slots__ = ("licenses", "next_page_token")
    LICENSES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    licenses: _containers.RepeatedCompositeFieldContainer[License]
    next_page_token: str
    def __init__(self, licenses: _Optional[_Iterable[_Union[License, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListLicensesRequest(_message.Message):
    __slots__ = ("user_id", "page_size", "page_token")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    page_size: int
    page_token: str
    def __init__(self, user_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListLicensesResponse(_message.Message):
    __slots__ = ("licenses", "next_page_token")
    LICENSES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    licenses: _containers.RepeatedCompositeFieldContainer[License]
    next_page_token: str
    def __init__(self, licenses: _Optional[_Iterable[_Union[License, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetLicenseHistoryRequest(_message.Message):
    __slots__ = ("specialization", "page_size", "page_token")
    SPECIALIZATION_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    specialization: str
    page_size: int
    page_token: str
    def __init__(self, specialization: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class GetLicenseHistoryResponse(_message.Message):
    __slots__ = ("progressions", "next_page_token")
    PROGRESSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    progressions: _containers.RepeatedCompositeFieldContainer[Progression]
    next_page_token: str
    def __init__(self, progressions: _Optional[_Iterable[_Union[Progression, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class AdvanceLicenseRequest(_message.Message):
    __slots__ = ("user_id", "specialization", "to_level", "reason")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SPECIALIZATION_FIELD_NUMBER: _ClassVar[int]
    TO_LEVEL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    specialization: str
    to_level: int
    reason: str
    def __init__(self, user_id: _Optional[str] = ..., specialization: _Optional[str] = ..., to_level: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class AdvanceLicenseResponse(_message.Message):
    __slots__ = ("license",)
    LICENSE_FIELD_NUMBER: _ClassVar[int]
    license: License
    def __init__(self, license: _Optional[_Union[License, _Mapping]] = ...) -> None: ...

class ApplyLicenseLevelRequest(_message.Message):
    __slots__ = ("user_id", "specialization", "level", "max_level", "event_id", "reason", "epoch")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SPECIALIZATION_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MAX_LEVEL_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    specialization: str
    level: int
    max_level: int
    event_id: str
    reason: str
    epoch: int
    def __init__(self, user_id: _Optional[str] = ..., specialization: _Optional[str] = ..., level: _Optional[int] = ..., max_level: _Optional[int] = ..., event_id: _Optional[str] = ..., reason: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class ApplyLicenseLevelResponse(_message.Message):
    __slots__ = ("license",)
    LICENSE_FIELD_NUMBER: _ClassVar[int]
    license: License
    def __init__(self, license: _Optional[_Union[License, _Mapping]] = ...) -> None: ...

class ResetLicenseRequest(_message.Message):
    __slots__ = ("user_id", "specialization", "to_level", "max_level", "event_id", "by", "reason", "epoch")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SPECIALIZATION_FIELD_NUMBER: _ClassVar[int]
    TO_LEVEL_FIELD_NUMBER: _ClassVar[int]
    MAX_LEVEL_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    specialization: str
    to_level: int
    max_level: int
    event_id: str
    by: str
    reason: str
    epoch: int
    def __init__(self, user_id: _Optional[str] = ..., specialization: _Optional[str] = ..., to_level: _Optional[int] = ..., max_level: _Optional[int] = ..., event_id: _Optional[str] = ..., by: _Optional[str] = ..., reason: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class ResetLicenseResponse(_message.Message):
    __slots__ = ("license",)
    LICENSE_FIELD_NUMBER: _ClassVar[int]
    license: License
    def __init__(self, license: _Optional[_Union[License, _Mapping]] = ...) -> None: ...

class WatchLicensesRequest(_message.Message):
    __slots__ = ("after_sequence",)
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    after_sequence: int
    def __init__(self, after_sequence: _Optional[int] = ...) -> None: ...

class WatchLicensesResponse(_message.Message):
    __slots__ = ("sequence", "license", "progression", "event_id", "epoch", "origin")
    class Origin(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ORIGIN_UNSPECIFIED: _ClassVar[WatchLicensesResponse.Origin]
        PROGRESS: _ClassVar[WatchLicensesResponse.Origin]
        ADVANCE: _ClassVar[WatchLicensesResponse.Origin]
        RESET: _ClassVar[WatchLicensesResponse.Origin]
    ORIGIN_UNSPECIFIED: WatchLicensesResponse.Origin
    PROGRESS: WatchLicensesResponse.Origin
    ADVANCE: WatchLicensesResponse.Origin
    RESET: WatchLicensesResponse.Origin
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LICENSE_FIELD_NUMBER: _ClassVar[int]
    PROGRESSION_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    license: License
    progression: Progression
    event_id: str
    epoch: int
    origin: WatchLicensesResponse.Origin
    def __init__(self, sequence: _Optional[int] = ..., license: _Optional[_Union[License, _Mapping]] = ..., progression: _Optional[_Union[Progression, _Mapping]] = ..., event_id: _Optional[str] = ..., epoch: _Optional[int] = ..., origin: _Optional[_Union[WatchLicensesResponse.Origin, str]] = ...) -> None: ...
