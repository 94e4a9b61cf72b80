from protos.buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from protos.chassis.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Test(_message.Message):
    __slots__ = ("test_id", "title", "kind", "difficulty", "question_count", "time_limit_seconds", "max_attempts", "credit_cost", "counts_toward_daily_limit", "pass_score", "specialization", "xp", "min_engaged_seconds", "identity_checks")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Test.Kind]
        PRACTICE: _ClassVar[Test.Kind]
        MOCK: _ClassVar[Test.Kind]
        QUIZ: _ClassVar[Test.Kind]
        COMPLIANCE: _ClassVar[Test.Kind]
        INTERVIEW: _ClassVar[Test.Kind]
    KIND_UNSPECIFIED: Test.Kind
    PRACTICE: Test.Kind
    MOCK: Test.Kind
    QUIZ: Test.Kind
    COMPLIANCE: Test.Kind
    INTERVIEW: Test.Kind
    TEST_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DIFFICULTY_FIELD_NUMBER: _ClassVar[int]
    QUESTION_COUNT_FIELD_NUMBER: _ClassVar[int]
    TIME_LIMIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    CREDIT_COST_FIELD_NUMBER: _ClassVar[int]
    COUNTS_TOWARD_DAILY_LIMIT_FIELD_NUMBER: _ClassVar[int]
    PASS_SCORE_FIELD_NUMBER: _ClassVar[int]
    SPECIALIZATION_FIELD_NUMBER: _ClassVar[int]
    XP_FIELD_NUMBER: _ClassVar[int]
    MIN_ENGAGED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_CHECKS_FIELD_NUMBER: _ClassVar[int]
    test_id: str
    title: str
    kind: Test.Kind
    difficulty: str
    question_count: int
    time_limit_seconds: int
    max_attempts: int
    credit_cost: int
    counts_toward_daily_limit: bool
    pass_score: float
    specialization: str
    xp: int
    min_engaged_seconds: int
    identity_checks: int
    def __init__(self, test_id: _Optional[str] = ..., title: _Optional[str] = ..., kind: _Optional[_Union[Test.Kind, str]] = ..., difficulty: _Optional[str] = ..., question_count: _Optional[int] = ..., time_limit_seconds: _Optional[int] = ..., max_attempts: _Optional[int] = ..., credit_cost: _Optional[int] = ..., counts_toward_daily_limit: _Optional[bool] = ..., pass_score: _Optional[float] = ..., specialization: _Optional[str] = ..., xp: _Optional[int] = ..., min_engaged_seconds: _Optional[int] = ..., identity_checks: _Optional[int] = ...) -> None: ...

class PutTestRequest(_message.Message):
    __slots__ = ("test_id", "title", "kind", "difficulty", "question_count", "time_limit_seconds", "max_attempts", "credit_cost", "counts_toward_daily_limit", "pass_score", "specialization", "xp", "min_engaged_seconds", "identity_checks")
    TEST_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DIFFICULTY_FIELD_NUMBER: _ClassVar[int]
    QUESTION_COUNT_FIELD_NUMBER: _ClassVar[int]
    TIME_LIMIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    CREDIT_COST_FIELD_NUMBER: _ClassVar[int]
    COUNTS_TOWARD_DAILY_LIMIT_FIELD_NUMBER: _ClassVar[int]
    PASS_SCORE_FIELD_NUMBER: _ClassVar[int]
    SPECIALIZATION_FIELD_NUMBER: _ClassVar[int]
    XP_FIELD_NUMBER: _ClassVar[int]
    MIN_ENGAGED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_CHECKS_FIELD_NUMBER: _ClassVar[int]
    test_id: str
    title: str
    kind: Test.Kind
    difficulty: str
    question_count: int
    time_limit_seconds: int
    max_attempts: int
    credit_cost: int
    counts_toward_daily_limit: bool
    pass_score: float
    specialization: str
    xp: int
    min_engaged_seconds: int
    identity_checks: int
    def __init__(self, test_id: _Optional[str] = ..., title: _Optional[str] = ..., kind: _Optional[_Union[Test.Kind, str]] = ..., difficulty: _Optional[str] = ..., question_count: _Optional[int] = ..., time_limit_seconds: _Optional[int] = ..., max_attempts: _Optional[int] = ..., credit_cost: _Optional[int] = ..., counts_toward_daily_limit: _Optional[bool] = ..., pass_score: _Optional[float] = ..., specialization: _Optional[str] = ..., xp: _Optional[int] = ..., min_engaged_seconds: _Optional[int] = ..., identity_checks: _Optional[int] = ...) -> None: ...

class PutTestResponse(_message.Message):
    __slots__ = ("test",)
    TEST_FIELD_NUMBER: _ClassVar[int]
    test: Test
    def __init__(self, test: _Optional[_Union[Test, _Mapping]] = ...) -> None: ...

class GetTestRequest(_message.Message):
    __slots__ = ("test_id",)
    TEST_ID_FIELD_NUMBER: _ClassVar[int]
    test_id: str
    def __init__(self, test_id: _Optional[str] = ...) -> None: ...

class GetTestResponse(_message.Message):
    __slots__ = ("test",)
    TEST_FIELD_NUMBER: _ClassVar[int]
    test: Test
    def __init__(self, test: _Optional[_Union[Test, _Mapping]] = ...) -> None: ...

class ListTestsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListTestsResponse(_message.Message):
    __slots__ = ("tests", "next_page_token")
    TESTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    tests: _containers.RepeatedCompositeFieldContainer[Test]
    next_page_token: str
    def __init__(self, tests: _Optional[_Iterable[_Union[Test, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ImportedQuestion(_message.Message):
    __slots__ = ("question_id", "prompt", "choices", "accepted", "difficulty", "subject")
    QUESTION_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    DIFFICULTY_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    question_id: str
    prompt: str
    choices: _containers.RepeatedScalarFieldContainer[str]
    accepted: _containers.RepeatedScalarFieldContainer[str]
    difficulty: str
    subject: str
    def __init__(self, question_id: _Optional[str] = ..., prompt: _Optional[str] = ..., choices: _Optional[_Iterable[str]] = ..., accepted: _Optional[_Iterable[str]] = ..., difficulty: _Optional[str] = ..., subject: _Optional[str] = ...) -> None: ...

class ImportQuestionsRequest(_message.Message):
    __slots__ = ("test_id", "questions")
    TEST_ID_FIELD_NUMBER: _ClassVar[int]
    QUESTIONS_FIELD_NUMBER: _ClassVar[int]
    test_id: str
    questions: _containers.RepeatedCompositeFieldContainer[ImportedQuestion]
    def __init__(self, test_id: _Optional[str] = ..., questions: _Optional[_Iterable[_Union[ImportedQuestion, _Mapping]]] = ...) -> None: ...

class ImportQuestionsResponse(_message.Message):
    __slots__ = ("created", "updated", "unchanged", "total")
    CREATED_FIELD_NUMBER: _ClassVar[int]
    UPDATED_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    created: int
    updated: int
    unchanged: int
    total: int
    def __init__(self, created: _Optional[int] = ..., updated: _Optional[int] = ..., unchanged: _Optional[int] = ..., total: _Optional[int] = ...) -> None: ...
