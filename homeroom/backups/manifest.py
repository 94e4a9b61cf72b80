"""What a backup says about itself: `manifest.json`, written last. A folder without it is no backup."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FILE_NAME = "manifest.json"
FORMAT = 1


class BackupError(RuntimeError):
    """A backup or a restore cannot be made; the message says why. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Dump:
    """One database of a backup.

    Attributes:
        snapshot_at: when the database was as it is in the dump, ISO 8601.
        postgres: the version of the server, such as `18.4`.
        bytes: the size of the file.
        schema: the highest migration of each component.
        rows: how many rows each table has.
    """

    service: str
    database: str
    file: str
    snapshot_at: str
    postgres: str
    bytes: int
    sha256: str
    schema: Mapping[str, int]
    rows: Mapping[str, int]

    @property
    def postgres_major(self) -> int:
        return int(self.postgres.partition(".")[0])


@dataclass(frozen=True, slots=True)
class Manifest:
    made_at: str
    homeroom: str
    dumps: Mapping[str, Dump]
    """By the name of the database, in the order of their snapshots."""

    format: int = field(default=FORMAT)

    def as_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"


def read(folder: Path) -> Manifest:
    """The manifest of the backup in this folder; BackupError if there is none that can be read."""
    path = folder / FILE_NAME
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BackupError(f"{folder} holds no finished backup: it has no {FILE_NAME}") from None
    except (ValueError, OSError) as error:
        raise BackupError(f"{path} cannot be read: {error}") from error
    try:
        if raw["format"] != FORMAT:
            raise BackupError(f"{path} has format {raw['format']}; this program reads format {FORMAT}")
        dumps = {name: Dump(**dump) for name, dump in raw["dumps"].items()}
        return Manifest(made_at=raw["made_at"], homeroom=raw["homeroom"], dumps=dumps)
    except (KeyError, TypeError, AttributeError) as error:
        raise BackupError(f"{path} is not the manifest of a backup: {error!r}") from error


def verify(folder: Path, dump: Dump) -> Path:
    """The file of the dump, with the size and the checksum of the manifest; BackupError otherwise."""
    path = folder / Path(dump.file).name  # a manifest cannot point out of its folder
    try:
        size = path.stat().st_size
        found = sha256_of(path)
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror or error}") from error
    if size != dump.bytes:
        raise BackupError(f"{path} is damaged: it has {size} bytes, and the manifest says {dump.bytes}")
    if found != dump.sha256:
        raise BackupError(f"{path} is damaged: its SHA-256 is not the one of the manifest")
    return path


def sha256_of(path: Path) -> str:
    """The checksum of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
