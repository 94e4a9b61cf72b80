"""The cost of a body is linear in its size, for every shape. The test counts work, not time.

Counted are the calls that Python makes, and the characters of names that are copied or joined.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import protovalidate
import pytest

from chassis.errors import ServiceError
from gateway.contract import public_methods
from gateway.routes import routes_of
from gateway.transcoding import json_text
from gateway.transcoding.requests import RequestReader
from tests.gateway.made_contracts import every_kind
from tests.gateway.running import UPSTREAMS

DESCRIPTOR = every_kind()
READER = RequestReader(descriptor=DESCRIPTOR, variables=(), body="*")
QUERY_READER = RequestReader(descriptor=DESCRIPTOR, variables=(), body="")
FIELD_LENGTH_MAX = 300
SMALL = 3000


class Work:
    """Counts what was done."""

    def __init__(self) -> None:
        self.calls = 0
        self.characters = 0

    def count(self, _frame: Any, event: str, _argument: Any) -> None:
        if event in {"call", "c_call"}:
            self.calls += 1

    @property
    def total(self) -> int:
        return self.calls + self.characters


class CountedName(str):
    """A name of a JSON object that counts the characters of each copy made of it."""

    __slots__ = ("work",)
    work: Work

    @classmethod
    def of(cls, text: str, work: Work) -> CountedName:
        name = cls(text)
        name.work = work
        return name

    def _copied(self, text: str) -> CountedName:
        self.work.characters += len(text)
        return CountedName.of(text, self.work)

    def __add__(self, other: str) -> CountedName:
        return self._copied(str.__add__(self, other))

    def __radd__(self, other: str) -> CountedName:
        return self._copied(other + str(self))

    def __getitem__(self, index: Any) -> CountedName:
        return self._copied(str.__getitem__(self, index))

    def __format__(self, spec: str) -> str:
        return self._copied(str.__format__(self, spec))


def _made(make: Callable[[Any], Any], counted: Callable[[Any], Any], pairs: list[tuple[str, Any]]) -> Any:
    return make(counted(pairs))


def counting(monkeypatch: pytest.MonkeyPatch, work: Work) -> None:
    """Makes the JSON decoders give names that count."""

    def counted(pairs: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        return [(CountedName.of(name, work), value) for name, value in pairs]

    for decoder, made in (("_STRICT", json_text._unique), ("_LENIENT", json_text._Pairs)):
        original = getattr(json_text, decoder)
        replacement = json.JSONDecoder(
            object_pairs_hook=partial(_made, made, counted),
            parse_constant=original.parse_constant,
            parse_int=original.parse_int,
        )
        monkeypatch.setattr(json_text, decoder, replacement)


def work_of(run: Callable[[], object]) -> tuple[Work, ServiceError | None]:
    work = Work()
    refusal: ServiceError | None = None
    with pytest.MonkeyPatch.context() as patch:
        counting(patch, work)
        sys.setprofile(work.count)
        try:
            run()
        except ServiceError as error:
            refusal = error
        finally:
            sys.setprofile(None)
    return work, refusal


def nested(depth: int, inner: str, name: str) -> str:
    return f'{{"{name}":' * depth + inner + "}" * depth


def repeated(text: str, n: int) -> str:
    return ",".join([text] * n)


# Each makes a body whose size grows in proportion to `n`.
SHAPES: dict[str, Callable[[int], str]] = {
    "a long name over many values": lambda n: f'{{"{"k" * n}":[{repeated("0", n)},NaN]}}',
    "a long name over many faults": lambda n: f'{{"{"k" * n}":[{repeated("NaN", n)}]}}',
    "long names in each other": lambda n: nested(30, "[NaN]", "k" * (n // 30)),
    "a long name over values that do not fit": lambda n: (
        f'{{"bySelf":{{"{"k" * n}":{{"manyInt32":[{repeated(chr(34) + chr(120) + chr(34), n)}]}}}}}}'
    ),
    "a long name over values that fit": lambda n: (
        f'{{"bySelf":{{"{"k" * n}":{{"manyInt32":[{repeated("1", n)}, "x"]}}}}}}'
    ),
    "a long name in a Struct": lambda n: f'{{"aStruct":{{"{"k" * n}":[{repeated("0", n)}]}},"x":1}}',
    "a long unknown field": lambda n: f'{{"{"k" * n}":[{repeated("0", n)}]}}',
    "many unknown fields": lambda n: "{" + ",".join(f'"u{i}":1' for i in range(n)) + "}",
    "unknown fields of many messages": lambda n: f'{{"manySelf":[{repeated(nested(1, "1", "nope"), n)}]}}',
    "many names given twice": lambda n: "{" + ",".join(f'"u{i % (n // 2)}":1' for i in range(n)) + "}",
    "one name given often": lambda n: f"{{{repeated(f'{chr(34)}u{chr(34)}:1', n)}}}",
    "many faults": lambda n: f'{{"manyInt32":[{repeated(chr(34) + chr(34), n)}]}}',
    "faults behind what fits": lambda n: f'{{"manyInt32":[{repeated("1", n)},"x"]}}',
    "wide and deep": lambda n: f'{{"manySelf":[{repeated(nested(25, "{}", "aSelf"), n // 25)},5]}}',
    "faults deep down": lambda n: f'{{"manySelf":[{repeated(nested(25, "5", "aSelf"), n // 25)}]}}',
    "arrays without end": lambda n: "[" * n,
    "arrays that end": lambda n: f"[{'[' * n}{']' * n}]",
    "objects without end": lambda n: '{"a":' * n,
    "a fault before arrays without end": lambda n: '{"a":NaN,"b":' + "[" * n,
    "one huge number": lambda n: f'{{"aInt32":{"7" * n}}}',
    "one huge fraction": lambda n: f'{{"aInt32":0.{"7" * n}}}',
    "many large numbers": lambda n: f'{{"manyInt32":[{repeated("7" * 500, n // 500)}]}}',
    "many numbers out of range": lambda n: f'{{"manyInt32":[{repeated("7" * 300, n // 300)}]}}',
    "numbers in strings": lambda n: f'{{"manyDouble":["{"7" * n}"]}}',
    "escapes in a name": lambda n: f'{{"{chr(92)}u0041{f"{chr(92)}u00e9" * n}":[{repeated("0", n)},NaN]}}',
    "escapes in a value": lambda n: f'{{"aString":"{f"{chr(92)}u0000" * n}"}}',
    "half characters": lambda n: f'{{"manyString":[{repeated(f"{chr(34)}{chr(92)}ud800{chr(34)}", n)}]}}',
    "bytes that are not base64": lambda n: f'{{"aBytes":"{"=" * n}"}}',
    "an array that is not closed": lambda n: f'{{"manyInt32":[{repeated("1", n)}',
    "nothing wrong": lambda n: f'{{"manyInt32":[{repeated("1", n)}]}}',
    "a map with nothing wrong": lambda n: (
        '{"byString":{' + ",".join(f'"{i}":"v"' for i in range(n // 10)) + "}}"
    ),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_twice_the_body_is_at_most_twice_the_work(shape: Callable[[int], str]) -> None:
    small, large = shape(SMALL).encode(), shape(2 * SMALL).encode()
    assert len(large) < 2.2 * len(small)
    before, _ = work_of(lambda: READER.read(body=small, values=(), query=""))
    after, refusal = work_of(lambda: READER.read(body=large, values=(), query=""))
    assert after.total <= 2.2 * before.total + 1000
    assert after.characters <= len(large) + 20 * FIELD_LENGTH_MAX
    if refusal is not None:
        assert len(refusal.violations) <= 20
        assert all(len(violation.field) <= FIELD_LENGTH_MAX for violation in refusal.violations)


@pytest.mark.parametrize(
    "query",
    [
        lambda n: "&".join(["nope=1"] * n),
        lambda n: "&".join(["aString=1"] * n),
        lambda n: "&".join(["manyString=1"] * n),
        lambda n: "&".join([f"{'a.' * 30}b=1"] * n),
        lambda n: "&".join(["aSelf.aSelf.aString=1"] * n),
        lambda n: f"{'a.' * n}b=1",
        lambda n: f"{'aSelf.' * n}aString=1",
        lambda n: f"{'aSelf.' * 30}aString=1&" * (n // 30),
        lambda n: f"{'%61' * n}=1",
    ],
    ids=range(9),
)
def test_twice_the_query_is_at_most_twice_the_work(query: Callable[[int], str]) -> None:
    small, large = query(90), query(180)
    before, _ = work_of(lambda: QUERY_READER.read(body=b"", values=(), query=small))
    after, _ = work_of(lambda: QUERY_READER.read(body=b"", values=(), query=large))
    assert after.total <= 2.2 * before.total + 1000


def test_a_fault_is_still_found_behind_many_values() -> None:
    _, refusal = work_of(
        lambda: READER.read(body=SHAPES["a long name over many values"](1000).encode(), values=(), query="")
    )
    assert refusal is not None
    (violation,) = refusal.violations
    assert violation.field == "k" * 299 + "…"
    assert violation.description == "must not be NaN"


IMPORT = "POST /v1/tests/{test_id}/questions:import"
ROUTES = {route.name: route for route in routes_of(public_methods(), UPSTREAMS)}


def import_of(question: str, n: int) -> bytes:
    return f'{{"questions":[{repeated(question, n)}]}}'.encode()


@pytest.mark.parametrize(
    ("name", "body", "values"),
    [
        (IMPORT, import_of("{}", 5000), ("t",)),
        (IMPORT, import_of("{}", 300_000), ("t",)),
        (IMPORT, import_of('{"questionId":"q","prompt":"","accepted":[""],"choices":[""]}', 5000), ("t",)),
        (
            IMPORT,
            import_of(f'{{"questionId":"q","prompt":"","accepted":[{repeated(chr(34) * 2, 400)}]}}', 300),
            ("t",),
        ),
        ("PUT /v1/plans/{plan_id}", f'{{"features":[{repeated(chr(34) * 2, 20_000)}]}}'.encode(), ("p",)),
    ],
    ids=["empty questions", "far too many questions", "empty texts", "many empty answers", "empty features"],
)
def test_not_every_violation_of_a_large_message_is_looked_for(
    monkeypatch: pytest.MonkeyPatch, name: str, body: bytes, values: tuple[str, ...]
) -> None:
    collect = protovalidate.collect_violations
    collected = 0

    def counted(message: Any, **options: Any) -> Any:
        nonlocal collected
        found = collect(message, **options)
        collected += len(found)
        return found

    monkeypatch.setattr("chassis.rpc.validation.protovalidate.collect_violations", counted)
    with pytest.raises(ServiceError):
        ROUTES[name].request.read(body=body, values=values, query="")
    assert collected <= 1000


def test_every_fault_of_a_small_message_is_shown() -> None:
    with pytest.raises(ServiceError) as refused:
        ROUTES[IMPORT].request.read(body=import_of("{}", 5), values=("t",), query="")
    assert len(refused.value.violations) == 15
