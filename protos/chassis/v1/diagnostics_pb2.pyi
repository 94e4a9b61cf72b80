import datetime

from protos.buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from protos.chassis.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Severity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEVERITY_UNSPECIFIED: _ClassVar[Severity]
    INFO: _ClassVar[Severity]
    LOW: _ClassVar[Severity]
    MEDIUM: _ClassVar[Severity]
    HIGH: _ClassVar[Severity]
    CRITICAL: _ClassVar[Severity]
SEVERITY_UNSPECIFIED: Severity
INFO: Severity
LOW: Severity
MEDIUM: Severity
HIGH: Severity
CRITICAL: Severity

class Check(_message.Message):
    __slots__ = ("check_id", "severity", "meaning", "age_seconds_min", "repairs", "advice", "last_run")
    CHECK_ID_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    MEANING_FIELD_NUMBER: _ClassVar[int]
    AGE_SECONDS_MIN_FIELD_NUMBER: _ClassVar[int]
    REPAIRS_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    LAST_RUN_FIELD_NUMBER: _ClassVar[int]
    check_id: str
    severity: Severity
    meaning: str
    age_seconds_min: int
    repairs: _containers.RepeatedCompositeFieldContainer[Repair]
    advice: str
    last_run: CheckRun
    def __init__(self, check_id: _Optional[str] = ..., severity: _Optional[_Union[Severity, str]] = ..., meaning: _Optional[str] = ..., age_seconds_min: _Optional[int] = ..., repairs: _Optional[_Iterable[_Union[Repair, _Mapping]]] = ..., advice: _Optional[str] = ..., last_run: _Optional[_Union[CheckRun, _Mapping]] = ...) -> None: ...

class Repair(_message.Message):
    __slots__ = ("repair_id", "meaning")
    REPAIR_ID_FIELD_NUMBER: _ClassVar[int]
    MEANING_FIELD_NUMBER: _ClassVar[int]
    repair_id: str
    meaning: str
    def __init__(self, repair_id: _Optional[str] = ..., meaning: _Optional[str] = ...) -> None: ...

