"""The replay's killer keeps to its schedule, ends between two kills, and reports what it did."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
from collections import Counter
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from bench.replay import __main__ as command
from bench.replay import killer
from bench.replay.comparison import Comparison
from bench.replay.errors import ReplayError
from bench.replay.killer import POSTGRES, VICTIMS, Kill, Killer, Way, schedule
from bench.replay.log import PracticeLog
from bench.replay.report import Outcome, Storm, as_json, show
from bench.replay.tally import Tally


class Stack:
    """Notes what is done to it; a victim in `absent` does not run for so many looks."""

    def __init__(self, absent: dict[str, int] | None = None) -> None:
        self.notes: list[str] = []
        self.absent = absent or {}
        self.restarting: asyncio.Event | None = None

    def pid(self, name: str) -> int | None:
        if self.absent.get(name, 0):
            self.absent[name] -= 1
            return None
        return 1

    async def kill(self, name: str) -> int:
        self.notes.append(f"kill {name}")
        return 1

    async def terminate(self, name: str) -> int:
        self.notes.append(f"terminate {name}")
        return 1

    async def restart_postgres(self, *, immediately: bool = False) -> None:
        self.notes.append(f"stop postgres {'at once' if immediately else 'in order'}")
        if self.restarting is not None:
            self.restarting.set()
            await asyncio.sleep(0)
            self.notes.append("postgres runs")

    async def wait_ready(self) -> None:
        self.notes.append("ready")


def at_once(victim: str, way: Way = Way.CRASH) -> Kill:
    return Kill(pause_seconds=0.0, victim=victim, way=way)


async def play_until(killer: Killer, kills: int) -> None:
    async with killer.at_work():
        while killer.killed.total() < kills:
            await asyncio.sleep(0)


def test_a_seed_gives_the_same_kills_each_time_and_another_seed_gives_others() -> None:
    assert list(schedule(7, 60)) == list(schedule(7, 60))
    assert list(schedule(7, 60)) != list(schedule(8, 60))
    assert len(list(schedule(7, 60))) == 60


@pytest.mark.parametrize("seed", range(20))
def test_sixty_kills_come_every_4_to_9_seconds_and_reach_every_process_and_postgres(seed: int) -> None:
    kills = list(schedule(seed, 60))
    assert all(4.0 <= kill.pause_seconds <= 9.0 for kill in kills)
    assert {kill.victim for kill in kills} == set(VICTIMS)
    ways = Counter(kill.way for kill in kills)
    assert ways[Way.CRASH] > ways[Way.STOP] > 0
    assert {"gateway", "session_service", "subscription_service", "progress_service", "postgres"} == set(
        VICTIMS
    )


async def test_each_victim_is_killed_in_its_way_and_counted() -> None:
    stack, said = Stack(), list[str]()
    kills = [
        at_once("gateway"),
        at_once("gateway", Way.STOP),
        at_once(POSTGRES),
        at_once(POSTGRES, Way.STOP),
        at_once("gateway"),
    ]
    killer = Killer(stack, iter(kills), say=said.append)
    await play_until(killer, 5)
    assert stack.notes == [
        "kill gateway",
        "terminate gateway",
        "stop postgres at once",
        "stop postgres in order",
        "kill gateway",
        "ready",
    ]
    assert killer.killed == {
        ("gateway", Way.CRASH): 2,
        ("gateway", Way.STOP): 1,
        (POSTGRES, Way.CRASH): 1,
        (POSTGRES, Way.STOP): 1,
    }
    assert len(said) == 5


async def test_a_victim_that_is_not_back_yet_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(killer, "POLL_SECONDS", 0.0)
    stack = Stack(absent={"gateway": 3})
    await play_until(Killer(stack, iter([at_once("gateway")]), say=lambda _: None), 1)
    assert stack.notes == ["kill gateway", "ready"]
    assert stack.absent["gateway"] == 0


async def test_a_victim_that_never_comes_back_fails_the_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(killer, "RUNNING_SECONDS_MAX", 0.0)
    at_work = Killer(Stack(absent={"gateway": 10**9}), iter([at_once("gateway")]), say=lambda _: None)
    with pytest.raises(ReplayError, match="gateway was killed and did not come back"):
        async with at_work.at_work():
            await asyncio.sleep(0.2)  # longer than its limit: there is nothing else to wait for


async def test_the_end_of_the_play_ends_the_kills_and_never_in_the_middle_of_one() -> None:
    stack = Stack()
    stack.restarting = asyncio.Event()
    forever = (at_once(POSTGRES) for _ in itertools.count())
    at_work = Killer(stack, forever, say=lambda _: None)
    async with at_work.at_work():
        await stack.restarting.wait()
    assert stack.notes[-2:] == ["postgres runs", "ready"]
    assert stack.notes.count("postgres runs") == at_work.killed.total()


async def test_the_pause_before_a_kill_ends_with_the_play() -> None:
    stack = Stack()
    async with asyncio.timeout(10):
        async with Killer(stack, iter([Kill(3600.0, "gateway", Way.CRASH)]), say=lambda _: None).at_work():
            await asyncio.sleep(0)
    assert stack.notes == ["ready"]


async def test_a_second_play_goes_on_with_the_schedule() -> None:
    stack = Stack()
    at_work = Killer(stack, iter([at_once("gateway"), at_once("session_service")]), say=lambda _: None)
    await play_until(at_work, 1)
    await play_until(at_work, 2)
    assert [note for note in stack.notes if note != "ready"] == ["kill gateway", "kill session_service"]


async def test_the_schedule_is_done_when_its_last_kill_was_carried_out() -> None:
    at_work = Killer(Stack(), iter([at_once("gateway"), at_once("session_service")]), say=lambda _: None)
    await play_until(at_work, 1)
    assert at_work.done == (at_work.killed.total() == 2)
    await play_until(at_work, 2)
    assert at_work.done
    assert Killer(Stack(), iter(()), say=lambda _: None).done


app = typer.Typer()
app.command()(command.main)


@pytest.mark.parametrize("options", [["--data", "x"], ["--url", "http://localhost"]])
def test_a_stack_that_is_not_ours_is_not_killed(tmp_path: Path, options: list[str]) -> None:
    write_empty_log(tmp_path)
    result = CliRunner().invoke(app, [str(tmp_path), "--kills", "3", *options])
    assert result.exit_code == command.EXIT_FAILED
    assert "a stack of its own" in " ".join(result.output.split())


@pytest.mark.parametrize("kills", ["-1", "1001", "many"])
def test_a_number_of_kills_that_makes_no_sense_is_refused(tmp_path: Path, kills: str) -> None:
    write_empty_log(tmp_path)
    assert CliRunner().invoke(app, [str(tmp_path), "--kills", kills]).exit_code == 2


def test_a_log_without_answers_is_not_played_for_ever(tmp_path: Path) -> None:
    write_empty_log(tmp_path)
    result = CliRunner().invoke(app, [str(tmp_path), "--kills", "3"])
    assert result.exit_code == command.EXIT_FAILED
    assert "no answers" in result.output


def write_empty_log(folder: Path) -> None:
    import gzip  # noqa: PLC0415 - only here

    with gzip.open(folder / "answers.csv.gz", "wt", encoding="utf-8") as file:
        file.write("learner,session,occurred_at,question_id,choice,correct\n")
    (folder / "questions.jsonl").write_text("")


def outcome(statuses: dict[str, int], *, errors: int = 0, storm: bool = True) -> Outcome:
    nothing = Tally()
    return Outcome(
        PracticeLog((), ()),
        (),
        Comparison(nothing, nothing, nothing, nothing, []),
        all_counted=True,
        second=None,
        statuses=statuses,
        storm=Storm(7, {("gateway", Way.CRASH): 2}, {"gateway": errors}) if storm else None,
    )


HONEST = {
    "200": 5,
    "201": 1,
    "503": 1,
    "503 UNAVAILABLE": 2,
    "504 DEADLINE_EXCEEDED": 1,
    "409 REQUEST_ABORTED": 1,
    "no answer": 9,
}


def test_what_the_readme_tells_an_app_to_expect_is_expected() -> None:
    assert outcome(HONEST).unexpected_statuses == {}
    assert outcome(HONEST).sound


@pytest.mark.parametrize(
    "label", ["500 INTERNAL", "500", "502", "409 SESSION_CLOSED", "429 OVERLOADED", "404"]
)
def test_any_other_answer_in_a_storm_fails_the_replay(label: str) -> None:
    found = outcome({**HONEST, label: 1})
    assert found.unexpected_statuses == {label: 1}
    assert not found.sound


def test_a_500_that_nobody_saw_fails_the_replay_too() -> None:
    assert not outcome(HONEST, errors=1).sound


def test_without_a_storm_the_differences_alone_decide() -> None:
    assert outcome({"200": 1, "404 NOT_FOUND": 1}, storm=False).sound


def test_the_report_tells_kills_by_victim_and_answers_by_status() -> None:
    found = outcome({**HONEST, "500 INTERNAL": 3}, errors=3)
    text = io.StringIO()
    show(Console(file=text, width=200), found)
    assert "2 kills (seed 7): 2 gateway crash" in text.getvalue()
    assert "3 answers were 500 INTERNAL" in text.getvalue()
    assert "2 503 UNAVAILABLE" in text.getvalue()
    plain = json.loads(json.dumps(as_json(found)))
    assert plain["storm"] == {"seed": 7, "kills": {"gateway crash": 2}, "internalErrors": {"gateway": 3}}
    assert plain["statuses"]["no answer"] == 9
    assert plain["unexpectedStatuses"] == {"500 INTERNAL": 3}
