import datetime

from protos.buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from protos.chassis.v1 import options_pb2 as _options_pb2
from protos.session.v1 import presence_pb2 as _presence_pb2
from protos.session.v1 import sessions_pb2 as _sessions_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Operation(_message.Message):
    __slots__ = ("op_id", "answer", "complete", "heartbeat")
    class Answer(_message.Message):
        __slots__ = ("question_id", "choice", "occurred_at")
        QUESTION_ID_FIELD_NUMBER: _ClassVar[int]
        CHOICE_FIELD_NUMBER: _ClassVar[int]
        OCCURRED_AT_FIELD_NUMBER: _ClassVar[int]
        question_id: str
        choice: str
        occurred_at: _timestamp_pb2.Timestamp
        def __init__(self, question_id: _Optional[str] = ..., choice: _Optional[str] = ..., occurred_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
    class Heartbeat(_message.Message):
        __slots__ = ("seq", "visible", "occurred_at")
        SEQ_FIELD_NUMBER: _ClassVar[int]
        VISIBLE_FIELD_NUMBER: _ClassVar[int]
        OCCURRED_AT_FIELD_NUMBER: _ClassVar[int]
        seq: int
        visible: bool
        occurred_at: _timestamp_pb2.Timestamp
        def __init__(self, seq: _Optional[int] = ..., visible: _Optional[bool] = ..., occurred_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
    class Complete(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    OP_ID_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    op_id: str
    answer: Operation.Answer
    complete: Operation.Complete
    heartbeat: Operation.Heartbeat
    def __init__(self, op_id: _Optional[str] = ..., answer: _Optional[_Union[Operation.Answer, _Mapping]] = ..., complete: _Optional[_Union[Operation.Complete, _Mapping]] = ..., heartbeat: _Optional[_Union[Operation.Heartbeat, _Mapping]] = ...) -> None: ...

class OperationResult(_message.Message):
    __slots__ = ("op_id", "status", "reason", "detail", "retryable", "answer", "session", "heartbeat")
    class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATUS_UNSPECIFIED: _ClassVar[OperationResult.Status]
        APPLIED: _ClassVar[OperationResult.Status]
        DUPLICATE: _ClassVar[OperationResult.Status]
        CONFLICT: _ClassVar[OperationResult.Status]
        REFUSED: _ClassVar[OperationResult.Status]
    STATUS_UNSPECIFIED: OperationResult.Status
    APPLIED: OperationResult.Status
    DUPLICATE: OperationResult.Status
    CONFLICT: OperationResult.Status
    REFUSED: OperationResult.Status
    OP_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    op_id: str
    status: OperationResult.Status
    reason: str
    detail: str
    retryable: bool
    answer: _sessions_pb2.AnswerQuestionResponse
    session: _sessions_pb2.Session
    heartbeat: _presence_pb2.RecordHeartbeatResponse
    def __init__(self, op_id: _Optional[str] = ..., status: _Optional[_Union[OperationResult.Status, str]] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ..., retryable: _Optional[bool] = ..., answer: _Optional[_Union[_sessions_pb2.AnswerQuestionResponse, _Mapping]] = ..., session: _Optional[_Union[_sessions_pb2.Session, _Mapping]] = ..., heartbeat: _Optional[_Union[_presence_pb2.RecordHeartbeatResponse, _Mapping]] = ...) -> None: ...

class UploadOperationsRequest(_message.Message):
    __slots__ = ("session_id", "operations")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    operations: _containers.RepeatedCompositeFieldContainer[Operation]
    def __init__(self, session_id: _Optional[str] = ..., operations: _Optional[_Iterable[_Union[Operation, _Mapping]]] = ...) -> None: ...

class UploadOperationsResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[OperationResult]
    def __init__(self, results: _Optional[_Iterable[_Union[OperationResult, _Mapping]]] = ...) -> None: ...
