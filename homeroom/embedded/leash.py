"""Become another program, which holds a lock while it lives and ends when its parent ends.

Run as a script: `leash.py PARENT_PID DEATH_SIGNAL LOCK_FILE UID GID COMMAND...` (uid -1: keep the user).

The lock is an inherited file description: the kernel releases it exactly when the last process of the program
has ended, whatever ended it. A pid alone could belong to another program by then.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys
import time
from typing import NoReturn

LOCKED_EXIT_CODE = 75
"""Exit code of a leash whose lock another process holds (EX_TEMPFAIL)."""

_PR_SET_PDEATHSIG = 1
_LOCK_ATTEMPTS = 25


def hold_lock(path: str) -> None:
    """Lock `path` for as long as this program lives, and write the pid into it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    for _ in range(_LOCK_ATTEMPTS):  # a process that asks whether we live holds the lock for a moment
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            time.sleep(0.02)
    else:
        sys.stderr.write(f"{path} is locked: an earlier process still runs\n")
        sys.exit(LOCKED_EXIT_CODE)
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    os.set_inheritable(lock, True)


def end_with_parent(parent_pid: int, death_signal: int) -> None:
    """Ask the kernel for `death_signal` when the parent dies; only Linux can, elsewhere the lock must do."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent_pid:  # it died before the kernel was asked
        sys.exit(LOCKED_EXIT_CODE)


def main(arguments: list[str]) -> NoReturn:
    parent_pid, death_signal, lock, uid, gid, *command = arguments
    hold_lock(lock)
    if int(uid) >= 0:
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    end_with_parent(int(parent_pid), int(death_signal))  # last: a change of user clears it
    os.execv(command[0], command)  # noqa: S606  # there is no shell, and the supervisor chose the command


if __name__ == "__main__":
    main(sys.argv[1:])
