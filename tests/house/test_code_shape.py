"""Names of limits, sizes of files, and suppressions with their reasons."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator

import pytest

from tests.house.sources import CODE, EVERYTHING, ROOT, Source, source_of, sources, told

LINES_MAX = 400
NAMES_WITHOUT_MEANING = frozenset({"util", "utils", "common", "helper", "helpers", "misc"})

# A limit ends in _MAX or _MIN, in the case of its name.
OTHER_LIMIT = re.compile(
    r"(^|_)(most|least|largest|smallest|longest|shortest|highest|lowest)_|_(maximum|minimum)$|^(maximum|minimum)_",
    re.IGNORECASE,
)
LIMIT_BEFORE = re.compile(r"_?(MAX|MIN)_[A-Z0-9_]+")

NOQA = re.compile(r"#\s*noqa\b(?P<rest>.*)")
NOQA_WITH_REASON = re.compile(r":\s*[A-Z]+[0-9]+(,\s*[A-Z]+[0-9]+)*\s+(-|—|#)\s*\S.*")
IGNORE = re.compile(r"#\s*type:\s*ignore(?P<rest>.*)")
IGNORE_WITH_REASON = re.compile(r"\[[a-z-]+(,\s*[a-z-]+)*\]\s*#\s*\S.*")


def test_limits_end_in_max_or_min() -> None:
    faults = [fault for source in sources(EVERYTHING) for fault in faults_of_limits(source)]
    assert not faults, told(faults)


def faults_of_limits(source: Source) -> list[str]:
    return [
        source.at(line, f"{name}: a limit ends in _max or _min")
        for name, line in declared_names(source)
        if OTHER_LIMIT.search(name) or LIMIT_BEFORE.fullmatch(name)
    ]


@pytest.mark.parametrize(
    "text",
    [
        "ROWS_MAXIMUM = 5",
        "MOST_ROWS: int = 5",
        "_LARGEST_BODY_BYTES = 5",
        "MAX_ROWS = 5",
        "def read(*, rows_maximum): ...",
        "class Page:\n    rows_minimum: int = 5",
    ],
)
def test_the_check_of_limits_finds_what_is_wrong(text: str) -> None:
    assert len(faults_of_limits(source_of(text))) == 1
    assert not faults_of_limits(
        source_of("ROWS_MAX = 5\ndef read(*, max_attempts, rows_min): almost_done = 1")
    )


def declared_names(source: Source) -> Iterator[tuple[str, int]]:
    """Parameters, constants of modules, and attributes of classes, with their lines."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Module | ast.ClassDef):
            for statement in node.body:
                for target in _targets(statement):
                    yield target.id, target.lineno


def _targets(statement: ast.stmt) -> list[ast.Name]:
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    else:
        return []
    return [target for target in targets if isinstance(target, ast.Name)]


def test_no_file_is_too_long_for_one_sitting() -> None:
    files = [source.path for source in sources(CODE)]
    files += [path.relative_to(ROOT) for folder in CODE for path in (ROOT / folder).rglob("*.proto")]
    files += [path.relative_to(ROOT) for folder in CODE for path in (ROOT / folder).rglob("*.sql")]
    lines = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in files}
    faults = [
        f"{path}: {count} lines; split it by noun" for path, count in lines.items() if count > LINES_MAX
    ]
    assert not faults, told(faults)


def test_a_module_is_named_for_what_it_owns() -> None:
    faults = [
        source.at(1, "the name says nothing")
        for source in sources(EVERYTHING)
        if NAMES_WITHOUT_MEANING & set(source.module.split("."))
    ]
    assert not faults, told(faults)


def test_each_suppression_has_a_code_and_a_reason() -> None:
    faults = [fault for source in sources(EVERYTHING) for fault in faults_of_suppressions(source)]
    assert not faults, told(faults)


def faults_of_suppressions(source: Source) -> Iterator[str]:
    for comment, line in comments(source):
        for pattern, wanted in ((NOQA, NOQA_WITH_REASON), (IGNORE, IGNORE_WITH_REASON)):
            found = pattern.search(comment)
            if found and not wanted.fullmatch(found["rest"].rstrip()):
                yield source.at(line, f"{comment}: a code and a reason are needed")


@pytest.mark.parametrize(
    ("comment", "right"),
    [
        ("# noqa", False),
        ("# noqa: S608", False),
        ("# noqa: a reason", False),
        ("# noqa: S608 - one of two constants", True),
        ("# noqa: S608, E501  # one of two constants", True),
        ("# type: ignore", False),
        ("# type: ignore[arg-type]", False),
        ("# type: ignore[arg-type]  # the stub is too narrow", True),
    ],
)
def test_the_check_of_suppressions_finds_what_is_wrong(comment: str, right: bool) -> None:
    assert (not list(faults_of_suppressions(source_of(f"x = 1  {comment}")))) == right


def comments(source: Source) -> Iterator[tuple[str, int]]:
    """The comments of a file with their lines; what stands in a string is none."""
    if "noqa" not in source.text and "type: ignore" not in source.text:
        return
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string, token.start[0]
