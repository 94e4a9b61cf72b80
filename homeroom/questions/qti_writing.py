"""Questions as an IMS QTI 2.1 package: one item for each question, and a manifest in their order."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Iterator
from xml.sax.saxutils import escape

from homeroom.questions.html_text import text_of_html
from homeroom.questions.model import Place, Question, Rejection
from homeroom.questions.qti import MANIFEST

_ITEM = """<?xml version="1.0" encoding="UTF-8"?>
<assessmentItem xmlns="http://www.imsglobal.org/xsd/imsqti_v2p1" identifier="{identifier}" title="{title}"
    adaptive="false" timeDependent="false">
  <responseDeclaration identifier="RESPONSE" cardinality="single" baseType="{base_type}">
    <correctResponse>{correct}</correctResponse>
    <mapping defaultValue="0">{mapping}</mapping>
  </responseDeclaration>
  <outcomeDeclaration identifier="SCORE" cardinality="single" baseType="float"/>
  <itemBody>{prompt}{interaction}</itemBody>
  <responseProcessing template="http://www.imsglobal.org/question/qti_v2p1/rptemplates/map_response"/>
</assessmentItem>
"""
_MANIFEST = """<?xml version="1.0" encoding="UTF-8"?>
<manifest xmlns="http://www.imsglobal.org/xsd/imscp_v1p1" xmlns:imsmd="http://ltsc.ieee.org/xsd/LOM"
    identifier="homeroom-questions">
  <metadata><schema>QTIv2.1 Package</schema><schemaversion>1.0.0</schemaversion></metadata>
  <organizations/>
  <resources>
{resources}  </resources>
</manifest>
"""
_RESOURCE = """    <resource identifier="item-{number}" type="imsqti_item_xmlv2p1" href="{path}">
{metadata}      <file href="{path}"/>
    </resource>
"""
_SUBJECT = "<imsmd:general><imsmd:keyword><imsmd:string>{}</imsmd:string></imsmd:keyword></imsmd:general>"
_DIFFICULTY = "<imsmd:difficulty><imsmd:value>{}</imsmd:value></imsmd:difficulty>"

# The characters that XML 1.0 has no form for.
_UNWRITABLE = re.compile(r"[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_AS_REFERENCE = {"\r": "&#13;", "\n": "&#10;", "\t": "&#9;", '"': "&quot;"}


def write_qti_package(questions: Iterable[Question]) -> tuple[bytes, list[Rejection]]:
    """The package, and the questions that it cannot hold. The same questions make the same bytes."""
    target = io.BytesIO()
    resources: list[str] = []
    rejections: list[Rejection] = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as package:
        for question in questions:
            problem = _problem_of(question)
            if problem is not None:
                rejections.append(Rejection(Place(item=question.question_id), problem))
                continue
            path = f"items/{len(resources) + 1:05d}.xml"
            package.writestr(_entry(path), _item(question))
            resources.append(
                _RESOURCE.format(number=len(resources) + 1, path=path, metadata=_metadata(question))
            )
        package.writestr(_entry(MANIFEST), _MANIFEST.format(resources="".join(resources)))
    return target.getvalue(), rejections


def _entry(path: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(path, date_time=(2000, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _problem_of(question: Question) -> str | None:
    texts = [question.question_id, question.prompt, *question.choices, *question.accepted]
    texts += [question.subject or "", question.difficulty or ""]
    unwritable = next((found[0] for found in map(_UNWRITABLE.search, texts) if found is not None), None)
    if unwritable is not None:
        return f"has the character U+{ord(unwritable):04X}, which XML cannot hold"
    if question.choices and any(_choice(question, answer) is None for answer in question.accepted):
        return "a right answer is not one of the choices"
    return None


def _item(question: Question) -> str:
    if question.choices:
        accepted = [f"C{_choice(question, answer)}" for answer in question.accepted]
    else:
        accepted = list(question.accepted)
    mapping = "".join(f'<mapEntry mapKey="{_attribute(each)}" mappedValue="1"/>' for each in accepted)
    return _ITEM.format(
        identifier=_attribute(question.question_id),
        title=_attribute(question.prompt[:80]),
        base_type="identifier" if question.choices else "string",
        correct=_value(accepted[0]) if accepted else "",
        mapping=mapping,
        prompt=_block(question.prompt),
        interaction="".join(_interaction(question)),
    )


def _interaction(question: Question) -> Iterator[str]:
    if not question.choices:
        yield '<p><textEntryInteraction responseIdentifier="RESPONSE"/></p>'
        return
    yield '<choiceInteraction responseIdentifier="RESPONSE" shuffle="false" maxChoices="1">'
    for number, choice in enumerate(question.choices, 1):
        content = escape(choice) if _survives(choice) else _preserved(choice)
        yield f'<simpleChoice identifier="C{number}">{content}</simpleChoice>'
    yield "</choiceInteraction>"


def _choice(question: Question, answer: str) -> int | None:
    """The number of the choice that an accepted answer means: the same text, or what compares as the same."""
    if answer in question.choices:
        return question.choices.index(answer) + 1
    compared = [choice.strip().lower() for choice in question.choices]
    wanted = answer.strip().lower()
    return compared.index(wanted) + 1 if wanted in compared else None


def _block(text: str) -> str:
    return f"<p>{escape(text)}</p>" if _survives(text) else _preserved(text)


def _survives(text: str) -> bool:
    """Whether the text reads the same after its white space was collapsed, as HTML does."""
    return text_of_html(escape(text))[0] == text and "\u0085" not in text and "\u2028" not in text


def _preserved(text: str) -> str:
    return f'<pre xml:space="preserve">{_content(text)}</pre>'


def _value(text: str) -> str:
    return (
        f'<value xml:space="preserve">{_content(text)}</value>'
        if text != text.strip()
        else f"<value>{_content(text)}</value>"
    )


def _content(text: str) -> str:
    return escape(text, {"\r": "&#13;"})


def _attribute(text: str) -> str:
    return escape(text, _AS_REFERENCE)


def _metadata(question: Question) -> str:
    parts = [_SUBJECT.format(_content(question.subject)) if question.subject else ""]
    if question.difficulty:
        level = _DIFFICULTY.format(_content(question.difficulty))
        parts.append(f"<imsmd:educational>{level}</imsmd:educational>")
    inner = "".join(parts)
    return f"      <metadata><imsmd:lom>{inner}</imsmd:lom></metadata>\n" if inner else ""
