"""Folders for Unix sockets: the path of a socket must be short, and that of a data folder may be long."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from homeroom.embedded.process import Owner
from homeroom.embedded.system_user import give

_BASE = Path("/tmp")  # noqa: S108  # $TMPDIR is too long on macOS; ownership is checked in claim()


def socket_directory(data: Path) -> Path:
    """The folder for the sockets of the server on `data`: the same at each start."""
    name = hashlib.sha256(f"{os.geteuid()}:{data.resolve()}".encode()).hexdigest()[:12]
    return _BASE / f"homeroom-{name}"


def claim(path: Path, owner: Owner | None) -> None:
    """Make the folder, closed to other users; refuse one that another user has made in its place."""
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    ours = {os.geteuid(), owner.uid if owner else os.geteuid()}
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in ours:
        raise RuntimeError(f"{path} belongs to another user: remove it or use another data folder")
    path.chmod(0o700)
    give(path, owner)
