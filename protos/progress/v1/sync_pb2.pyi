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

class SyncDirection(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SYNC_DIRECTION_UNSPECIFIED: _ClassVar[SyncDirection]
    PROGRESS_TO_LICENSE: _ClassVar[SyncDirection]
    LICENSE_TO_PROGRESS: _ClassVar[SyncDirection]
    BOTH_WAYS: _ClassVar[SyncDirection]

class DesyncKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DESYNC_KIND_UNSPECIFIED: _ClassVar[DesyncKind]
    LEVEL_MISMATCH: _ClassVar[DesyncKind]
    PROGRESS_WITHOUT_LICENSE: _ClassVar[DesyncKind]
    LICENSE_WITHOUT_PROGRESS: _ClassVar[DesyncKind]
SYNC_DIRECTION_UNSPECIFIED: SyncDirection
PROGRESS_TO_LICENSE: SyncDirection
LICENSE_TO_PROGRESS: SyncDirection
BOTH_WAYS: SyncDirection
DESYNC_KIND_UNSPECIFIED: DesyncKind
LEVEL_MISMATCH: DesyncKind
PROGRESS_WITHOUT_LICENSE: DesyncKind
LICENSE_WITHOUT_PROGRESS: DesyncKind

class Desync(_message.Message):
    __slots__ = ("user_id", "specialization", "kind", "progress_level", "license_level")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SPECIALIZATION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_LEVEL_FIELD_NUMBER: _ClassVar[int]
    LICENSE_LEVEL_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    specialization: str
    kind: DesyncKind
    progress_level: int
    license_level: int
    def __init__(self, user_id: _Optional[str] = ..., specialization: _Optional[str] = ..., kind: _Optional[_Union[DesyncKind, str]] = ..., progress_level: _Optional[int] = ..., license_level: _Optional[int] = ...) -> None: ...

class SyncLevels(_message.Message):
    __slots__ = ("progress_level", "license_level")
    PROGRESS_LEVEL_FIELD_NUMBER: _ClassVar[int]
    LICENSE_LEVEL_FIELD_NUMBER: _ClassVar[int]
    progress_level: int
    license_level: int
    def __init__(self, progress_level: _Optional[int] = ..., license_level: _Optional[int] = ...) -> None: ...

class SyncChange(_message.Message):
    __slots__ = ("user_id", "specialization", "kind", "outcome", "before", "after", "reason")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[SyncChange.Outcome]
        PLANNED: _ClassVar[SyncChange.Outcome]
        APPLIED: _ClassVar[SyncChange.Outcome]
        UNCHANGED: _ClassVar[SyncChange.Outcome]
        NEEDS_DECISION: _ClassVar[SyncChange.Outcome]
        FAILED: _ClassVar[SyncChange.Outcome]
    OUTCOME_UNSPECIFIED: SyncChange.Outcome
    PLANNED: SyncChange.Outcome
    APPLIED: SyncChange.Outcome
    UNCHANGED: SyncChange.Outcome
    NEEDS_DECISION: SyncChange.Outcome
    FAILED: SyncChange.Outcome
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SPECIALIZATION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    specialization: str
    kind: DesyncKind
    outcome: SyncChange.Outcome
    before: SyncLevels
    after: SyncLevels
    reason: str
    def __init__(self, user_id: _Optional[str] = ..., specialization: _Optional[str] = ..., kind: _Optional[_Union[DesyncKind, str]] = ..., outcome: _Optional[_Union[SyncChange.Outcome, str]] = ..., before: _Optional[_Union[SyncLevels, _Mapping]] = ..., after: _Optional[_Union[SyncLevels, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class SyncStatistics(_message.Message):
    __slots__ = ("compared", "level_mismatches", "progress_without_license", "license_without_progress", "planned", "applied", "unchanged", "needs_decision", "failed")
    COMPARED_FIELD_NUMBER: _ClassVar[int]
    LEVEL_MISMATCHES_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_WITHOUT_LICENSE_FIELD_NUMBER: _ClassVar[int]
    LICENSE_WITHOUT_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    PLANNED_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    NEEDS_DECISION_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    compared: int
    level_mismatches: int
    progress_without_license: int
    license_without_progress: int
    planned: int
    applied: int
    unchanged: int
    needs_decision: int
    failed: int
    def __init__(self, compared: _Optional[int] = ..., level_mismatches: _Optional[int] = ..., progress_without_license: _Optional[int] = ..., license_without_progress: _Optional[int] = ..., planned: _Optional[int] = ..., applied: _Optional[int] = ..., unchanged: _Optional[int] = ..., needs_decision: _Optional[int] = ..., failed: _Optional[int] = ...) -> None: ...

class SyncRun(_message.Message):
    __slots__ = ("run_id", "direction", "dry_run", "specialization", "user_id", "state", "ordered_by", "started_at", "finished_at", "statistics")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[SyncRun.State]
        RUNNING: _ClassVar[SyncRun.State]
        FINISHED: _ClassVar[SyncRun.State]
    STATE_UNSPECIFIED: SyncRun.State
    RUNNING: SyncRun.State
    FINISHED: SyncRun.State
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    SPECIALIZATION_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ORDERED_BY_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    direction: SyncDirection
    dry_run: bool
    specialization: str
    user_id: str
    state: SyncRun.State
    ordered_by: str
    started_at: _timestamp_pb2.Timestamp
    finished_at: _timestamp_pb2.Timestamp
    statistics: SyncStatistics
    def __init__(self, run_id: _Optional[str] = ..., direction: _Optional[_Union[SyncDirection, str]] = ..., dry_run: _Optional[bool] = ..., specialization: _Optional[str] = ..., user_id: _Optional[str] = ..., state: _Optional[_Union[SyncRun.State, str]] = ..., ordered_by: _Optional[str] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., finished_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., statistics: _Optional[_Union[SyncStatistics, _Mapping]] = ...) -> None: ...

class ListDesyncsRequest(_message.Message):
    __slots__ = ("specialization", "page_size", "page_token")
    SPECIALIZATION_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    specialization: str
    page_size: int
    page_token: str
    def __init__(self, specialization: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListDesyncsResponse(_message.Message):
    __slots__ = ("desyncs", "next_page_token")
    DESYNCS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    desyncs: _containers.RepeatedCompositeFieldContainer[Desync]
    next_page_token: str
    def __init__(self, desyncs: _Optional[_Iterable[_Union[Desync, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class SyncUserRequest(_message.Message):
    __slots__ = ("user_id", "specialization", "direction")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SPECIALIZATION_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    specialization: str
    direction: SyncDirection
    def __init__(self, user_id: _Optional[str] = ..., specialization: _Optional[str] = ..., direction: _Optional[_Union[SyncDirection, str]] = ...) -> None: ...

class SyncUserResponse(_message.Message):
    __slots__ = ("changes", "run_id")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[SyncChange]
    run_id: str
    def __init__(self, changes: _Optional[_Iterable[_Union[SyncChange, _Mapping]]] = ..., run_id: _Optional[str] = ...) -> None: ...

class SyncAllRequest(_message.Message):
    __slots__ = ("direction", "dry_run", "specialization")
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    SPECIALIZATION_FIELD_NUMBER: _ClassVar[int]
    direction: SyncDirection
    dry_run: bool
    specialization: str
    def __init__(self, direction: _Optional[_Union[SyncDirection, str]] = ..., dry_run: _Optional[bool] = ..., specialization: _Optional[str] = ...) -> None: ...

class SyncAllResponse(_message.Message):
    __slots__ = ("run", "changes")
    RUN_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    run: SyncRun
    changes: _containers.RepeatedCompositeFieldContainer[SyncChange]
    def __init__(self, run: _Optional[_Union[SyncRun, _Mapping]] = ..., changes: _Optional[_Iterable[_Union[SyncChange, _Mapping]]] = ...) -> None: ...

class ListSyncRunsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSyncRunsResponse(_message.Message):
    __slots__ = ("runs", "next_page_token")
    RUNS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[SyncRun]
    next_page_token: str
    def __init__(self, runs: _Optional[_Iterable[_Union[SyncRun, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetSyncRunRequest(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    def __init__(self, run_id: _Optional[str] = ...) -> None: ...

class GetSyncRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: SyncRun
    def __init__(self, run: _Optional[_Union[SyncRun, _Mapping]] = ...) -> None: ...

class ListSyncChangesRequest(_message.Message):
    __slots__ = ("run_id", "page_size", "page_token")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    page_size: int
    page_token: str
    def __init__(self, run_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSyncChangesResponse(_message.Message):
    __slots__ = ("changes", "next_page_token")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[SyncChange]
    next_page_token: str
    def __init__(self, changes: _Optional[_Iterable[_Union[SyncChange, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
