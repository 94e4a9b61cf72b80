"""GIFT files as Moodle's documentation describes them, and what of them cannot be imported."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.questions.gift import read_gift
from homeroom.questions.model import Question, QuestionFile

SPECIAL = "~=#{}:\\"


def shown(text: str) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    return [(each.question.prompt, each.question.choices, each.question.accepted) for each in read(text)]


def read(text: str) -> list:
    return read_gift(text).questions


def rejected(text: str) -> list[tuple[int | None, str]]:
    return [(each.place.line, each.reason) for each in read_gift(text).rejections]


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("Who?{~Bach =Grant ~No one}", ("Who?", ("Bach", "Grant", "No one"), ("Grant",))),
        ("Who is buried?{=no one =nobody}", ("Who is buried?", (), ("no one", "nobody"))),
        ("The sun rises in the east.{T}", ("The sun rises in the east.", ("True", "False"), ("True",))),
        ("Grant died.{ FALSE#No#Yes }", ("Grant died.", ("True", "False"), ("False",))),
        (
            "Two {~one =two ~three} make a pair.",
            ("Two _____ make a pair.", ("one", "two", "three"), ("two",)),
        ),
        ("When?{#1822}", ("When?", (), ("1822",))),
        ("When?{#1822:0}", ("When?", (), ("1822",))),
        ("When?{#=1822:0 =%50%1822:2}", ("When?", (), ("1822",))),
        ("::Title::[plain]A?{=yes}", ("A?", (), ("yes",))),
        ("Escaped \\{ \\= \\: \\\\?{=a\\=b ~c\\#d}", ("Escaped { = : \\?", ("a=b", "c#d"), ("a=b",))),
        ("Two\\nlines?{=a}", ("Two\nlines?", (), ("a",))),
        ("Weights?{~%100%a ~%-50%b}", ("Weights?", ("a", "b"), ("a",))),
        ("[html]<p>A <b>b</b></p><p>c&amp;d?</p>{=[html]<i>x</i> ~y}", ("A b\nc&d?", ("x", "y"), ("x",))),
        ("Empty option?{~=a ~b}", ("Empty option?", ("a", "b"), ("a",))),
    ],
)
def test_what_the_format_describes_is_read(text: str, question: tuple[object, ...]) -> None:
    assert shown(text) == [question]
    assert rejected(text) == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("An essay {}", "is an essay: no answer can be compared with it"),
        ("Only words", "is a description: it asks nothing"),
        ("Match {=a -> b =c -> d}", "is a matching question: it asks for several answers at once"),
        ("Two right {~%50%a ~%50%b ~c}", "asks for several answers at once"),
        ("Range {#1..5}", "accepts a range of numbers: only exact answers can be compared"),
        ("Tolerance {#3.14:0.01}", "accepts a range of numbers: only exact answers can be compared"),
        ("No number {#abc}", "'abc' is not a number"),
        ("Open {=a ~b", "the answers are not closed by a brace before the empty line"),
        ("Closed =a}", "a closing brace has no opening one"),
        ("Twice {=a} and {=b}", "has more than one pair of braces"),
        ("Bare {answer}", "the answers do not begin with = or ~"),
        ("None right {~a ~b}", "has no right answer"),
        ("{=a}", "has no question text"),
        ("Same {=a ~b ~b}", "two choices have the same text"),
        ("x" * 10_001 + "{=a}", "the question text has 10001 characters; at most 10000 are possible"),
    ],
)
def test_what_cannot_be_imported_is_rejected_alone_with_its_line(body: str, reason: str) -> None:
    text = f"First?{{=a}}\n\n// a comment\n{body}\n\nLast?{{=b}}\n"
    assert rejected(text) == [(4, reason)]
    assert [prompt for prompt, _, _ in shown(text)] == ["First?", "Last?"]


def test_categories_become_subjects_and_ids_stay_ids() -> None:
    found = read(
        "$CATEGORY: $course$/top/Science/Physics//Optics\n\n"
        "// question: 12  name: x\n// [id:kept \\: id] [tag:a]\nA?{=a}\n\nB?{=b}\n\n$CATEGORY: Art\nC?{=c}"
    )
    assert [each.question.subject for each in found] == ["Physics/Optics", "Physics/Optics", "Art"]
    assert found[0].question.question_id == "kept : id"
    assert found[1].question.question_id.startswith("q-")


def test_what_is_lost_is_told() -> None:
    (found,) = read('[html]<p>See <img src="a.png"> and <table></table></p>{=a#good ~%50%b ~c####General}')
    assert found.losses == ("an image", "the form of a table", "feedback", "partial credit")


def test_a_repeated_question_is_rejected_with_the_line_of_the_first() -> None:
    assert rejected("A?{=a}\n\nB?{=b}\n\nA?{=a}") == [(5, "repeats the question of line 1")]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_every_newline_separates(newline: str) -> None:
    text = newline.join(["A?{", "=a", "~b", "}", "", "B {=c", "", "C?{=d}"])
    found = read_gift(text)
    assert [each.place.line for each in found.questions] == [1, 8]
    assert [each.place.line for each in found.rejections] == [6]


def written(question: Question) -> str:
    """A question as GIFT, by the rules of the format."""

    def escaped(text: str) -> str:
        return "".join("\\" + c if c in SPECIAL else "\\n" if c == "\n" else c for c in text)

    signs = [("=" if c in question.accepted else "~", c) for c in question.choices or question.accepted]
    return f"[plain]{escaped(question.prompt)}{{" + " ".join(s + escaped(c) for s, c in signs) + "}"


def has_no_escape(text: str) -> bool:
    """`%50%`, `[html]`, `//` and `->` mean something, and nothing takes the meaning from them."""
    return text.startswith(("%", "[", "//")) or "->" in text


line = st.text(st.characters(exclude_categories=("Cs", "Cc", "Z")), min_size=1, max_size=20).filter(
    lambda text: not has_no_escape(text)
)
texts = st.lists(line, min_size=1, max_size=3).map("\n".join)


@st.composite
def questions(draw: st.DrawFn) -> Question:
    choices = draw(st.lists(texts, min_size=2, max_size=5, unique=True))
    if draw(st.booleans()):
        return Question("", draw(texts), (), tuple(choices))
    return Question("", draw(texts), tuple(choices), (choices[draw(st.integers(0, len(choices) - 1))],))


@given(st.lists(questions(), max_size=4, unique_by=lambda each: (each.prompt, each.choices)))
def test_what_is_written_by_the_rules_is_read_as_it_was(wanted: list[Question]) -> None:
    text = "\n\n".join(map(written, wanted))
    assert shown(text) == [(each.prompt, each.choices, each.accepted) for each in wanted]


@given(st.text(max_size=300))
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert isinstance(read_gift(text), QuestionFile)


@given(st.text(alphabet="{}=~#%5\\:-> \n/[html]T$CATEGORY", max_size=200))
def test_any_heap_of_marks_is_read_without_an_error(text: str) -> None:
    found = read_gift(text)
    assert all(each.reason for each in found.rejections)
