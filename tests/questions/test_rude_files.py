"""Files that are made to take long, or much memory: each is read or refused within the time of a test."""

from __future__ import annotations

import contextlib

import pytest

from homeroom.questions.model import FileRefusedError
from homeroom.questions.reading import questions_in

MEGABYTE = 1024 * 1024

GIFT = {
    "braces": "{" * MEGABYTE,
    "backslashes": "A?{" + "\\" * MEGABYTE + "}",
    "options": "A?{" + "~=" * 60_000 + "}",
    "empty blocks": "{}\n\n" * 50_000,
    "a category of spaces": "$CATEGORY: a" + " " * 390_000 + "b\n\nA?{=a}",
    "an id of spaces": "// [id:" + " " * MEGABYTE + "\nA?{=a}",
    "an id of backslashes": "// [id:" + "\\" * MEGABYTE + "\nA?{=a}",
    "titles": "::" * 190_000 + "{=a}",
    "weights": "A?{~%" + "9" * 390_000 + "%a}",
    "a number": "A?{#" + "9" * 390_000 + "}",
    "a large exponent": "A?{#1e999999999}",
    "a text of no end": "A" * (8 * MEGABYTE) + "{=a}",
    "lines without end": "//\n" * 500_000 + "A?{=a}",
    "html comments": "[html]" + "<!--" * 90_000 + "{=a}",
    "html tags": "[html]" + "<a " * 60_000 + "{=a}",
    "html entities": "[html]" + "&amp" * 45_000 + "{=a}",
    "html attributes": "[html]<a " + "a='" * 60_000 + "{=a}",
    "html declarations": "[html]" + "<![CDATA[" * 20_000 + "{=a}",
    "html quotes": "[html]" + "<a x" * 45_000 + '">{=a}',
    "html mixed quotes": "[html]" + "<a '\">" * 30_000 + "{=a}",
    "html unmatched quotes": "[html]" + '<a ">' * 30_001 + "'" * 3 + "{=a}",
    "html names": "[html]<" + "a" * 150_000 + ">{=a}",
    "html spaces": "[html]<img alt" + " " * 150_000 + "x>{=a}",
    "html scripts": "[html]" + "<script>" * 20_000 + "{=a}",
    "html references": "[html]&#" + "9" * 100_000 + ";{=a}",
    "html instructions": "[html]" + "<?" * 90_000 + "{=a}",
}
CSV = {
    "columns": "," * MEGABYTE + "\nprompt",
    "cells": "prompt,accepted\n" + "," * MEGABYTE,
    "a field without end": 'prompt,accepted\n"' + "x" * (4 * MEGABYTE),
    "rows": "prompt,accepted\n" + "a,b\n" * 25_000,
    "parts": "prompt,accepted\nA?," + "|" * 100_000,
    "backslashes": "prompt,accepted\nA?," + "\\" * 500_001,
}
XML = {
    "depth": "<quiz>" + "<a>" * MEGABYTE,
    "width": "<quiz>" + "<question/>" * 30_000 + "</quiz>",
    "attributes": "<quiz " + " ".join(f"a{n}='1'" for n in range(50_000)) + "/>",
    "one attribute": f"<quiz a='{'x' * MEGABYTE}'/>",
    "comments": "<quiz>" + "<!-- -->" * 100_000 + "</quiz>",
    "instructions": "<quiz>" + "<?a b?>" * 100_000 + "</quiz>",
    "lines": "<quiz>" + "\n" * (2 * MEGABYTE) + "</quiz>",
    "laughs": '<!DOCTYPE q [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><quiz>&b;</quiz>',
    "an entity from elsewhere": '<!DOCTYPE q [<!ENTITY a SYSTEM "file:///etc/passwd">]><quiz>&a;</quiz>',
    "an unknown entity": "<quiz>&nbsp;</quiz>",
    "numbers": '<quiz><question type="numerical"><answer fraction="100"><text>1e999999999</text></answer>'
    "</question></quiz>",
}


@pytest.mark.parametrize("text", [*GIFT.values(), *CSV.values(), *XML.values()], ids=[*GIFT, *CSV, *XML])
def test_a_rude_file_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(FileRefusedError):
        found = questions_in(text.encode())
        assert all(len(each.reason) < 1000 for each in found.rejections)
