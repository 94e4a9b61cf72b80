from protos.buf.validate import validate_pb2 as _validate_pb2
from protos.chassis.v1 import options_pb2 as _options_pb2
from protos.subscription.v1 import holds_pb2 as _holds_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HoldName(_message.Message):
    __slots__ = ("user_id", "hold_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    HOLD_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    hold_id: str
    def __init__(self, user_id: _Optional[str] = ..., hold_id: _Optional[str] = ...) -> None: ...

class FindHoldsRequest(_message.Message):
    __slots__ = ("holds",)
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    holds: _containers.RepeatedCompositeFieldContainer[HoldName]
    def __init__(self, holds: _Optional[_Iterable[_Union[HoldName, _Mapping]]] = ...) -> None: ...

class FindHoldsResponse(_message.Message):
    __slots__ = ("holds",)
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    holds: _containers.RepeatedCompositeFieldContainer[_holds_pb2.Hold]
    def __init__(self, holds: _Optional[_Iterable[_Union[_holds_pb2.Hold, _Mapping]]] = ...) -> None: ...
