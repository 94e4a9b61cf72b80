"""The user that PostgreSQL runs as: it refuses root, so it gets another user, with access to its files."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path

from homeroom.embedded.process import Owner

_CREATED_USER = "homeroom"


def database_owner(data: Path) -> Owner | None:
    """The system user for the server on this data: None, which means ourselves, unless we are root.

    Data that exists already stays with its user.
    """
    if os.geteuid() != 0:
        return None
    if (data / "PG_VERSION").exists() and (status := data.stat()).st_uid != 0:
        return Owner(name=f"user {status.st_uid}", uid=status.st_uid, gid=status.st_gid)
    for name in ("postgres", _CREATED_USER):
        if owner := _lookup(name):
            return owner
    if useradd := shutil.which("useradd"):
        subprocess.run(  # noqa: S603  # fixed arguments
            [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _CREATED_USER],
            check=False,  # another stack may have made it meanwhile: the lookup below decides
            capture_output=True,
        )
    owner = _lookup(_CREATED_USER) or _lookup("nobody")
    if owner is None:
        raise RuntimeError(
            "PostgreSQL cannot run as root and no other user could be made: run as a normal user"
        )
    return owner


def open_way(path: Path) -> list[Path]:
    """Let other users pass through the folders above `path`, not list them; return those that were closed."""
    closed = [parent for parent in path.resolve().parents if not parent.stat().st_mode & stat.S_IXOTH]
    for parent in closed:
        parent.chmod(stat.S_IMODE(parent.stat().st_mode) | stat.S_IXOTH)
    return closed


def open_tree(root: Path) -> None:
    """Let other users read the files below `root`, if it was installed under a strict umask."""
    for path in (root, *root.rglob("*")):
        if path.is_symlink():
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        executable = path.is_dir() or mode & stat.S_IXUSR
        path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if executable else 0))


def give(path: Path, owner: Owner | None) -> None:
    """Give a file or folder to the owner, if there is one."""
    if owner is not None:
        os.chown(path, owner.uid, owner.gid)


def _lookup(name: str) -> Owner | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Owner(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
