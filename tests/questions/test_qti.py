"""QTI packages: choice and text-entry items of 2.1 and 3.0, our own packages, and rude ones."""

from __future__ import annotations

import contextlib
import io
import zipfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.questions import qti
from homeroom.questions.model import FileRefusedError, Question
from homeroom.questions.qti_writing import write_qti_package
from homeroom.questions.reading import questions_in
from tests.questions.strategies import questions

CHOICE_21 = """<?xml version="1.0" encoding="UTF-8"?>
<assessmentItem xmlns="http://www.imsglobal.org/xsd/imsqti_v2p1" identifier="choice" title="Luggage"
  adaptive="false" timeDependent="false">
  <responseDeclaration identifier="RESPONSE" cardinality="single" baseType="identifier">
    <correctResponse><value>ChoiceA</value></correctResponse>
  </responseDeclaration>
  <itemBody>
    <p>Look at the text in the picture.</p>
    <p><img src="images/sign.png" alt="NEVER LEAVE LUGGAGE UNATTENDED"/></p>
    <choiceInteraction responseIdentifier="RESPONSE" shuffle="false" maxChoices="1">
      <prompt>What does it say?</prompt>
      <simpleChoice identifier="ChoiceA">You must stay with your luggage at all times.</simpleChoice>
      <simpleChoice identifier="ChoiceB">Do not let someone else look after your luggage.</simpleChoice>
    </choiceInteraction>
  </itemBody>
</assessmentItem>"""
ENTRY_30 = """<qti-assessment-item xmlns="http://www.imsglobal.org/xsd/imsqtiasi_v3p0" identifier="entry"
  title="R" adaptive="false" time-dependent="false" xml:lang="en">
  <qti-response-declaration base-type="string" cardinality="single" identifier="R1">
    <qti-correct-response><qti-value>York</qti-value></qti-correct-response>
    <qti-mapping default-value="0">
      <qti-map-entry map-key="York" mapped-value="1" case-sensitive="true"/>
      <qti-map-entry map-key="new york" mapped-value="0.5"/>
    </qti-mapping>
  </qti-response-declaration>
  <qti-item-body><blockquote>this glorious son of
    <qti-text-entry-interaction expected-length="15" response-identifier="R1"/>.</blockquote></qti-item-body>
</qti-assessment-item>"""


def package(items: dict[str, str | bytes], *, kind: str = "imsqti_item_xmlv2p1", extra: Any = ()) -> bytes:
    target = io.BytesIO()
    resources = "".join(
        f'<resource identifier="r{n}" type="{kind}" href="{name}"><file href="{name}"/></resource>'
        for n, name in enumerate(items)
    )
    manifest = f"<manifest><resources>{resources}</resources></manifest>"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("imsmanifest.xml", manifest)
        for name, content in [*items.items(), *extra]:
            archive.writestr(name, content)
    return target.getvalue()


def body_of(item: str) -> str:
    return (
        '<assessmentItem identifier="i"><responseDeclaration identifier="R" cardinality="single">'
        f"<correctResponse><value>a</value></correctResponse></responseDeclaration>{item}</assessmentItem>"
    )


def test_items_of_both_versions_are_read() -> None:
    content = package({"a.xml": CHOICE_21}, extra=())
    (found,) = questions_in(content).questions
    assert found.question == Question(
        "choice",
        "Look at the text in the picture.\n[image: NEVER LEAVE LUGGAGE UNATTENDED]\nWhat does it say?",
        ("You must stay with your luggage at all times.", "Do not let someone else look after your luggage."),
        ("You must stay with your luggage at all times.",),
    )
    assert found.losses == ("an image",)
    (found,) = questions_in(package({"b.xml": ENTRY_30}, kind="imsqti_item_xmlv3p0")).questions
    assert found.question == Question("entry", "this glorious son of _____.", (), ("York",))
    assert found.losses == ("upper and lower case (answers are compared without)", "partial credit")
    assert questions_in(ENTRY_30.encode()).questions[0].question == found.question


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (body_of("<itemBody><p>Only text</p></itemBody>"), "asks nothing: it has no interaction"),
        (body_of(""), "has no itemBody"),
        (
            body_of('<itemBody><orderInteraction responseIdentifier="R"/></itemBody>'),
            "has a orderinteraction, which cannot be imported",
        ),
        (
            body_of('<itemBody>x<choiceInteraction responseIdentifier="R"/></itemBody>'),
            "the right answer names the choice 'a', and there is none",
        ),
        (
            body_of('<itemBody><textEntryInteraction responseIdentifier="X"/></itemBody>'),
            "does not declare the response 'X'",
        ),
        (
            body_of('<itemBody><textEntryInteraction responseIdentifier="R"/></itemBody>'),
            "has no question text",
        ),
        ("<assessmentItem><itemBody>", "is not well-formed XML: no element found"),
        ("<assessmentTest/>", "the root element is 'assessmenttest', not assessmentItem"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><assessmentItem/>', "has a DTD or an entity: these are not read"),
        ("<a>" * 200, "is nested deeper than 100 elements"),
    ],
)
def test_an_item_that_cannot_be_imported_is_rejected_alone(item: str, reason: str) -> None:
    found = questions_in(package({"first.xml": ENTRY_30, "bad.xml": item, "last.xml": CHOICE_21}))
    assert [(each.place.item, each.reason) for each in found.rejections] == [("bad.xml", reason)]
    assert [each.question.question_id for each in found.questions] == ["entry", "choice"]


