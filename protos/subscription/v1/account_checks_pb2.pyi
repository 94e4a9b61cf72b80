from protos.buf.validate import validate_pb2 as _validate_pb2
from protos.chassis.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CheckAccountsRequest(_message.Message):
    __slots__ = ("user_ids",)
    USER_IDS_FIELD_NUMBER: _ClassVar[int]
    user_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, user_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class CheckAccountsResponse(_message.Message):
    __slots__ = ("accounts",)
    class Account(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ACCOUNT_UNSPECIFIED: _ClassVar[CheckAccountsResponse.Account]
        NOT_ACTIVE: _ClassVar[CheckAccountsResponse.Account]
        UNVERIFIED: _ClassVar[CheckAccountsResponse.Account]
        VERIFIED: _ClassVar[CheckAccountsResponse.Account]
    ACCOUNT_UNSPECIFIED: CheckAccountsResponse.Account
    NOT_ACTIVE: CheckAccountsResponse.Account
    UNVERIFIED: CheckAccountsResponse.Account
    VERIFIED: CheckAccountsResponse.Account
    ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    accounts: _containers.RepeatedScalarFieldContainer[CheckAccountsResponse.Account]
    def __init__(self, accounts: _Optional[_Iterable[_Union[CheckAccountsResponse.Account, str]]] = ...) -> None: ...
