"""The comments of the .proto files, which `python -m protos.generate` writes beside the generated modules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import protos


@cache
def comments() -> Mapping[str, str]:
    """Comments by the full name of what they describe; that of a file itself, by the file's name."""
    found: dict[str, str] = {}
    for folder in protos.__path__:
        for path in sorted(Path(folder).glob("*/v1/*.comments.json")):
            read: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
            file = read.pop("", "")
            found |= read
            name = path.name.removesuffix(".comments.json") + ".proto"
            found[str(Path(protos.__name__, path.parent.relative_to(folder), name))] = file
    return found
