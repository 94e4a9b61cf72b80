"""What a request may say, over HTTP: bodies, path and query, each refusal naming the field."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from typing import Any

import pytest

from protos.session.v1 import sessions_pb2
from tests.gateway.backend import Backend
from tests.gateway.running import Answer, Gateway


async def start(gateway: Gateway, data: Any, **options: Any) -> Answer:
    return await gateway.request("POST", "/v1/sessions", data=data, **options)


def admin(gateway: Gateway) -> str:
    return gateway.identity.token("root", ("admin",))


async def test_a_body_becomes_the_message(gateway: Gateway, backend: Backend) -> None:
    answer = await gateway.request(
        "POST",
        "/v1/sessions",
        body={"testId": "physics-01", "title": "Übung", "durationMinutes": "30", "metadata": {"a": "b"}},
    )
    assert answer.status == 201
    assert backend.only_item.request == sessions_pb2.CreateSessionRequest(
        test_id="physics-01", title="Übung", duration_minutes=30, metadata={"a": "b"}
    )


@pytest.mark.parametrize(
    ("data", "field", "says"),
    [
        (b'{"testId": 5}', "testId", "must be a string"),
        (b'{"testId": ["a"]}', "testId", "must be a string"),
        (b'{"testId": {}}', "testId", "must be a string"),
        (b'{"testId": "t", "metadata": {"a": 1}}', "metadata.a", "must be a string"),
        (b'{"testId": "t", "metadata": "a"}', "metadata", "must be an object"),
        (b'{"testId": "t", "metadata": [["a", "b"]]}', "metadata", "must be an object"),
        (b'{"testId": "t", "durationMinutes": "soon"}', "durationMinutes", "must be a whole number"),
        (b'{"testId": "t", "durationMinutes": 1e99}', "durationMinutes", "must be a whole number"),
        (b'{"testId": "t", "userId": "eve"}', "userId", "is not a known field"),
        (b'{"testId": "t", "metadata": {"a": {"b": "c"}}}', "metadata.a", "must be a string"),
        (b'{"testId": "t", "testId": "u"}', "testId", "is given twice"),
        (b'{"testId": "t", "metadata": {"a": "1", "a": "2"}}', "metadata.a", "is given twice"),
        (b'{"testId": "t", "test_id": "u"}', "test_id", "is given twice"),
        (b'{"testId": NaN}', "testId", "must not be NaN"),
        (b'{"testId": "t", "metadata": {"x": -Infinity}}', "metadata.x", "must not be -Infinity"),
        (b'{"testId": ' + b"1" * 5000 + b"}", "testId", "is a number with too many digits"),
        (b'{"testId": "a\\u0000b"}', "testId", "must not contain the character NUL"),
        (b'{"testId": "\\ud800"}', "testId", "must be valid Unicode"),
        (b'{"testId": "t", "title": ""}', "title", "at least 1"),
        (b'{"testId": "t", "durationMinutes": 0}', "durationMinutes", "greater than or equal to 1"),
        (b"{}", "testId", "at least 1"),
        (b"", "testId", "at least 1"),
        (b"[]", "", "must be a JSON object"),
        (b"null", "", "must be a JSON object"),
        (b'"x"', "", "must be a JSON object"),
        (b'{"testId": "t"} x', "", "not JSON: Extra data (line 1, column 17)"),
        (b'{"testId": "t"}{"testId": "t"}', "", "not JSON: Extra data"),
        (b'{"testId": "t",\n}', "", "not JSON"),
        (b"{'testId': 't'}", "", "not JSON"),
        (b'{"testId": "t', "", "not JSON"),
        (b'{"testId": "a\nb"}', "", "not JSON"),
        (b"testId=t", "", "not JSON"),
        (b'\xef\xbb\xbf{"testId": "t"}', "", "not JSON"),
        (b'{"testId": "\xff"}', "", "not UTF-8"),
        (b'{"testId": "\xed\xa0\x80"}', "", "not UTF-8"),
        (b"[" * 60_000, "", "nested too deeply"),
        (b'{"a":' * 10_000, "", "nested too deeply"),
        (b'{"testId": ' + b"[" * 500 + b"]" * 500 + b"}", "", "nested too deeply"),
        (b'{"testId": ' + b"[" * 32 + b"]" * 32 + b"}", "", "nested too deeply"),
        (b'{"testId": ' + b"[" * 31 + b"]" * 31 + b"}", "testId", "must be a string"),
        (b'{"testId": NaN, x}', "", "not JSON"),
        (b'{"testId": NaN, "title": ' + b"[" * 50_000, "", "nested too deeply"),
        (b'{"testId": NaN, "title": ' + b"[" * 800 + b"]" * 800 + b"}", "testId", "must not be NaN"),
        (b"[" * 800 + b"NaN" + b"]" * 800, "", "nested too deeply"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, bytes) else "",
)
async def test_a_malformed_body_is_refused_naming_the_field(
    gateway: Gateway, backend: Backend, data: bytes, field: str, says: str
) -> None:
    answer = await start(gateway, data)
    assert answer.status == 400
    assert says in answer.fields[field]
    assert not backend.items


async def test_half_a_surrogate_pair_in_a_name_can_be_shown(gateway: Gateway, backend: Backend) -> None:
    answer = await start(gateway, b'{"\\ud800": 1, "testId": "t"}')
    assert answer.status == 400
    # Not as an escape: strict readers of JSON refuse half a pair.
    assert b'{"field": "?", "description": "is not a known field"}' in answer.body
    assert not backend.items


async def test_a_fault_inside_a_list_is_named_by_its_index(gateway: Gateway, backend: Backend) -> None:
    questions: list[dict[str, Any]] = [
        {"questionId": f"q{number}", "prompt": "?", "accepted": ["x"]} for number in range(5)
    ]
    questions[1]["accepted"] = ["x", 7]
    questions[3]["prompt"] = 5
    path = "/v1/tests/t1/questions:import"
    answer = await gateway.request("POST", path, body={"questions": questions}, token=admin(gateway))
    assert answer.fields == {
        "questions[1].accepted[1]": "must be a string",
        "questions[3].prompt": "must be a string",
    }
    questions[1]["accepted"] = []
    questions[3]["prompt"] = ""
    answer = await gateway.request("POST", path, body={"questions": questions}, token=admin(gateway))
    assert set(answer.fields) == {"questions[1].accepted", "questions[3].prompt"}
    assert not backend.items


async def test_only_the_first_faults_of_many_are_shown(gateway: Gateway, backend: Backend) -> None:
    answer = await gateway.request("POST", "/v1/sessions", body={f"{n}x" * 200: n for n in range(90)})
    assert len(answer.fields) == 20
    assert all(len(field) <= 300 for field in answer.fields)
    assert not backend.items


async def in_chunks(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 65536):
        yield data[at : at + 65536]


ORDINARY = 64 * 1024
IMPORT = 1024 * 1024
QUESTION = b'{"questions": [{"questionId": "q", "prompt": "?", "accepted": ["x"]}]}'


@pytest.mark.parametrize(
    ("route", "frame", "size_max"),
    [
        ("POST /v1/sessions", b'{"testId": "t"}', ORDINARY),
        ("PUT /v1/accounts/u1", b'{"email": "a@example.org"}', ORDINARY),
        ("POST /v1/sessions/s1:complete", b"{}", ORDINARY),
        ("POST /v1/tests/t/questions:import", QUESTION, IMPORT),
    ],
)
async def test_a_body_may_be_as_large_as_its_method_says_and_no_byte_larger(
    gateway: Gateway, backend: Backend, route: str, frame: bytes, size_max: int
) -> None:
    method, path = route.split(" ")
    token = gateway.identity.token("root", ("admin", "learner"))
    largest = frame + b" " * (size_max - len(frame))
    for fitting in (largest, in_chunks(largest)):
        answer = await gateway.request(method, path, data=fitting, token=token)
        assert answer.status in {200, 201}, answer.body
    assert len(backend.items) == 2
    huge = io.BytesIO(b"x" * 4 * size_max)
    for too_large in (io.BytesIO(largest + b" "), in_chunks(largest + b" "), huge):
        answer = await gateway.request(method, path, data=too_large, token=token)
        assert (answer.status, answer.reason) == (413, "PAYLOAD_TOO_LARGE")
        assert f"at most {size_max} bytes" in answer.json()["detail"]
    assert len(backend.items) == 2


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 201),
        ("application/json; charset=utf-8", 201),
        ('application/json;charset="UTF-8"', 201),
        ("APPLICATION/JSON", 201),
        ("application/merge-patch+json", 201),
        ("application/json; charset=utf-16", 415),
        ("application/json; charset=latin1", 415),
        ("application/jsonp", 415),
        ("text/json", 415),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/octet-stream", 415),
        ("application/grpc", 415),
        ("", 415),
    ],
)
async def test_a_body_must_be_json(
    gateway: Gateway, backend: Backend, content_type: str, status: int
) -> None:
    answer = await start(gateway, b'{"testId": "t"}', headers={"Content-Type": content_type})
    assert answer.status == status
    assert bool(backend.items) == (status == 201)
    if status == 415:
        assert answer.reason == "UNSUPPORTED_MEDIA_TYPE"


async def test_a_compressed_body_is_not_decompressed(gateway: Gateway, backend: Backend) -> None:
    for encoding in ("gzip", "deflate", "br"):
        answer = await start(gateway, b"\x1f\x8b", headers={"Content-Encoding": encoding})
        assert (answer.status, answer.reason) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert not backend.items


async def test_without_a_body_no_content_type_is_needed(gateway: Gateway, backend: Backend) -> None:
    for headers in ({}, {"Content-Type": "text/plain"}):
        assert (await gateway.request("POST", "/v1/sessions/s1:complete", headers=headers)).status == 200
    assert [item.request.session_id for item in backend.items] == ["s1", "s1"]


async def test_a_get_takes_no_body(gateway: Gateway, backend: Backend) -> None:
    answer = await gateway.request("GET", "/v1/sessions", body={"testId": "t"})
    assert "takes no body" in answer.fields[""]
    assert not backend.items


@pytest.mark.parametrize("name", ["userId", "user_id"])
@pytest.mark.parametrize("value", ["bob", "eve", None])
async def test_the_body_must_not_have_a_field_of_the_path(
    gateway: Gateway, backend: Backend, name: str, value: Any
) -> None:
    answer = await gateway.request(
        "POST",
        "/v1/accounts/bob/credits",
        token=admin(gateway),
        body={name: value, "amount": 5, "reason": "gift"},
    )
    assert answer.fields == {"userId": "is given by the path"}
    assert not backend.items


async def test_path_variables_fill_the_message(gateway: Gateway, backend: Backend) -> None:
    await gateway.request(
        "POST",
        "/v1/accounts/l%C3%A4ufer%2F1/licenses/math:advance",
        token=admin(gateway),
        body={"toLevel": 2, "reason": "exam"},
    )
    request = backend.only_item.request
    assert (request.user_id, request.specialization, request.to_level) == ("läufer/1", "math", 2)


async def test_a_path_variable_is_validated_as_any_field(gateway: Gateway, backend: Backend) -> None:
    answer = await gateway.request("GET", "/v1/sessions/" + "x" * 129)
    assert "128" in answer.fields["sessionId"]
    assert "NUL" in (await gateway.request("GET", "/v1/sessions/a%00b")).fields["sessionId"]
    assert not backend.items


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {}),
        ("state=ACTIVE", {"state": sessions_pb2.Session.ACTIVE}),
        ("state=3", {"state": sessions_pb2.Session.COMPLETED}),
        ("pageSize=10&testId=t%201", {"page_size": 10, "test_id": "t 1"}),
        ("page_size=10&test_id=a+b", {"page_size": 10, "test_id": "a b"}),
        ("testId=", {"test_id": ""}),
        ("&&testId=x&", {"test_id": "x"}),
        ("testId=%F0%9F%8F%83", {"test_id": "🏃"}),
    ],
)
async def test_query_parameters_fill_the_message(
    gateway: Gateway, backend: Backend, query: str, expected: dict[str, Any]
) -> None:
    assert (await gateway.request("GET", "/v1/sessions?" + query)).status == 200
    assert backend.only_item.request == sessions_pb2.ListSessionsRequest(**expected)


@pytest.mark.parametrize(
    ("query", "field", "says"),
    [
        ("state=LIVE", "state", "must be one of ACTIVE, PAUSED"),
        ("state=", "state", "must be one of"),
        ("state=9", "state", "defined"),
        ("pageSize=ten", "pageSize", "must be a whole number"),
        ("pageSize=501", "pageSize", "500"),
        ("pageSize=1&pageSize=2", "pageSize", "more than once"),
        ("pageSize=1&page_size=2", "page_size", "more than once"),
        ("sort=asc", "sort", "is not a query parameter"),
        ("state.x=1", "state.x", "is not a query parameter"),
        ("=1", "", "is not a query parameter"),
        ("testId=a%00", "testId", "NUL"),
        ("testId=%ff", "", "must be UTF-8"),
        ("&".join("testId=1" for _ in range(300)), "", "at most 200 parameters"),
    ],
)
async def test_a_wrong_query_is_refused_naming_the_parameter(
    gateway: Gateway, backend: Backend, query: str, field: str, says: str
) -> None:
    answer = await gateway.request("GET", "/v1/sessions?" + query)
    assert says in answer.fields[field]
    assert not backend.items


async def test_the_query_must_not_have_a_field_of_the_path_or_the_body(
    gateway: Gateway, backend: Backend
) -> None:
    answer = await gateway.request("POST", "/v1/sessions?testId=t", body={})
    assert answer.fields["testId"] == "is not a query parameter of this request"
    answer = await gateway.request("GET", "/v1/sessions/s1?sessionId=s2")
    assert answer.fields["sessionId"] == "is not a query parameter of this request"
    assert not backend.items
