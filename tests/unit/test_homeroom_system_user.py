"""For PostgreSQL, root uses an existing user, a new user, or "nobody", and gives it access to the folders."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from homeroom.embedded.system_user import database_owner, open_tree, open_way

USERS = {"postgres": 70, "homeroom": 998, "nobody": 65534}
Machine = Callable[..., Path]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """A machine on which we are root, with these users, and perhaps with useradd."""

    def make(*names: str, useradd: bool = True) -> Path:
        made = tmp_path / "made"

        def getpwnam(name: str) -> pwd.struct_passwd:
            if name in names or (name == "homeroom" and made.exists()):
                return pwd.struct_passwd((name, "x", USERS[name], USERS[name], "", "/", "/bin/false"))
            raise KeyError(name)

        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(pwd, "getpwnam", getpwnam)
        monkeypatch.setenv("PATH", str(tmp_path))
        if useradd:
            (tmp_path / "useradd").write_text(f'#!/bin/sh\necho "$@" > {made}\n')
            (tmp_path / "useradd").chmod(0o755)
        return made

    return make


def uid() -> int | None:
    owner = database_owner(Path("/nowhere"))
    return owner.uid if owner else None


def test_a_normal_user_needs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert uid() is None


def test_the_user_of_an_installed_postgresql_serves(machine: Machine) -> None:
    made = machine("postgres", "homeroom", "nobody")
    assert uid() == USERS["postgres"]
    assert not made.exists()


def test_otherwise_one_is_made_that_cannot_log_in(machine: Machine) -> None:
    made = machine("nobody")
    assert uid() == USERS["homeroom"]
    assert made.read_text() == "--system --no-create-home --shell /usr/sbin/nologin homeroom\n"


def test_otherwise_nobody_serves(machine: Machine) -> None:
    machine("nobody", useradd=False)
    assert uid() == USERS["nobody"]


def test_otherwise_it_says_what_to_do(machine: Machine) -> None:
    machine(useradd=False)
    with pytest.raises(RuntimeError, match="run as a normal user"):
        database_owner(Path("/nowhere"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_closed_folder_above_can_be_passed_but_not_listed(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "data").mkdir(parents=True)
    closed.chmod(0o700)
    (closed / "data").chmod(0o700)
    assert closed in open_way(closed / "data")
    assert mode(closed) == 0o701
    assert mode(closed / "data") == 0o700
    assert open_way(closed / "data") == []


def test_an_installation_becomes_readable_and_nothing_becomes_writable(tmp_path: Path) -> None:
    root = tmp_path / "pginstall"
    (root / "bin").mkdir(parents=True, mode=0o700)
    (root / "bin" / "postgres").touch(mode=0o700)
    (root / "settings").touch(mode=0o600)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch(mode=0o600)
    (root / "link").symlink_to(elsewhere)
    open_tree(root)
    assert mode(root / "bin") & 0o007 == 0o005
    assert mode(root / "bin" / "postgres") == 0o705
    assert mode(root / "settings") == 0o604
    assert mode(elsewhere) == 0o600
