"""The sources of the project, parsed once, and places in them that a reader can click on."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SERVICES = ("session_service", "subscription_service", "progress_service")
PROCESSES = ("gateway", *SERVICES)
CODE = ("chassis", *PROCESSES, "homeroom", "protos", "bench")
EVERYTHING = (*CODE, "tests")
_GENERATED = ("_pb2.py", "_pb2_grpc.py")


@dataclass(frozen=True)
class Source:
    """A Python file: its path from the root, its text and its syntax tree."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def module(self) -> str:
        """The name under which it is imported."""
        return ".".join(self.path.with_suffix("").parts).removesuffix(".__init__")

    def at(self, node: ast.AST | int, fault: str) -> str:
        """A fault as `path:line: fault`."""
        line = node if isinstance(node, int) else getattr(node, "lineno", 1)
        return f"{self.path}:{line}: {fault}"


def sources(folders: Sequence[str]) -> list[Source]:
    """Every Python file in these folders of the root that was written by hand."""
    return [source for folder in folders for source in _sources_in(folder)]


@cache
def _sources_in(folder: str) -> tuple[Source, ...]:
    found = sorted(path for path in (ROOT / folder).rglob("*.py") if not path.name.endswith(_GENERATED))
    return tuple(_parsed(path) for path in found)


def _parsed(path: Path) -> Source:
    text = path.read_text(encoding="utf-8")
    return Source(path.relative_to(ROOT), text, ast.parse(text))


def source_of(text: str) -> Source:
    """A made-up file, to try a check on."""
    return Source(Path("made_up.py"), text, ast.parse(text))


def calls(source: Source) -> Iterator[tuple[ast.Call, ast.Attribute]]:
    """The calls of methods, `receiver.method(…)`."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node, node.func


def last_name(node: ast.AST) -> str:
    """The last part of a dotted name: `_metrics` of `self._metrics`; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def literal(node: ast.AST | None) -> str | None:
    """The text of a string literal; None for anything else, an f-string included."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def told(faults: Sequence[str]) -> str:
    """The faults as the message of an assertion."""
    return "\n" + "\n".join(faults)
