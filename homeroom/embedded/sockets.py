"""Folders for Unix sockets: a socket's path must be short, and a data folder's seldom is."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from homeroom.embedded.process import Owner
from homeroom.embedded.system_user import give

_BASE = Path("/tmp")  # noqa: S108  # $TMPDIR is too long on macOS; ownership is checked in claim()


def socket_directory(data: Path) -> Path:
    """The folder for the sockets of the server that keeps `data`: the same at each start."""
    name = hashlib.sha256(f"{os.geteuid()}:{data.resolve()}".encode()).hexdigest()[:12]
    return _BASE / f"homeroom-{name}"


def claim(path: Path, owner: Owner | None) -> None:
    """Make the folder, closed to others, or refuse one that somebody else put in its place."""
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    ours = {os.geteuid(), owner.uid if owner else os.geteuid()}
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in ours:
        raise RuntimeError(f"{path} belongs to somebody else: remove it or use another data folder")
    path.chmod(0o700)
    give(path, owner)