class CheckRun(_message.Message):
    __slots__ = ("started_at", "finished_at", "walked", "findings", "seconds", "problem")
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_FIELD_NUMBER: _ClassVar[int]
    WALKED_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    started_at: _timestamp_pb2.Timestamp
    finished_at: _timestamp_pb2.Timestamp
    walked: int
    findings: int
    seconds: float
    problem: str
    def __init__(self, started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., finished_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., walked: _Optional[int] = ..., findings: _Optional[int] = ..., seconds: _Optional[float] = ..., problem: _Optional[str] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("check_id", "severity", "user_id", "row", "observed", "expected", "since", "evidence")
    class RowEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class EvidenceEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CHECK_ID_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    check_id: str
    severity: Severity
    user_id: str
    row: _containers.ScalarMap[str, str]
    observed: str
    expected: str
    since: _timestamp_pb2.Timestamp
    evidence: _containers.ScalarMap[str, str]
    def __init__(self, check_id: _Optional[str] = ..., severity: _Optional[_Union[Severity, str]] = ..., user_id: _Optional[str] = ..., row: _Optional[_Mapping[str, str]] = ..., observed: _Optional[str] = ..., expected: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., evidence: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ListChecksRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListChecksResponse(_message.Message):
    __slots__ = ("checks", "repairs")
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    REPAIRS_FIELD_NUMBER: _ClassVar[int]
    checks: _containers.RepeatedCompositeFieldContainer[Check]
    repairs: _containers.RepeatedCompositeFieldContainer[Repair]
    def __init__(self, checks: _Optional[_Iterable[_Union[Check, _Mapping]]] = ..., repairs: _Optional[_Iterable[_Union[Repair, _Mapping]]] = ...) -> None: ...

class RunChecksRequest(_message.Message):
    __slots__ = ("check", "user_id", "min_severity", "resume_after")
    CHECK_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    MIN_SEVERITY_FIELD_NUMBER: _ClassVar[int]
    RESUME_AFTER_FIELD_NUMBER: _ClassVar[int]
    check: _containers.RepeatedScalarFieldContainer[str]
    user_id: str
    min_severity: Severity
    resume_after: str
    def __init__(self, check: _Optional[_Iterable[str]] = ..., user_id: _Optional[str] = ..., min_severity: _Optional[_Union[Severity, str]] = ..., resume_after: _Optional[str] = ...) -> None: ...

class RunChecksResponse(_message.Message):
    __slots__ = ("position", "finding", "progress")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    FINDING_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    position: str
    finding: Finding
    progress: CheckProgress
    def __init__(self, position: _Optional[str] = ..., finding: _Optional[_Union[Finding, _Mapping]] = ..., progress: _Optional[_Union[CheckProgress, _Mapping]] = ...) -> None: ...

class CheckProgress(_message.Message):
    __slots__ = ("check_id", "walked", "findings", "seconds", "done", "problem")
    CHECK_ID_FIELD_NUMBER: _ClassVar[int]
    WALKED_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    check_id: str
    walked: int
    findings: int
    seconds: float
    done: bool
    problem: str
    def __init__(self, check_id: _Optional[str] = ..., walked: _Optional[int] = ..., findings: _Optional[int] = ..., seconds: _Optional[float] = ..., done: _Optional[bool] = ..., problem: _Optional[str] = ...) -> None: ...

class PlanRepairRequest(_message.Message):
    __slots__ = ("check", "user_id", "reason", "repair")
    CHECK_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REPAIR_FIELD_NUMBER: _ClassVar[int]
    check: str
    user_id: str
    reason: str
    repair: str
    def __init__(self, check: _Optional[str] = ..., user_id: _Optional[str] = ..., reason: _Optional[str] = ..., repair: _Optional[str] = ...) -> None: ...

class PlanRepairResponse(_message.Message):
    __slots__ = ("plan", "rows")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    plan: Plan
    rows: _containers.RepeatedCompositeFieldContainer[PlannedRow]
    def __init__(self, plan: _Optional[_Union[Plan, _Mapping]] = ..., rows: _Optional[_Iterable[_Union[PlannedRow, _Mapping]]] = ...) -> None: ...

class Plan(_message.Message):
    __slots__ = ("plan_id", "hash", "state", "check", "repair", "user_id", "reason", "created_by", "created_at", "expires_at", "counts", "is_partial", "left_out")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Plan.State]
        PLANNED: _ClassVar[Plan.State]
        APPLYING: _ClassVar[Plan.State]
        APPLIED: _ClassVar[Plan.State]
        UNDOING: _ClassVar[Plan.State]
        UNDONE: _ClassVar[Plan.State]
    STATE_UNSPECIFIED: Plan.State
    PLANNED: Plan.State
    APPLYING: Plan.State
    APPLIED: Plan.State
    UNDOING: Plan.State
    UNDONE: Plan.State
    PLAN_ID_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CHECK_FIELD_NUMBER: _ClassVar[int]
    REPAIR_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    IS_PARTIAL_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    plan_id: str
    hash: str
    state: Plan.State
    check: str
    repair: str
    user_id: str
    reason: str
    created_by: str
    created_at: _timestamp_pb2.Timestamp
    expires_at: _timestamp_pb2.Timestamp
    counts: PlanCounts
    is_partial: bool
    left_out: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, plan_id: _Optional[str] = ..., hash: _Optional[str] = ..., state: _Optional[_Union[Plan.State, str]] = ..., check: _Optional[str] = ..., repair: _Optional[str] = ..., user_id: _Optional[str] = ..., reason: _Optional[str] = ..., created_by: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., counts: _Optional[_Union[PlanCounts, _Mapping]] = ..., is_partial: _Optional[bool] = ..., left_out: _Optional[_Iterable[str]] = ...) -> None: ...

class PlanCounts(_message.Message):
    __slots__ = ("rows", "applied", "skipped", "failed", "undone", "kept")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    UNDONE_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    rows: int
    applied: int
    skipped: int
    failed: int
    undone: int
    kept: int
    def __init__(self, rows: _Optional[int] = ..., applied: _Optional[int] = ..., skipped: _Optional[int] = ..., failed: _Optional[int] = ..., undone: _Optional[int] = ..., kept: _Optional[int] = ...) -> None: ...

