from protos.buf.validate import validate_pb2 as _validate_pb2
from protos.chassis.v1 import options_pb2 as _options_pb2
from protos.subscription.v1 import accounts_pb2 as _accounts_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReadEntitlementChangesRequest(_message.Message):
    __slots__ = ("user_ids",)
    USER_IDS_FIELD_NUMBER: _ClassVar[int]
    user_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, user_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ReadEntitlementChangesResponse(_message.Message):
    __slots__ = ("learners",)
    LEARNERS_FIELD_NUMBER: _ClassVar[int]
    learners: _containers.RepeatedCompositeFieldContainer[EntitlementChange]
    def __init__(self, learners: _Optional[_Iterable[_Union[EntitlementChange, _Mapping]]] = ...) -> None: ...

class EntitlementChange(_message.Message):
    __slots__ = ("failed", "fingerprint", "plan_id", "status")
    FAILED_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    PLAN_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    failed: bool
    fingerprint: bytes
    plan_id: str
    status: _accounts_pb2.Subscription.Status
    def __init__(self, failed: _Optional[bool] = ..., fingerprint: _Optional[bytes] = ..., plan_id: _Optional[str] = ..., status: _Optional[_Union[_accounts_pb2.Subscription.Status, str]] = ...) -> None: ...
