"""Moodle XML files, and what of them cannot be imported."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.questions.model import FileRefusedError, Question
from homeroom.questions.reading import questions_in

QUIZ = """<?xml version="1.0" encoding="UTF-8"?>
<quiz>
<question type="category"><category><text>$course$/top/Maths</text></category></question>
<question type="multichoice">
  <name><text>Sum</text></name>
  <questiontext format="html"><text><![CDATA[<p>What is x<sup>2</sup> &amp; more?</p>
    <p><img src="@@PLUGINFILE@@/a" alt="a graph"></p>]]></text><file name="a">aGk=</file></questiontext>
  <generalfeedback format="html"><text>Well.</text></generalfeedback>
  <idnumber>sum-1</idnumber>
  <single>true</single>
  <answer fraction="100" format="html"><text>&lt;p&gt;4&lt;/p&gt;</text><feedback><text/></feedback></answer>
  <answer fraction="0"><text>5</text></answer>
  <answer fraction="50"><text>6</text></answer>
</question>
<question type="truefalse"><questiontext format="plain_text"><text>1 &lt; 2</text></questiontext>
  <answer fraction="100"><text>true</text></answer>
  <answer fraction="0"><text>false</text></answer></question>
<question type="shortanswer"><questiontext><text>Capital?</text></questiontext><usecase>1</usecase>
  <answer fraction="100"><text>Paris</text></answer>
  <answer fraction="100"><text>paris\\*</text></answer></question>
<question type="numerical"><questiontext><text>Half?</text></questiontext>
  <answer fraction="100"><text>0.5</text><tolerance>0</tolerance></answer></question>
</quiz>"""


def question(kind: str, content: str) -> str:
    return f'<question type="{kind}">{content}</question>'


def test_what_the_format_describes_is_read() -> None:
    found = questions_in(QUIZ.encode())
    assert found.format == "moodle"
    questions = [each.question for each in found.questions]
    assert questions[0] == Question(
        "sum-1", "What is x^2 & more?\n[image: a graph]", ("4", "5", "6"), ("4",), None, "Maths"
    )
    assert [(each.prompt, each.choices, each.accepted) for each in questions[1:]] == [
        ("1 < 2", ("True", "False"), ("True",)),
        ("Capital?", (), ("Paris", "paris*")),
        ("Half?", (), ("0.5",)),
    ]
    assert [each.place.line for each in found.questions] == [4, 15, 18, 21]
    assert found.questions[0].losses == ("an image", "feedback", "an attached file", "partial credit")
    assert found.questions[2].losses == ("upper and lower case (answers are compared without)",)
    assert found.rejections == []


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('<question type="essay"/>', "is an essay: no answer can be compared with it"),
        ('<question type="matching"/>', "is a matching question: it asks for several answers at once"),
        ('<question type="novel"/>', "has the type 'novel', which is not known"),
        ("<question/>", "has no type"),
        (
            '<question type="multichoice"><single>false</single></question>',
            "asks for several answers at once",
        ),
        (
            '<question type="shortanswer"><answer fraction="100"><text>a*</text></answer></question>',
            "accepts a pattern with *: only exact answers can be compared",
        ),
        (
            question("numerical", '<answer fraction="1e2"><text>1</text><tolerance>1</tolerance></answer>'),
            "accepts a range of numbers: only exact answers can be compared",
        ),
        (
            '<question type="shortanswer"><answer fraction="many"><text>a</text></answer></question>',
            "'many' is not a number",
        ),
        (
            question("shortanswer", f"<questiontext><text>{'x' * 200_001}</text></questiontext>"),
            "a text is too long",
        ),
    ],
)
def test_what_cannot_be_imported_is_rejected_alone_with_its_line(bad: str, reason: str) -> None:
    good = (
        '<question type="shortanswer"><questiontext><text>{}</text></questiontext>'
        '<answer fraction="100"><text>a</text></answer></question>'
    )
    found = questions_in(f"<quiz>\n{good.format('A?')}\n{bad}\n{good.format('B?')}\n</quiz>".encode())
    assert [(each.place.line, each.reason) for each in found.rejections] == [(3, reason)]
    assert [each.question.prompt for each in found.questions] == ["A?", "B?"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<quiz>\n<question>", "line 2: is not well-formed XML: no element found"),
        (b"<quiz>\n\xff\xfe</quiz>", "line 2: is not well-formed XML: not well-formed \\(invalid token\\)"),
        (
            b'<?xml version="1.0" encoding="utf-7"?><quiz/>',
            "line 1: cannot be read as XML: multi-byte encodings are not supported",
        ),
        (b'<!DOCTYPE q [<!ENTITY a "x">]>\n<quiz>&a;</quiz>', "has a DTD or an entity"),
        (b'<!DOCTYPE q SYSTEM "file:///etc/passwd">\n<quiz/>', "has a DTD or an entity"),
        (b"<html><body/></html>", "its root element is 'html', which is no known question format"),
        (b"<manifest/>", "is the manifest of a package"),
        (b"<quiz>" + b"<a>" * 5000, "is nested deeper than 100 elements"),
        (b"<quiz>\xed\xa0\x80</quiz>", "is not well-formed XML"),
    ],
)
def test_a_file_that_is_no_such_xml_is_refused_with_the_line(content: bytes, reason: str) -> None:
    with pytest.raises(FileRefusedError, match=reason):
        questions_in(content)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "iso-8859-1"])
def test_the_encodings_of_xml_are_read(encoding: str) -> None:
    declared = {"utf-8-sig": "utf-8"}.get(encoding, encoding)
    text = (
        f'<?xml version="1.0" encoding="{declared}"?><quiz><question type="shortanswer"><questiontext>'
        '<text>Größe?</text></questiontext><answer fraction="100"><text>ü</text></answer></question></quiz>'
    )
    (found,) = questions_in(text.encode(encoding)).questions
    assert (found.question.prompt, found.question.accepted) == ("Größe?", ("ü",))


@given(st.text(max_size=200))
def test_any_text_in_a_quiz_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(FileRefusedError):
        questions_in(f"<quiz>{text}</quiz>".encode(errors="surrogatepass"))
