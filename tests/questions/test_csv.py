"""CSV files of questions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.questions.csv_table import read_csv, write_csv
from homeroom.questions.model import FileRefusedError, Question
from tests.questions.strategies import questions

HEADER = "question_id,prompt,choices,accepted,difficulty,subject\r\n"


def test_each_column_is_read() -> None:
    found = read_csv(
        HEADER + 'a,"Two, or\nthree?",x|y\\|z|\\\\,y\\|z,HARD,physics\r\nb,Free?,,yes|Yes!,,\r\n'
    )
    assert [each.question for each in found.questions] == [
        Question("a", "Two, or\nthree?", ("x", "y|z", "\\"), ("y|z",), "HARD", "physics"),
        Question("b", "Free?", (), ("yes", "Yes!")),
    ]
    assert [each.place.line for each in found.questions] == [2, 4]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_columns_may_have_other_names_and_delimiters(delimiter: str) -> None:
    rows = [["Question", "Choice 1", "Choice 2", "Notes", "Correct answer"], ["A?", "x", "y", "hm", "y"]]
    found = read_csv("\n".join(delimiter.join(row) for row in rows))
    (question,) = [each.question for each in found.questions]
    assert (question.prompt, question.choices, question.accepted) == ("A?", ("x", "y"), ("y",))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a,,x|y,x,,", "has no question text"),
        ("a,A?,x|y,z,,", "the right answer 'z' is not one of the choices"),
        ("a,A?,,,,", "has no right answer"),
        ("a,A?", "has no right answer"),
        ("first,A?,,x,,", "repeats the question of line 2"),
        (f"a,A?,,x,{'d' * 51},", "the difficulty has 51 characters; at most 50 are possible"),
    ],
)
def test_a_bad_row_is_rejected_alone_with_its_line(row: str, reason: str) -> None:
    found = read_csv(f"{HEADER}first,F?,,x,,\r\n{row}\r\nlast,L?,,x,,\r\n")
    assert [(each.place.line, each.reason) for each in found.rejections] == [(3, reason)]
    assert [each.question.question_id for each in found.questions] == ["first", "last"]


def test_an_unterminated_quote_is_told_with_its_line() -> None:
    found = read_csv(HEADER + 'a,A?,,x,,\r\nb,"B?,,x,,\r\nc,C?,,x,,\r\n')
    assert [each.question.question_id for each in found.questions] == ["a"]
    assert [each.place.line for each in found.rejections] == [3]


@pytest.mark.parametrize("text", ["", "a,b\n1,2", "prompt\nA?", "prompt,difficulty\nA?,x"])
def test_a_file_without_the_needed_columns_is_refused(text: str) -> None:
    with pytest.raises(FileRefusedError):
        read_csv(text)


def test_a_text_that_a_spreadsheet_takes_for_a_formula_is_guarded() -> None:
    question = Question("=1+1", "=cmd|' /C calc'!A0", ("-1", "+1"), ("-1",), "@x", "'=y")
    content = write_csv([question]).decode("utf-8-sig")
    cells = [cell for row in content.splitlines()[1:] for cell in row.strip('"').split('","')]
    assert not any(cell.startswith(tuple("=+-@\t\r")) for cell in cells)
    assert [each.question for each in read_csv(content).questions] == [question]


@given(st.lists(questions(), max_size=5, unique_by=lambda each: each.question_id))
def test_what_is_written_is_read_as_it_was(wanted: list[Question]) -> None:
    found = read_csv(write_csv(wanted).decode("utf-8-sig"))
    assert [each.question for each in found.questions] == wanted
    assert found.rejections == []


@given(st.text(max_size=300), st.sampled_from(["", HEADER, "prompt;accepted\n"]))
def test_any_text_is_read_or_refused(text: str, header: str) -> None:
    try:
        found = read_csv(header + text)
    except FileRefusedError:
        return
    assert all(each.reason for each in found.rejections)
