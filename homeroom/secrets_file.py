"""The generated passwords of a development stack, in one file that only its owner can read."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path


class SecretsFile:
    """Named random secrets, which stay the same from one start to the next."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}

    def has(self, name: str) -> bool:
        """Whether the secret of this name was ever made."""
        return name in self._values

    def get(self, name: str) -> str:
        """The secret of this name, made and stored at its first use."""
        if name not in self._values:
            self._values[name] = secrets.token_urlsafe(24)
            write_private(self._path, json.dumps(self._values, indent=2))
        return self._values[name]


def write_private(path: Path, text: str) -> None:
    """Replace the file as a whole; at no moment can anybody else read it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
