from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_LEARNER: _ClassVar[Role]
    ROLE_INSTRUCTOR: _ClassVar[Role]
    ROLE_ADMIN: _ClassVar[Role]
    ROLE_SERVICE: _ClassVar[Role]

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_HIGH: _ClassVar[Priority]
    PRIORITY_NORMAL: _ClassVar[Priority]
    PRIORITY_LOW: _ClassVar[Priority]

class RetriedRefusal(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RETRIED_REFUSAL_UNSPECIFIED: _ClassVar[RetriedRefusal]
    RETRIED_REFUSAL_UNAVAILABLE: _ClassVar[RetriedRefusal]
    RETRIED_REFUSAL_OVERLOADED: _ClassVar[RetriedRefusal]
ROLE_UNSPECIFIED: Role
ROLE_LEARNER: Role
ROLE_INSTRUCTOR: Role
ROLE_ADMIN: Role
ROLE_SERVICE: Role
PRIORITY_UNSPECIFIED: Priority
PRIORITY_HIGH: Priority
PRIORITY_NORMAL: Priority
PRIORITY_LOW: Priority
RETRIED_REFUSAL_UNSPECIFIED: RetriedRefusal
RETRIED_REFUSAL_UNAVAILABLE: RetriedRefusal
RETRIED_REFUSAL_OVERLOADED: RetriedRefusal
POLICY_FIELD_NUMBER: _ClassVar[int]
policy: _descriptor.FieldDescriptor

class MethodPolicy(_message.Message):
    __slots__ = ("roles", "key_required", "created_unless", "shed_last", "body_bytes_max", "retry", "priority", "refusals", "etag", "if_match", "csv_of", "token_in_body", "event_id", "resumes_from", "event_of", "owner_in_path")
    ROLES_FIELD_NUMBER: _ClassVar[int]
    KEY_REQUIRED_FIELD_NUMBER: _ClassVar[int]
    CREATED_UNLESS_FIELD_NUMBER: _ClassVar[int]
    SHED_LAST_FIELD_NUMBER: _ClassVar[int]
    BODY_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    IF_MATCH_FIELD_NUMBER: _ClassVar[int]
    CSV_OF_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IN_BODY_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    RESUMES_FROM_FIELD_NUMBER: _ClassVar[int]
    EVENT_OF_FIELD_NUMBER: _ClassVar[int]
    OWNER_IN_PATH_FIELD_NUMBER: _ClassVar[int]
    roles: _containers.RepeatedScalarFieldContainer[Role]
    key_required: bool
    created_unless: str
    shed_last: bool
    body_bytes_max: int
    retry: RetryPolicy
    priority: Priority
    refusals: _containers.RepeatedScalarFieldContainer[str]
    etag: str
    if_match: str
    csv_of: str
    token_in_body: str
    event_id: str
    resumes_from: str
    event_of: str
    owner_in_path: str
    def __init__(self, roles: _Optional[_Iterable[_Union[Role, str]]] = ..., key_required: _Optional[bool] = ..., created_unless: _Optional[str] = ..., shed_last: _Optional[bool] = ..., body_bytes_max: _Optional[int] = ..., retry: _Optional[_Union[RetryPolicy, _Mapping]] = ..., priority: _Optional[_Union[Priority, str]] = ..., refusals: _Optional[_Iterable[str]] = ..., etag: _Optional[str] = ..., if_match: _Optional[str] = ..., csv_of: _Optional[str] = ..., token_in_body: _Optional[str] = ..., event_id: _Optional[str] = ..., resumes_from: _Optional[str] = ..., event_of: _Optional[str] = ..., owner_in_path: _Optional[str] = ...) -> None: ...

class RetryPolicy(_message.Message):
    __slots__ = ("attempts_max", "backoff_ms_max", "after")
    ATTEMPTS_MAX_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_MS_MAX_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    attempts_max: int
    backoff_ms_max: int
    after: _containers.RepeatedScalarFieldContainer[RetriedRefusal]
    def __init__(self, attempts_max: _Optional[int] = ..., backoff_ms_max: _Optional[int] = ..., after: _Optional[_Iterable[_Union[RetriedRefusal, str]]] = ...) -> None: ...
