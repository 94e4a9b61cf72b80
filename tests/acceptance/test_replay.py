"""Real learners' log, played twice through a real stack: zero differences, and nothing counted twice."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from rich.progress import Progress

from bench.replay.killer import POSTGRES, Kill, Killer, Way
from bench.replay.log import PracticeLog, read_log
from bench.replay.run import Order
from bench.replay.run import replay as replay_in_process
from homeroom.supervisor import Stack
from tests.support.http_client import HttpClient
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
LEARNERS = 24
SECONDS_MAX = 240

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def practice_log() -> Path:
    """The log beside the checkout, or where HOMEROOM_PRACTICE_LOG says."""
    folder = Path(os.environ.get("HOMEROOM_PRACTICE_LOG") or ROOT / "../shared/data/practice_log")
    if not (folder / "answers.csv.gz").is_file():
        pytest.skip(f"there is no practice log in {folder}; HOMEROOM_PRACTICE_LOG may name another folder")
    return folder


async def replay(stack: Stack, log: Path, *options: str) -> tuple[int | None, dict[str, Any]]:
    """Runs the command; its exit code, and what it says in JSON."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.replay",
        str(log),
        "--data",
        str(stack.data_dir),
        "--json",
        *options,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, complaints = await asyncio.wait_for(process.communicate(), SECONDS_MAX)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert output, complaints.decode()
    return process.returncode, json.loads(output)


@pytest.mark.parametrize("upload", [False, True], ids=["by route", "by upload"])
async def test_a_log_in_any_order_and_number_differs_in_nothing(
    stack: Stack, practice_log: Path, *, upload: bool
) -> None:
    """Each operation is sent one to three times, in a random order of the answers."""
    seed = random.randrange(2**32)
    log = read_log(practice_log).first(6).with_new_learners(f"shuffled-{upload}").shuffled(seed)
    outcome = await replay_in_process(
        Order(log, at_once=6, twice=upload, shuffle_seed=seed, upload=upload),
        gateway_url=stack.gateway_url,
        make_token=stack.token,
        progress=Progress(disable=True),
    )
    assert outcome.comparison.differences == [], seed
    assert outcome.sound, seed
    if upload:
        assert outcome.second is not None
        assert outcome.second.steps_replayed == outcome.second.steps, seed


async def test_a_log_played_twice_is_counted_once_and_differs_in_nothing(
    stack: Stack, practice_log: Path
) -> None:
    code, result = await replay(stack, practice_log, "--learners", str(LEARNERS), "--twice")
    assert result["differences"] == []
    assert code == 0
    assert result["learners"] == LEARNERS
    assert result["answers"] > 1000
    totals = result["totals"]
    for source in ("answersOfGateway", "listedSessions", "stats"):
        known = {figure: value for figure, value in totals[source].items() if value is not None}
        assert known == {figure: totals["log"][figure] for figure in known}
    second = result["second"]
    assert second["answersReplayed"] == second["answers"] == result["answers"]
    assert second["stepsReplayed"] == second["steps"]


async def test_a_count_that_was_tampered_with_is_found(stack: Stack, practice_log: Path) -> None:
    code, result = await replay(stack, practice_log, "--learners", "1")
    assert (code, result["differences"]) == (0, [])
    connection = await asyncpg.connect(stack.dsn("progress"))
    try:
        learner = await connection.fetchval(
            "SELECT min(user_id) FROM session_results WHERE test_id = 'practice-log'"
        )
        tamper = "UPDATE learner_statistics SET correct = correct + $2 WHERE user_id = $1"
        await connection.execute(tamper, learner, -1)
        code, result = await replay(stack, practice_log, "--learners", "1")
        await connection.execute(tamper, learner, 1)
    finally:
        await connection.close()
    assert code == 1
    (difference,) = result["differences"]
    assert (difference["learner"], difference["where"], difference["what"]) == (
        learner,
        "in /v1/stats",
        "right answers",
    )
    assert difference["found"] == difference["expected"] - 1


@pytest.mark.fault
async def test_a_log_played_while_every_process_is_killed_once_differs_in_nothing(
    stack: Stack, practice_log: Path
) -> None:
    whole = read_log(practice_log)
    log = PracticeLog(whole.questions, whole.learners[LEARNERS : LEARNERS + 60])
    progress = Progress(disable=True)
    playing = asyncio.create_task(
        replay_in_process(
            Order(log, at_once=32, twice=False),
            gateway_url=stack.gateway_url,
            make_token=stack.token,
            progress=progress,
        )
    )
    try:
        for number, name in enumerate(
            ("session_service", "progress_service", "gateway", "subscription_service")
        ):
            async with asyncio.timeout(SECONDS_MAX):
                while not played(progress) > (number + 1) * log.answer_count / 6:
                    assert not playing.done(), f"the play ended before {name} could be killed"
                    await asyncio.sleep(0.01)
                await stack.kill(name)
        outcome = await asyncio.wait_for(playing, SECONDS_MAX)
    finally:
        playing.cancel()
    assert outcome.differences == []
    assert outcome.all_counted
    assert outcome.unexpected_statuses == {}
    assert outcome.plays[0].retries > 0  # the kills were felt


@pytest.mark.fault
@pytest.mark.parametrize("way", list(Way))
async def test_the_killer_ends_every_kind_of_process_and_leaves_a_stack_that_is_ready(
    stack: Stack, http: HttpClient, way: Way
) -> None:
    victims = ("gateway", "progress_service", POSTGRES)
    before = {name: stack.pid(name) for name in victims}
    killer = Killer(stack, iter([Kill(0.0, name, way) for name in victims]), say=lambda _: None)

    async def all_killed() -> bool:
        return killer.killed.total() == len(victims)

    async with killer.at_work():
        await eventually(all_killed, seconds=120)

    assert killer.killed == {(name, way): 1 for name in victims}
    assert all(stack.pid(name) not in {None, before[name]} for name in victims)
    stats = await http.send_until_answered("GET", "/v1/stats", user="nobody")
    assert (stats.status, stats.body["completedSessions"]) == (200, 0)


def played(progress: Progress) -> float:
    """How many answers have been given."""
    return next((task.completed for task in progress.tasks if task.description == "answers"), 0.0)
