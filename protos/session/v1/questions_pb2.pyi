from protos.buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from protos.chassis.v1 import options_pb2 as _options_pb2
from protos.session.v1 import tests_pb2 as _tests_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListQuestionsRequest(_message.Message):
    __slots__ = ("test_id", "page_size", "page_token")
    TEST_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    test_id: str
    page_size: int
    page_token: str
    def __init__(self, test_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListQuestionsResponse(_message.Message):
    __slots__ = ("questions", "next_page_token")
    QUESTIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    questions: _containers.RepeatedCompositeFieldContainer[_tests_pb2.ImportedQuestion]
    next_page_token: str
    def __init__(self, questions: _Optional[_Iterable[_Union[_tests_pb2.ImportedQuestion, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