class PlannedRow(_message.Message):
    __slots__ = ("unit", "ordinal", "user_id", "table", "before", "after", "outcome", "detail", "repair")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[PlannedRow.Outcome]
        WAITING: _ClassVar[PlannedRow.Outcome]
        APPLIED: _ClassVar[PlannedRow.Outcome]
        SKIPPED: _ClassVar[PlannedRow.Outcome]
        FAILED: _ClassVar[PlannedRow.Outcome]
        UNDONE: _ClassVar[PlannedRow.Outcome]
        KEPT: _ClassVar[PlannedRow.Outcome]
    OUTCOME_UNSPECIFIED: PlannedRow.Outcome
    WAITING: PlannedRow.Outcome
    APPLIED: PlannedRow.Outcome
    SKIPPED: PlannedRow.Outcome
    FAILED: PlannedRow.Outcome
    UNDONE: PlannedRow.Outcome
    KEPT: PlannedRow.Outcome
    UNIT_FIELD_NUMBER: _ClassVar[int]
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    REPAIR_FIELD_NUMBER: _ClassVar[int]
    unit: int
    ordinal: int
    user_id: str
    table: str
    before: _struct_pb2.Struct
    after: _struct_pb2.Struct
    outcome: PlannedRow.Outcome
    detail: str
    repair: str
    def __init__(self, unit: _Optional[int] = ..., ordinal: _Optional[int] = ..., user_id: _Optional[str] = ..., table: _Optional[str] = ..., before: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., after: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., outcome: _Optional[_Union[PlannedRow.Outcome, str]] = ..., detail: _Optional[str] = ..., repair: _Optional[str] = ...) -> None: ...

class ListPlansRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListPlansResponse(_message.Message):
    __slots__ = ("plans", "next_page_token")
    PLANS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    plans: _containers.RepeatedCompositeFieldContainer[Plan]
    next_page_token: str
    def __init__(self, plans: _Optional[_Iterable[_Union[Plan, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetPlanRequest(_message.Message):
    __slots__ = ("plan_id", "page_size", "page_token")
    PLAN_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    plan_id: str
    page_size: int
    page_token: str
    def __init__(self, plan_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class GetPlanResponse(_message.Message):
    __slots__ = ("rows", "next_page_token", "plan")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[PlannedRow]
    next_page_token: str
    plan: Plan
    def __init__(self, rows: _Optional[_Iterable[_Union[PlannedRow, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., plan: _Optional[_Union[Plan, _Mapping]] = ...) -> None: ...

class ApplyRepairRequest(_message.Message):
    __slots__ = ("plan_id", "hash")
    PLAN_ID_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    plan_id: str
    hash: str
    def __init__(self, plan_id: _Optional[str] = ..., hash: _Optional[str] = ...) -> None: ...

class ApplyRepairResponse(_message.Message):
    __slots__ = ("plan", "rows")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    plan: Plan
    rows: _containers.RepeatedCompositeFieldContainer[PlannedRow]
    def __init__(self, plan: _Optional[_Union[Plan, _Mapping]] = ..., rows: _Optional[_Iterable[_Union[PlannedRow, _Mapping]]] = ...) -> None: ...

class UndoRepairRequest(_message.Message):
    __slots__ = ("plan_id", "hash")
    PLAN_ID_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    plan_id: str
    hash: str
    def __init__(self, plan_id: _Optional[str] = ..., hash: _Optional[str] = ...) -> None: ...

class UndoRepairResponse(_message.Message):
    __slots__ = ("plan", "rows")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    plan: Plan
    rows: _containers.RepeatedCompositeFieldContainer[PlannedRow]
    def __init__(self, plan: _Optional[_Union[Plan, _Mapping]] = ..., rows: _Optional[_Iterable[_Union[PlannedRow, _Mapping]]] = ...) -> None: ...
