"""Rude requests for every public operation: each is polite but for one value, and that value is extreme."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from chassis.rpc.methods import Method
from gateway.contract import public_methods
from gateway.http_rules import HttpRule, rules_of

ROLES = ("learner", "instructor", "admin")
RUDE = "rude"
TEST = "rude-test"

# A polite body of each operation that takes one. A new operation must be added here.
BODIES: dict[str, dict[str, Any]] = {
    "CreateSession": {"testId": TEST},
    "AnswerQuestion": {"questionId": "q1", "choice": "2"},
    "CompleteSession": {},
    "AbandonSession": {},
    "PutTest": {"title": "Rude", "kind": "PRACTICE", "countsTowardDailyLimit": True, "questionCount": 1},
    "ImportQuestions": {"questions": [{"questionId": "q1", "prompt": "1 + 1?", "accepted": ["2"]}]},
    "PutAccount": {"email": "rude@example.org", "displayName": "Rude", "emailVerified": True},
    "SetSubscription": {"planId": "free", "status": "ACTIVE"},
    "PutPlan": {"name": "Rude", "dailyTestLimit": 5},
    "AdjustCredits": {"amount": 1, "reason": "rude"},
    "AdvanceLicense": {"toLevel": 1, "reason": "rude"},
    "PauseSession": {},
    "ResumeSession": {},
    "RecordHeartbeat": {"seq": 1, "visible": True},
    "LeaveSession": {},
    "UploadOperations": {"operations": [{"opId": "o1", "answer": {"questionId": "q1", "choice": "2"}}]},
    "CloseAccountSession": {"reason": "rude"},
    "PutIdentityQuestions": {"questions": [{"prompt": f"Pet {n}?", "answer": "Rex"} for n in range(3)]},
    "AnswerIdentityCheck": {"checkId": "1", "answer": "Rex"},
    "ReleaseSession": {"reason": "rude"},
    "PutCourse": {
        "title": "Rude",
        "modules": [
            {"moduleId": "rude-module", "title": "Rude", "lessons": [{"lessonId": "1", "title": "A"}]}
        ],
    },
    "Enroll": {},
    "CompleteLesson": {},
    "PutWatched": {"ranges": [{"fromSeconds": 0, "toSeconds": 1}], "opId": "o1"},
    "ResetProgress": {"scope": {"specialization": "rude-arts"}, "reason": "rude"},
    "PutSpecialization": {"name": "Rude", "levels": [{"level": 1, "name": "First", "xpRequired": 0}]},
    "SyncUser": {"direction": "PROGRESS_TO_LICENSE"},
    "PlanRepair": {"check": "environment.nothing", "reason": "rude"},
    "ApplyRepair": {"hash": "0" * 64},
    "UndoRepair": {"hash": "0" * 64},
    "SyncAll": {"direction": "PROGRESS_TO_LICENSE", "specialization": "rude-arts"},
}
# What stands in the path of a polite request; a variable may mean something else for one operation.
VARIABLES = {
    "GetPlan.plan_id": "0190a7f0-0000-7000-8000-000000000002",
    "ApplyRepair.plan_id": "0190a7f0-0000-7000-8000-000000000002",
    "UndoRepair.plan_id": "0190a7f0-0000-7000-8000-000000000002",
    "user_id": RUDE,
    "test_id": TEST,
    "plan_id": "rude-plan",
    "specialization": "rude-arts",
    "session_id": "0190a7f0-0000-7000-8000-000000000000",
    "run_id": "0190a7f0-0000-7000-8000-000000000001",
    "course_id": "rude-course",
    "module_id": "rude-module",
    "lesson_id": "1",
}

_LONG = "\U0001f600" * 12_000  # 48,000 bytes as UTF-8
# JSON texts, not values: some of them no JSON library writes.
VALUES = (
    *("null", "true", "0", "-0", "-1", "1.5", "1e-400", "1e400", "2147483647", "2147483648", "-2147483649"),
    *("9223372036854775807", "9223372036854775808", "18446744073709551616", "1" * 5000, "0." + "3" * 5000),
    *("NaN", "Infinity", "-Infinity", '"NaN"', '"Infinity"', '"-Infinity"', '"1e9"', '"0x10"', '"\u0661"'),
    *('""', '" "', '"\\u0000"', '"a\\u0000b"', '"\\ud800"', '"\\udc00\\ud800"', '"\\u202e\\ufeff"', '"%00"'),
    *(json.dumps(_LONG, ensure_ascii=False), json.dumps("x" * 60_000), '"' + "\\\\" * 20_000 + '"'),
    *(
        "[]",
        "{}",
        "[[]]",
        '[""]',
        "[null]",
        '{"":""}',
        '{"a":{"a":{}}}',
        '{"a":"\\u0000"}',
        '{"\\u0000":"a"}',
    ),
    *("[" * 3000 + "]" * 3000, '{"a":' * 3000 + "1" + "}" * 3000, "[" + "0," * 20_000 + "0]"),
    *("[" + '"\\u0000",' * 2000 + '"a"]', "[" + "{}," * 10_000 + "{}]"),
    "{" + ",".join(f'"k{number}":"{number}"' for number in range(3000)) + "}",
    "{" + ",".join(f'"{number:0100d}":"{"v" * 1000}"' for number in range(32)) + "}",
    *('"0001-01-01T00:00:00Z"', '"0000-01-01T00:00:00Z"', '"1969-12-31T23:59:59.999999999Z"', '"infinity"'),
    *('"1999-12-31T23:59:59.999999999Z"', '"2000-01-01T00:00:00Z"', '"2099-12-31T23:59:59.999999999Z"'),
    *('"2100-01-01T00:00:00Z"', '"9999-12-31T23:59:59.999999999Z"', '"10000-01-01T00:00:00Z"'),
    *('"2024-02-30T00:00:00Z"', '"2024-12-31T23:59:60Z"', '"2024-06-01T00:00:00+23:59"', '"-infinity"'),
    '{"seconds": 9999999999999, "nanos": 1000000000}',
    *('"RUDE@EXAMPLE.ORG"', '"rudé@exämple.org"', '"ﬀ@example.org"', '"İ@example.org"', '"K@example.org"'),
    *(
        '"' + "a" * 245 + '@x.org"',
        '"a@' + "b." * 120 + 'org"',
        '"ROLE_ADMIN"',
        '"STATUS_UNSPECIFIED"',
        '"99"',
    ),
)
# The body as a whole.
BODY_BYTES = (
    *(b"", b" ", b"{", b"}", b"[]", b"null", b'""', b"1", b"{}{}", b"{},", b"\xff\xfe", b"\xef\xbb\xbf{}"),
    *(b'{"a":1,"a":2}', b'{"":1}', b'{"\\ud800":1}', b'{"\\u0000":1}', b"\x00" * 1000, b"\xed\xa0\x80"),
    *(b"[" * 60_000, b'{"a":' * 12_000, b'{"' + b"k" * 60_000 + b'":[0,0,0,NaN]}', b"{}" + b" " * 60_000),
    b"{" + b",".join(b'"%d":0' % number for number in range(6000)) + b"}",
    b'{"' + b"k" * 30_000 + b'":[' + b"NaN," * 7000 + b"0]}",
    b"{" + b'"x":' + b"9" * 60_000 + b"}",
    b'{"' + b"k" * 524_288 + b'":[' + b"0," * 200_000 + b"NaN]}",
    b"x" * 1_100_000,
)
# Percent-encoded, as they stand in the path.
PATH_TEXTS = (
    *("%00", "a%00b", "%ff", "%ED%A0%80", "%", "%zz", "%2F", "..", "%2e%2e", "a%20b", "%F0%9F%98%80" * 40),
    *("x" * 128, "x" * 129, "x" * 7000, "%0d%0aX-Evil:%201", "me", "null", "0", "'", "%25", "$1", ":advance"),
    *("%E2%80%AE", "%C4%B0", "{user_id}", "*", "a:b:c", ";", "00000000-0000-0000-0000-000000000000"),
)
QUERY_TEXTS = (
    *(
        "",
        "%00",
        "%ff",
        "%ED%A0%80",
        "-1",
        "0",
        "1",
        "500",
        "501",
        "2147483648",
        "9223372036854775808",
        "1e3",
    ),
    *("NaN", "Infinity", "%D9%A1", "true", "x" * 1000, "x" * 1001, "x" * 7000, "%F0%9F%98%80" * 300),
    *(
        "WzBd",
        "WzldXQ==",
        "[99999999999]",
        "%5B9223372036854775808%5D",
        "%5B%22%5Cu0000%22%5D",
        "AAAA.AAAA",
        ".",
    ),
    *("ACTIVE", "STATE_UNSPECIFIED", "99", "null", "{}", "a" * 43 + "." + "b" * 43),
)
QUERIES = (
    *("?", "?&&&", "?=", "?pageSize=1&pageSize=2", "?page_size=1&pageSize=1", "?" + "&".join(["a=1"] * 300)),
    *(
        "?" + "a." * 2000 + "a=1",
        "?%00=%00",
        "?%ff",
        "?nextPageToken=a",
        "?" + "&".join(["pageSize=1"] * 199),
    ),
)
KEYS = (
    *(
        "",
        " ",
        '"',
        '""',
        "x" * 255,
        "x" * 256,
        "x" * 7000,
        '"a',
        'a"b',
        '"\\"',
        '"a\\b"',
        "a b",
        "a\tb",
        "ü",
    ),
    *("\x7f", '"k";p=1', "k, k", "%00", "'; DROP TABLE sessions; --"),
)
HEADERS = (
    *("Request-Timeout: 0", "Request-Timeout: 0.1", "Request-Timeout: 0.5", "Request-Timeout: -1"),
    *(
        "Request-Timeout: Infinity",
        "Request-Timeout: 1e400",
        "Request-Timeout: 0.5",
        "Request-Timeout: \u0661",
    ),
    *("Request-Timeout: " + "9" * 5000, "Request-Timeout:", "X-Request-Id: " + "x" * 5000, "X-Request-Id: ü"),
    *("X-Request-Id: a\tb", "traceparent: 00-" + "0" * 32 + "-" + "0" * 16 + "-01", "traceparent: x"),
    *(
        "traceparent: 00-" + "a" * 32 + "-" + "b" * 16 + "-01",
        "traceparent: ff-" + "a" * 5000,
        "tracestate: =,=",
    ),
    *(
        "Content-Encoding: gzip",
        "Content-Type: text/plain",
        "Accept: ;q=x",
        "Expect: x",
        "no colon",
        ": empty",
    ),
    *("Cookie: " + "c" * 7000, "X-Forwarded-For: ' OR 1=1", "Connection: upgrade\r\nUpgrade: h2c"),
)
TOKENS = (
    *("", "Bearer", "Bearer ", "Basic Zm9vOmJhcg==", "Bearer a.b.c", "Bearer ...", "Bearer " + "a" * 7000),
    *("Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.", "Bearer \xff.\xff.\xff", "Bearer e30.e30.e30"),
    "Bearer " + "W1tbW1tbW1tb" * 500 + ".e30.e30",
)
# Subjects of tokens that are signed as they should be.
SUBJECTS = ("", "a\0b", "ü", "\U0001f600" * 128, "x" * 128, "x" * 129, "x" * 3000, " ", "\u202e", "a\nb")


@dataclass(frozen=True, slots=True)
class Route:
    """One way to call a public operation."""

    method: Method
    rule: HttpRule

    @property
    def name(self) -> str:
        return f"{self.rule.http_method} {self.rule.template.text}"

    def path(self, **values: str) -> str:
        """The path of a polite request, with other texts for some of its variables."""
        path = self.rule.template.text
        for variable in self.rule.template.variables:
            polite = VARIABLES.get(f"{self.method.name}.{variable}") or VARIABLES[variable]
            path = path.replace(f"{{{variable}}}", values.get(variable, quote(polite, safe="")))
        return path

    @property
    def polite_body(self) -> bytes | None:
        return json.dumps(BODIES[self.method.name]).encode() if self.rule.body else None


@dataclass(frozen=True, slots=True)
class RudeRequest:
    """A request as it stands on the wire, apart from its token; `authorization` is in place of the token."""

    route: Route
    path: str
    body: bytes | None = None
    key: str | None = None
    header: str = ""
    authorization: str | None = None
    subject: str = RUDE

    def bytes_with(self, token: Callable[[str], str]) -> bytes:
        """The request, whose connection closes after the answer."""
        verb, lines = self.route.rule.http_method, ["Host: x", "Connection: close"]
        authorization = f"Bearer {token(self.subject)}" if self.authorization is None else self.authorization
        if authorization:
            lines.append(f"Authorization: {authorization}")
        if self.key is not None:
            lines.append(f"Idempotency-Key: {self.key}")
        if self.header:
            lines.append(self.header)
        if self.body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(self.body)}"]
        text = "\r\n".join([f"{verb} {self.path} HTTP/1.1", *lines, "", ""])
        return text.encode("utf-8", "surrogatepass") + (self.body or b"")


def routes() -> list[Route]:
    """Every route of the contract; of a method that each service serves, the route to one of them."""
    return [
        Route(method, rule.owned_by("subscription"))
        for method in public_methods()
        for rule in rules_of(method)
    ]


_numbers = itertools.count(1)


def rude_requests(route: Route) -> Iterator[RudeRequest]:
    """Everything rude that this route can be sent."""
    path, body = route.path(), route.polite_body

    def fresh_key() -> str | None:
        return f"rude-{next(_numbers)}" if route.method.key_required else None

    if body is not None:
        for sent in [*BODY_BYTES, *_bodies(BODIES[route.method.name], _body_fields(route))]:
            yield RudeRequest(route, path, sent, fresh_key())
    for variable in route.rule.template.variables:
        for text in PATH_TEXTS:
            yield RudeRequest(route, route.path(**{variable: text}), body, fresh_key())
    for query in [*QUERIES, *_queries(route)]:
        yield RudeRequest(route, path + query, body, fresh_key())
    if route.method.key_required:
        for key in KEYS:
            yield RudeRequest(route, path, body, key)
    for header in HEADERS:
        yield RudeRequest(route, path, body, fresh_key(), header)
    for authorization in TOKENS:
        yield RudeRequest(route, path, body, fresh_key(), authorization=authorization)
    for subject in SUBJECTS:
        yield RudeRequest(route, path, body, fresh_key(), subject=subject)


def _body_fields(route: Route) -> list[FieldDescriptor]:
    variables = route.rule.template.variables
    return [each for each in route.method.descriptor.input_type.fields if each.name not in variables]


def _bodies(polite: dict[str, Any], fields: list[FieldDescriptor]) -> Iterator[bytes]:
    """The polite body with each value in place of each field, also inside the first element of a list."""
    for each in fields:
        name = each.json_name
        yield from (_with(polite, name, value) for value in VALUES)
        elements = polite.get(name)
        inner: Descriptor | None = each.message_type
        if isinstance(elements, list) and inner is not None:
            for element in inner.fields:
                for value in VALUES:
                    one = _with(elements[0], element.json_name, value).decode("utf-8", "surrogatepass")
                    yield _with(polite, name, f"[{one}]")


def _with(polite: dict[str, Any], name: str, value: str) -> bytes:
    """The object as JSON, with a value that is given as JSON text."""
    parts = [f"{json.dumps(key)}:{json.dumps(each)}" for key, each in polite.items() if key != name]
    return ("{" + ",".join([*parts, f"{json.dumps(name)}:{value}"]) + "}").encode("utf-8", "surrogatepass")


def _queries(route: Route) -> Iterator[str]:
    if route.rule.http_method == "GET":
        for each in _body_fields(route):
            yield from (f"?{each.json_name}={text}" for text in QUERY_TEXTS)
