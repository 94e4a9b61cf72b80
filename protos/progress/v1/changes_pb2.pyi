from protos.buf.validate import validate_pb2 as _validate_pb2
from protos.chassis.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReadProgressChangesRequest(_message.Message):
    __slots__ = ("user_ids",)
    USER_IDS_FIELD_NUMBER: _ClassVar[int]
    user_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, user_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ReadProgressChangesResponse(_message.Message):
    __slots__ = ("learners",)
    LEARNERS_FIELD_NUMBER: _ClassVar[int]
    learners: _containers.RepeatedCompositeFieldContainer[ProgressChange]
    def __init__(self, learners: _Optional[_Iterable[_Union[ProgressChange, _Mapping]]] = ...) -> None: ...

class ProgressChange(_message.Message):
    __slots__ = ("failed", "version")
    FAILED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    failed: bool
    version: int
    def __init__(self, failed: _Optional[bool] = ..., version: _Optional[int] = ...) -> None: ...
