"""Question files through the command line into a running stack, and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeroom.questions.reading import read_questions
from tests.support.command_line import Finished, run
from tests.support.http_client import unique

GIFT = """$CATEGORY: $course$/top/Physics

Who wrote the Principia?{~Leibniz =Newton ~Hooke}

[html]<p>Charge of an <i>electron</i>? <img src="e.png"></p>{=negative#right}

Tell us all you know.{}

Open {=a
"""


async def command(stack, *arguments: str) -> Finished:
    token = stack.token("admin", ("admin",))
    return await run(*arguments, "--url", stack.gateway_url, "--token", token, "--json")


@pytest.fixture
async def test_id(http) -> str:
    test = unique("test")
    await http.put_test(test)
    return test


async def test_a_file_is_imported_once_however_often_it_is_sent(stack, http, test_id, tmp_path: Path) -> None:
    path = tmp_path / "physics.gift"
    path.write_text(GIFT, encoding="utf-8-sig")
    dry = await command(stack, "import", "questions", str(path), "--test", test_id, "--dry-run")
    first = await command(stack, "import", "questions", str(path), "--test", test_id)
    second = await command(stack, "import", "questions", str(path), "--test", test_id)
    assert (dry.code, first.code, second.code) == (3, 3, 3), first.stderr
    assert [each.json["created"] for each in (dry, first, second)] == [0, 2, 0]
    assert second.json["unchanged"] == 2
    for each in (dry, first, second):
        assert [(found["line"], found["reason"]) for found in each.json["rejected"]] == [
            (7, "is an essay: no answer can be compared with it"),
            (9, "the answers are not closed by a brace before the empty line"),
        ]
        assert [(found["line"], found["lost"]) for found in each.json["lost"]] == [
            (5, ["an image", "feedback"])
        ]
    listed = await http.send("GET", f"/v1/tests/{test_id}/questions", user="i", roles=("instructor",))
    assert [each["prompt"] for each in listed.body["questions"]] == [
        "Who wrote the Principia?",
        "Charge of an electron? [image]",
    ]
    assert {each["subject"] for each in listed.body["questions"]} == {"Physics"}
    refused = await http.send("GET", f"/v1/tests/{test_id}/questions", user="l")
    assert (refused.status, refused.body["reason"]) == (403, "PERMISSION_DENIED")


@pytest.mark.parametrize("name", ["out.csv", "out.zip"])
async def test_what_is_exported_is_imported_unchanged(stack, test_id, tmp_path: Path, name: str) -> None:
    table = tmp_path / "in.csv"
    rows = [f'"=odd {n}|","Two\n lines  {n}?","a|  b\\|c|é🙂","  b\\|c",,"phys"' for n in range(600)]
    table.write_text("question_id,prompt,choices,accepted,difficulty,subject\n" + "\n".join(rows))
    first = await command(stack, "import", "questions", str(table), "--test", test_id)
    assert (first.code, first.json["created"]) == (0, 600), first.stderr
    exported = await command(stack, "export", "questions", str(tmp_path / name), "--test", test_id)
    assert (exported.code, exported.json["written"]) == (0, 600), exported.stderr
    assert read_questions(tmp_path / name).questions[0].question.prompt == "Two\n lines  0?"
    again = await command(stack, "import", "questions", str(tmp_path / name), "--test", test_id)
    assert (again.code, again.json["unchanged"], again.json["total"]) == (0, 600, 600)
    refused = await command(stack, "export", "questions", str(tmp_path / name), "--test", test_id)
    assert (refused.code, "exists already" in refused.stderr) == (1, True)


async def test_what_cannot_be_read_or_sent_is_told(stack, tmp_path: Path) -> None:
    path = tmp_path / "broken.xml"
    path.write_bytes(b"<quiz>\n<question>")
    broken = await command(stack, "import", "questions", str(path), "--test", "t")
    assert (broken.code, "line 2: is not well-formed XML" in broken.stderr) == (1, True)
    path.write_bytes(b"A?{=a}")
    nowhere = await command(stack, "import", "questions", str(path), "--test", "no-such-test")
    assert (nowhere.code, "404 NOT_FOUND" in nowhere.stderr) == (1, True), nowhere.stderr
    unknown = await command(stack, "import", "questions", str(path), "--test", "t", "--format", "docx")
    assert unknown.code == 2
