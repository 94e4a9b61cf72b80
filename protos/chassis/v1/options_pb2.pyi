from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_LEARNER: _ClassVar[Role]
    ROLE_INSTRUCTOR: _ClassVar[Role]
    ROLE_ADMIN: _ClassVar[Role]
    ROLE_SERVICE: _ClassVar[Role]
ROLE_UNSPECIFIED: Role
ROLE_LEARNER: Role
ROLE_INSTRUCTOR: Role
ROLE_ADMIN: Role
ROLE_SERVICE: Role
POLICY_FIELD_NUMBER: _ClassVar[int]
policy: _descriptor.FieldDescriptor

class MethodPolicy(_message.Message):
    __slots__ = ("roles", "key_required", "created_unless", "shed_last", "body_bytes_max", "token_in_body")
    ROLES_FIELD_NUMBER: _ClassVar[int]
    KEY_REQUIRED_FIELD_NUMBER: _ClassVar[int]
    CREATED_UNLESS_FIELD_NUMBER: _ClassVar[int]
    SHED_LAST_FIELD_NUMBER: _ClassVar[int]
    BODY_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IN_BODY_FIELD_NUMBER: _ClassVar[int]
    roles: _containers.RepeatedScalarFieldContainer[Role]
    key_required: bool
    created_unless: str
    shed_last: bool
    body_bytes_max: int
    token_in_body: str
    def __init__(self, roles: _Optional[_Iterable[_Union[Role, str]]] = ..., key_required: _Optional[bool] = ..., created_unless: _Optional[str] = ..., shed_last: _Optional[bool] = ..., body_bytes_max: _Optional[int] = ..., token_in_body: _Optional[str] = ...) -> None: ...
