"""A leashed child holds its lock while it lives, ends with its parent, and is found again after a crash."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from homeroom.embedded.leash import LOCKED_EXIT_CODE
from homeroom.embedded.process import Program, end, end_leftover, holder, spawn, until

SLEEP = "import time; time.sleep(600)"
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""
SUPERVISOR = """
import asyncio, sys, time
from pathlib import Path
from homeroom.embedded.process import Program, spawn
folder = Path(sys.argv[1])
async def main():
    await spawn(Program(name="child", command=[sys.executable, "-c", sys.argv[2]], environment={},
                        log=folder / "child.log", lock=folder / "child.lock"))
    print("started", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def program(folder: Path, code: str) -> Program:
    return Program(
        name="child",
        command=[sys.executable, "-c", code],
        environment={},
        log=folder / "child.log",
        lock=folder / "child.lock",
    )


async def supervised(folder: Path, code: str) -> asyncio.subprocess.Process:
    """Another process with a leashed child of its own."""
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SUPERVISOR, str(folder), code, stdout=asyncio.subprocess.PIPE
    )
    assert supervisor.stdout is not None
    assert await asyncio.wait_for(supervisor.stdout.readline(), 30) == b"started\n"
    assert await until(lambda: bool(holder(folder / "child.lock")), seconds_max=30)
    return supervisor


async def test_the_lock_names_the_child_while_it_lives_and_nobody_after(tmp_path: Path) -> None:
    child = await spawn(program(tmp_path, SLEEP))
    assert await until(lambda: holder(tmp_path / "child.lock") == child.pid, seconds_max=30)
    await end(child, signal.SIGTERM, grace_seconds=10)
    assert child.returncode == -signal.SIGTERM
    assert holder(tmp_path / "child.lock") is None


async def test_the_child_keeps_its_pid_when_it_becomes_the_program(tmp_path: Path) -> None:
    child = await spawn(program(tmp_path, "import os; print(os.getpid())"))
    assert await child.wait() == 0
    assert (tmp_path / "child.log").read_text() == f"{child.pid}\n"


async def test_a_deaf_child_is_killed_when_its_grace_is_over(tmp_path: Path) -> None:
    child = await spawn(program(tmp_path, STUBBORN))
    assert await until(lambda: (tmp_path / "child.log").read_text() == "deaf\n", seconds_max=30)
    await end(child, signal.SIGTERM, grace_seconds=0.1)
    assert child.returncode == -signal.SIGKILL


async def test_a_second_child_under_the_same_lock_refuses_to_run(tmp_path: Path) -> None:
    first = await spawn(program(tmp_path, SLEEP))
    assert await until(lambda: bool(holder(tmp_path / "child.lock")), seconds_max=30)
    second = await spawn(program(tmp_path, "print('ran')"))
    assert await second.wait() == LOCKED_EXIT_CODE
    assert "ran" not in (tmp_path / "child.log").read_text()
    await end(first, signal.SIGTERM, grace_seconds=10)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
async def test_a_killed_supervisor_takes_its_child_along(tmp_path: Path) -> None:
    supervisor = await supervised(tmp_path, SLEEP)
    supervisor.kill()
    await supervisor.wait()
    assert await until(lambda: holder(tmp_path / "child.lock") is None, seconds_max=30)


async def test_what_survives_a_killed_supervisor_is_found_and_ended(tmp_path: Path) -> None:
    supervisor = await supervised(tmp_path, STUBBORN)
    assert await until(lambda: (tmp_path / "child.log").read_text() == "deaf\n", seconds_max=30)
    supervisor.kill()
    await supervisor.wait()
    assert holder(tmp_path / "child.lock")

    assert await end_leftover(tmp_path / "child.lock", signal.SIGTERM, grace_seconds=0.1)

    assert holder(tmp_path / "child.lock") is None


async def test_nothing_left_over_is_nothing_to_end(tmp_path: Path) -> None:
    assert not await end_leftover(tmp_path / "never.lock", signal.SIGTERM, grace_seconds=1)


async def test_a_child_is_out_of_reach_of_the_terminal(tmp_path: Path) -> None:
    child = await spawn(program(tmp_path, SLEEP))
    assert await until(lambda: bool(holder(tmp_path / "child.lock")), seconds_max=30)
    assert os.getpgid(child.pid) != os.getpgid(0)
    await end(child, signal.SIGTERM, grace_seconds=10)
