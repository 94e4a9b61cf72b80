"""Small bodies take a shorter way: it must come to the same verdict as the strict reader."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import ServiceError
from gateway.transcoding import json_text
from gateway.transcoding.json_text import load

texts = st.sampled_from(['"a"', '"b"', '"a:b"', r'"\u0061"', r'"\""', r'"\\"', '"é"', r'"\ud800"', '"\t"'])
numbers = st.sampled_from(
    ["1", "-0", "01", "1.5", "1e5", "1e400", "NaN", "-Infinity", "9223372036854775808", "1" * 30, "1" * 401]
)
words = st.sampled_from(["true", "false", "null", "nul", "[]", "{}", f'"{"1" * 450}"'])
spaces = st.sampled_from(["", "", "", " ", "\n\t\r", "\v", "\ufeff", "\xa0"])


def object_of(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.builds("".join, st.tuples(spaces, texts, spaces, st.just(":"), spaces, values))
    return st.lists(pair, max_size=4).map(lambda pairs: "{" + ",".join(pairs) + "}")


scalars = texts | numbers | words
nested = st.recursive(
    scalars,
    lambda inner: object_of(inner) | st.lists(inner, max_size=3).map(lambda each: f"[{','.join(each)}]"),
    max_leaves=6,
)
bodies = st.builds("".join, st.tuples(spaces, object_of(nested) | nested, spaces)).map(str.encode)


def verdict(body: bytes) -> tuple[str, Any]:
    try:
        return "read", repr(load(body))
    except ServiceError as refusal:
        return "refused", (refusal.detail, refusal.violations)


@given(body=bodies)
def test_a_small_body_is_read_or_refused_as_the_strict_reader_does_it(body: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "_SIMPLE_BYTES_MAX", -1)
        strictly = verdict(body)
    assert verdict(body) == strictly


@pytest.mark.parametrize("digits", [401, 4300, 4301, 100_000])
def test_a_number_of_too_many_digits_is_refused_at_any_depth(digits: int) -> None:
    number = "1" * digits
    for depth in (1, 32, 33, 200):
        kind, (detail, violations) = verdict(("[" * depth + number + "]" * depth).encode())
        assert kind == "refused"
        assert "too many digits" in detail or "nested too deeply" in detail, violations


def test_many_digits_in_a_text_are_no_number() -> None:
    text = "1" * 5000
    assert load(f'{{"a": "{text}", "b": ["{text}"]}}'.encode()) == {"a": text, "b": [text]}
