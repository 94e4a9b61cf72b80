"""Failpoints act once, where they are armed, and never in production."""

from __future__ import annotations

import ast
import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chassis import failpoints

ROOT = Path(failpoints.__file__).resolve().parent.parent
NAME = "session.after_commit"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    failpoints.configure(tmp_path, allowed=True)
    yield tmp_path
    failpoints.configure(None, allowed=False)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def run_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_production_refuses_a_failpoint_directory(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="HOMEROOM_FAILPOINTS_DIR"):
        failpoints.configure(tmp_path, allowed=False)


def test_a_directory_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a directory"):
        failpoints.configure(tmp_path / "missing", allowed=True)


async def test_nothing_happens_where_nothing_is_armed(directory: Path) -> None:
    failpoints.arm(directory, "progress.after_commit", "error")
    failpoints.hit(NAME)
    await failpoints.hit_async(NAME)
    assert [path.name for path in directory.iterdir()] == ["progress.after_commit"]


async def test_nothing_happens_when_failpoints_are_off(tmp_path: Path) -> None:
    failpoints.arm(tmp_path, NAME, "error")
    failpoints.configure(None, allowed=False)
    failpoints.hit(NAME)
    await failpoints.hit_async(NAME)
    assert (tmp_path / NAME).exists()


async def test_an_armed_error_is_raised_once(directory: Path) -> None:
    failpoints.arm(directory, NAME, "error")
    with pytest.raises(failpoints.FailpointError, match=NAME):
        failpoints.hit(NAME)
    failpoints.hit(NAME)
    failpoints.arm(directory, NAME, "error")
    with pytest.raises(failpoints.FailpointError, match=NAME):
        await failpoints.hit_async(NAME)
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize(
    "action", ["", "explode", "pause", "pause soon", "pause -1", "pause 61", "pause nan", "kill 9"]
)
def test_an_unknown_action_cannot_be_armed(directory: Path, action: str) -> None:
    with pytest.raises(ValueError):
        failpoints.arm(directory, NAME, action)
    assert list(directory.iterdir()) == []


def test_an_unknown_point_cannot_be_armed(directory: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no failpoint 'session\.typo'"):
        failpoints.arm(directory, "session.typo", "kill")


async def test_a_hold_stops_only_its_task_until_its_file_is_removed(directory: Path) -> None:
    failpoints.arm(directory, NAME, "hold")
    held = directory / f"{NAME}.held"
    task = asyncio.create_task(failpoints.hit_async(NAME))
    await until(held.exists)
    await failpoints.hit_async(NAME)  # others go on: the point was armed for one
    assert not task.done()
    held.unlink()
    await asyncio.wait_for(task, 10)


def test_a_pause_lasts_as_long_as_it_says_and_ends_by_itself(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    clock = [100.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setattr("time.sleep", sleep)
    failpoints.arm(directory, NAME, "pause 30.5")
    failpoints.hit(NAME)
    assert sum(slept) == pytest.approx(30.5)


async def test_an_awaited_pause_lets_others_work(directory: Path) -> None:
    failpoints.arm(directory, NAME, "pause 60")
    pausing = asyncio.create_task(failpoints.hit_async(NAME))
    await until(lambda: not (directory / NAME).exists())
    assert not pausing.done()
    pausing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pausing


async def test_a_hold_stops_the_whole_process_when_hit_is_not_awaited(directory: Path) -> None:
    failpoints.arm(directory, NAME, "hold")
    held = directory / f"{NAME}.held"
    work = asyncio.create_task(asyncio.to_thread(failpoints.hit, NAME))
    await until(held.exists)
    held.unlink()
    await asyncio.wait_for(work, 10)


def test_a_kill_ends_the_process_at_once(tmp_path: Path) -> None:
    failpoints.arm(tmp_path, NAME, "kill")
    process = run_python(
        "import sys, pathlib; from chassis import failpoints\n"
        "failpoints.configure(pathlib.Path(sys.argv[1]), allowed=True)\n"
        "print('before', flush=True); failpoints.hit(sys.argv[2]); print('after')",
        tmp_path,
        NAME,
    )
    output, _ = process.communicate(timeout=30)
    assert (process.returncode, output) == (-9, "before\n")
    assert list(tmp_path.iterdir()) == []


async def test_only_one_of_many_processes_carries_out_the_action(tmp_path: Path) -> None:
    points, stop = tmp_path / "points", tmp_path / "stop"
    points.mkdir()
    code = (
        "import sys, pathlib; from chassis import failpoints\n"
        "points, stop, acted = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), 0\n"
        "failpoints.configure(points, allowed=True)\n"
        "while not stop.exists():\n"
        "    try: failpoints.hit(sys.argv[3])\n"
        "    except failpoints.FailpointError: acted += 1\n"
        "print(acted)"
    )
    processes = [run_python(code, points, stop, NAME) for _ in range(3)]
    try:
        for _ in range(200):
            failpoints.arm(points, NAME, "error")
            await until(lambda: not (points / NAME).exists())
        stop.touch()
        outputs = [process.communicate(timeout=30)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert sum(map(int, outputs)) == 200


def test_every_point_in_the_code_is_documented() -> None:
    assert failpoints.__doc__ is not None
    for name in failpoints.NAMES:
        assert f"`{name}`" in failpoints.__doc__
    for package in ("chassis", "gateway", "session_service", "subscription_service", "progress_service"):
        for path in (ROOT / package).rglob("*.py"):
            for point in _points_hit(ast.parse(path.read_text())):
                assert point in failpoints.NAMES, f"{path.relative_to(ROOT)} hits {point!r}"


def _points_hit(tree: ast.AST) -> Iterator[object]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {
            "failpoints.hit",
            "failpoints.hit_async",
        }:
            assert isinstance(node.args[0], ast.Constant), "a point's name is written where it is hit"
            yield node.args[0].value
