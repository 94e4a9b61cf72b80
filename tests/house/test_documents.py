"""What the documents say about the code is so."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

from session_service.domain.states import CLOSED_STATES, MOVES, SessionState
from tests.house.sources import ROOT, told

DOCUMENTS = ("ARCHITECTURE.md", "README.md", "CONTRIBUTING.md", "docs/*.md")
FILE_ENDINGS = (".py", ".md", ".proto", ".sql", ".toml", ".yaml", ".json", ".sh", ".lock")

CODE_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
QUOTED = re.compile(r"`([^`\s]+)`")
PATH = re.compile(r"[\w.*/-]+")
PLACEHOLDER = re.compile(r"NNN|XXX")

STEP = re.compile(r"^\*\*\d\. [^*]+\*\*, `([^`]+)`", re.MULTILINE)
EXCERPT = re.compile(r"^```(?:proto|python)\n(?P<lines>.*?)^```", re.MULTILINE | re.DOTALL)

STATES_HEADING = "## The states of a session"
DIAGRAM = re.compile(r"```mermaid\nstateDiagram-v2\n(?P<lines>.*?)```", re.DOTALL)
MOVE = re.compile(r"\s*(?P<before>\S+) --> (?P<after>[^\s:]+)(\s*:.*)?")
OUTSIDE = "[*]"


def test_each_file_that_a_document_names_exists() -> None:
    top_level = {path.name for path in ROOT.iterdir()}
    faults = []
    for document in chain.from_iterable(sorted(ROOT.glob(pattern)) for pattern in DOCUMENTS):
        prose = CODE_BLOCK.sub("", document.read_text(encoding="utf-8"))
        for quoted in sorted(set(QUOTED.findall(prose))):
            if not PATH.fullmatch(quoted) or PLACEHOLDER.search(quoted) or quoted.startswith("/"):
                continue  # what begins with a slash is a path of the HTTP surface
            names_a_file = quoted.endswith(FILE_ENDINGS)
            below_the_root = "/" in quoted and quoted.split("/")[0] in top_level
            if (names_a_file or below_the_root) and not exists(quoted):
                faults.append(f"{document.name}: there is no `{quoted}`")
    assert not faults, told(faults)


def exists(named: str) -> bool:
    """Whether a path is there, from the root or, as a file's name alone, somewhere in our folders."""
    if any(ROOT.glob(named.rstrip("/"))):
        return True
    folders = [path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
    wanted = Path(named)
    return named.endswith(FILE_ENDINGS) and any(
        path.parts[-len(wanted.parts) :] == wanted.parts
        for folder in folders
        for path in folder.rglob(wanted.name)
    )


def test_the_diagram_of_a_session_is_its_table_of_moves() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    _, heading, below = text.partition(STATES_HEADING)
    assert heading, f"ARCHITECTURE.md has no heading {STATES_HEADING!r}"
    diagram = DIAGRAM.search(below.partition("\n## ")[0])
    assert diagram is not None, "the states are a mermaid diagram, stateDiagram-v2"
    drawn = set()
    for line in diagram["lines"].splitlines():
        move = MOVE.fullmatch(line)
        assert move is not None, f"not a move: {line!r}"
        drawn.add((move["before"], move["after"]))
    moves = {(before.value, after.value) for before, afters in MOVES.items() for after in afters}
    begins = {(OUTSIDE, SessionState.ACTIVE.value)}
    ends = {(state.value, OUTSIDE) for state in CLOSED_STATES}
    assert drawn == moves | begins | ends


def test_each_excerpt_of_contributing_stands_in_the_file_of_its_step() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    excerpts = list(EXCERPT.finditer(text))
    assert len(excerpts) == 9, "an excerpt begins with ```proto or ```python"
    faults = []
    for excerpt in excerpts:
        path = STEP.findall(text[: excerpt.start()])[-1]
        source = (ROOT / path).read_text(encoding="utf-8")
        if without_indentation(excerpt["lines"]) not in without_indentation(source):
            faults.append(f"{path} does not have these lines:\n{excerpt['lines']}")
    assert not faults, told(faults)


def without_indentation(text: str) -> str:
    """The lines without what a formatter makes of an excerpt: indentation, and blank lines."""
    return "\n".join(filter(None, map(str.strip, text.splitlines())))