def test_an_item_that_is_missing_or_too_large_is_rejected_alone() -> None:
    target = io.BytesIO(package({"a.xml": ENTRY_30, "big.xml": b" " * (qti.ITEM_BYTES_MAX + 1)}))
    found = questions_in(target.getvalue())
    assert [each.reason for each in found.rejections] == [f"has more than {qti.ITEM_BYTES_MAX} bytes"]
    gone = package({"a.xml": ENTRY_30}).replace(b"a.xml", b"b.xml")
    assert len(questions_in(gone).rejections) + len(questions_in(gone).questions) == 1


@pytest.mark.parametrize(
    "name", ["../evil.xml", "/etc/evil.xml", "a/../../evil.xml", "..\\evil.xml", "C:/evil.xml"]
)
def test_a_path_that_leads_out_of_the_package_refuses_it(name: str) -> None:
    with pytest.raises(FileRefusedError, match="leads out of it"):
        questions_in(package({"a.xml": ENTRY_30}, extra=[(name, "x")]))


@pytest.mark.parametrize("href", ["../../etc/passwd", "/etc/passwd", "%2e%2e/x", "file:///etc/passwd", ""])
def test_a_manifest_cannot_name_a_file_outside(href: str) -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        resource = f'<resource type="imsqti_item_xmlv2p1" href="{href}"/>'
        archive.writestr("imsmanifest.xml", f"<manifest><resources>{resource}</resources></manifest>")
    (rejection,) = questions_in(target.getvalue()).rejections
    assert rejection.reason == "the manifest names this file, and the package does not have it"


def test_a_bomb_is_read_no_further_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qti, "PACKAGE_BYTES_MAX", 5 * 1024 * 1024)
    bomb = {f"{n}.xml": b"<a>" + b" " * (2 * 1024 * 1024 - 10) for n in range(10)}
    content = package(bomb)
    assert len(content) < 100_000
    with pytest.raises(FileRefusedError, match="has more than"):
        questions_in(content)
    many = package({}, extra=[(f"{n}", "") for n in range(200)])
    monkeypatch.setattr(qti, "ENTRIES_MAX", 100)
    with pytest.raises(FileRefusedError, match="more than 100 files"):
        questions_in(many)


@given(st.data())
def test_a_damaged_package_is_refused_or_read(data: st.DataObject) -> None:
    content = bytearray(package({"a.xml": CHOICE_21, "b.xml": ENTRY_30}))
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(4, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    for damaged in (bytes(content), bytes(content[:cut])):
        with contextlib.suppress(FileRefusedError):
            questions_in(damaged)


@given(st.lists(questions(), max_size=4, unique_by=lambda each: each.question_id))
def test_what_is_written_is_read_as_it_was(wanted: list[Question]) -> None:
    content, rejections = write_qti_package(wanted)
    found = questions_in(content)
    assert [each.question for each in found.questions] == wanted
    assert (rejections, found.rejections) == ([], [])
    assert write_qti_package(wanted)[0] == content


def test_what_xml_cannot_hold_is_told() -> None:
    good = Question("good", "A?", (), ("a",))
    bad = [
        Question("control", "A\x01?", (), ("a",)),
        Question("outside", "A?", ("a", "b"), ("c",)),
    ]
    content, rejections = write_qti_package([bad[0], good, bad[1]])
    assert [(each.place.item, each.reason) for each in rejections] == [
        ("control", "has the character U+0001, which XML cannot hold"),
        ("outside", "a right answer is not one of the choices"),
    ]
    assert [each.question for each in questions_in(content).questions] == [good]
