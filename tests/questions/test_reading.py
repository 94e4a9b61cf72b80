"""A file whose format must be found out, in odd encodings and sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from homeroom.questions import model, reading
from homeroom.questions.csv_table import write_csv
from homeroom.questions.html_text import text_of_html
from homeroom.questions.model import FileRefusedError, Question
from homeroom.questions.qti_writing import write_qti_package
from homeroom.questions.reading import questions_in, read_questions
from protos.buf.validate import validate_pb2
from protos.session.v1 import tests_pb2

SCIENCE = Path("/work/shared/data/questions/science.jsonl")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"A?{=a}", "gift"),
        (b"\xef\xbb\xbfA?{=a}", "gift"),
        ("A?{=a}".encode("utf-16"), "gift"),
        (b"prompt,accepted\r\nA?,a", "csv"),
        (b"\xef\xbb\xbfPrompt;Answer\r\nA?;a", "csv"),
        (b"\r\n <quiz/>", "moodle"),
        (b"\xef\xbb\xbf<quiz/>", "moodle"),
    ],
)
def test_the_content_tells_the_format(content: bytes, found: str) -> None:
    assert questions_in(content).format == found


@pytest.mark.parametrize(
    ("content", "wanted", "reason"),
    [
        (b"", None, "is empty"),
        (b"\xef\xbb\xbf \r\n", None, "has no format that is known"),
        (b"only words", None, "has no format that is known; name it with --format"),
        (b"A?\n{=gr\xfcn}", None, "line 2 is not UTF-8 text: save the file as UTF-8"),
        (b"A \xed\xa0\x80?{=a}", None, "line 1 is not UTF-8 text"),
        (b"\xff\xfeA", None, "is not UTF-16 text"),
        (b"<quiz/>", "qti", "is moodle, not qti"),
        (b"A?{=a}", "moodle", "is not XML"),
        (b"A?{=a}", "qti", "is not XML, and no zip package"),
        (b"PK\x03\x04 and then nothing", None, "the zip file is damaged"),
        (b"PK\x05\x06" + b"\0" * 18, None, "has no imsmanifest.xml"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_the_reason(
    content: bytes, wanted: str | None, reason: str
) -> None:
    with pytest.raises(FileRefusedError, match=reason):
        questions_in(content, wanted)


def test_a_file_that_is_too_large_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "FILE_BYTES_MAX", 10)
    path = tmp_path / "large.txt"
    path.write_bytes(b"A?{=aaaaaaaaaa}")
    with pytest.raises(FileRefusedError, match="has more than 10 bytes"):
        read_questions(path)
    with pytest.raises(FileRefusedError, match="No such file"):
        read_questions(tmp_path / "missing")
    with pytest.raises(FileRefusedError, match="directory"):
        read_questions(tmp_path)


def test_what_is_over_the_number_of_questions_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "QUESTIONS_PER_FILE_MAX", 2)
    found = questions_in(b"A?{=a}\n\nB?{=a}\n\nC?{=a}")
    assert [each.reason for each in found.rejections] == ["a test may have 2 questions"]


def test_the_bounds_are_those_of_the_contract() -> None:
    question = Question(
        "i" * model.QUESTION_ID_CHARACTERS_MAX,
        "p" * model.PROMPT_CHARACTERS_MAX,
        tuple(f"{n:04}".ljust(model.TEXT_CHARACTERS_MAX, "c") for n in range(model.CHOICES_MAX)),
        ("0000".ljust(model.TEXT_CHARACTERS_MAX, "c"),) * model.ACCEPTED_MAX,
        "d" * model.DIFFICULTY_CHARACTERS_MAX,
        "s" * model.SUBJECT_CHARACTERS_MAX,
    )
    assert model.problem_of(question) is None
    rules = tests_pb2.ImportedQuestion.DESCRIPTOR.fields_by_name

    def longest(name: str) -> int:
        rule = rules[name].GetOptions().Extensions[cast("Any", validate_pb2.field)]
        return int(rule.string.max_len or rule.repeated.max_items)

    assert [longest(name) for name in ("question_id", "prompt", "choices", "accepted")] == [
        model.QUESTION_ID_CHARACTERS_MAX, model.PROMPT_CHARACTERS_MAX, model.CHOICES_MAX, model.ACCEPTED_MAX,
    ]  # fmt: skip
    assert [longest(name) for name in ("difficulty", "subject")] == [
        model.DIFFICULTY_CHARACTERS_MAX,
        model.SUBJECT_CHARACTERS_MAX,
    ]


@pytest.mark.parametrize(
    ("html", "text", "losses"),
    [
        ("plain", "plain", ()),
        ("<p>a</p><p>b<br>c</p>", "a\nb\nc", ()),
        ("<ul><li>a</li><li>b</li></ul>", "- a\n- b", ()),
        ("H<sub>2</sub>O &lt; x<sup>2</sup>", "H_2O < x^2", ()),
        ("<pre>a  b\n  c</pre>", "a b\nc", ()),
        ("a <script>alert(1)</script>b<!-- c -->", "a b", ("a script",)),
        ('<a href="x">link</a>', "link", ("the target of a link",)),
        ("a < b <unclosed", "a < b <unclosed", ()),
        ("<b>" * 10_000 + "deep", "deep", ()),
    ],
)
def test_html_becomes_text(html: str, text: str, losses: tuple[str, ...]) -> None:
    assert text_of_html(html) == (text, losses)


@pytest.mark.skipif(not SCIENCE.exists(), reason="the real questions are not beside the checkout")
def test_the_real_questions_survive_each_format() -> None:
    wanted = [
        Question(
            each["questionId"], each["prompt"], tuple(each["choices"]), tuple(each["accepted"]),
            each.get("difficulty"), each.get("subject"),
        )
        for each in map(json.loads, SCIENCE.read_text(encoding="utf-8").splitlines())
    ]  # fmt: skip
    package, rejections = write_qti_package(wanted)
    assert rejections == []
    for content in (package, write_csv(wanted)):
        found = questions_in(content)
        assert [each.question for each in found.questions] == wanted
        assert found.rejections == []
        assert not any(each.losses for each in found.questions)
