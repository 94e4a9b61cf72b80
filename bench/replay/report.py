"""A finished replay, for people and for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.replay.comparison import Comparison, Difference
from bench.replay.log import PracticeLog
from bench.replay.play import Play
from bench.replay.tally import FIGURES


@dataclass(frozen=True, slots=True)
class Replayed:
    """How much of a second play was answered as a replay of the first."""

    answers: int
    answers_replayed: int
    steps: int
    steps_replayed: int
    differences: Sequence[Difference]


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that a run of the replay found out; `second` is None when the log was played once."""

    log: PracticeLog
    plays: Sequence[Play]
    comparison: Comparison
    all_counted: bool
    second: Replayed | None

    @property
    def differences(self) -> list[Difference]:
        again = self.second.differences if self.second is not None else ()
        return [*self.comparison.differences, *again]


def replayed(second: Play, differences: Sequence[Difference]) -> Replayed:
    """Count the replays among the steps of a second play."""
    sessions = [session for sessions in second.sessions.values() for session in sessions]
    answers = [seen for session in sessions for seen in session.answers]
    steps = [seen for session in sessions for _, seen in session.steps()]
    return Replayed(
        answers=len(answers),
        answers_replayed=sum(seen.replayed for seen in answers),
        steps=len(steps),
        steps_replayed=sum(seen.replayed for seen in steps),
        differences=differences,
    )


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Everything, as plain values."""
    comparison, second = outcome.comparison, outcome.second
    return {
        "learners": len(outcome.log.learners),
        "sessions": outcome.log.session_count,
        "answers": outcome.log.answer_count,
        "plays": [_play_as_json(play, outcome.log) for play in outcome.plays],
        "allCounted": outcome.all_counted,
        "totals": {
            "log": asdict(comparison.log),
            "answersOfGateway": asdict(comparison.answers_of_gateway),
            "listedSessions": asdict(comparison.listed_sessions),
            "stats": asdict(comparison.stats),
        },
        "second": None
        if second is None
        else {
            "answers": second.answers,
            "answersReplayed": second.answers_replayed,
            "steps": second.steps,
            "stepsReplayed": second.steps_replayed,
        },
        "differences": [asdict(difference) for difference in outcome.differences],
    }


def show(console: Console, outcome: Outcome) -> None:
    """The table of totals, the plays, and every difference."""
    for name, play in zip(("played", "played again"), outcome.plays, strict=False):
        console.print(_sentence(name, play, outcome.log))
    console.print(_table(outcome.comparison))
    if not outcome.all_counted:
        console.print("[red]/v1/stats never came to know of every session: what it says is below[/red]")
    if outcome.second is not None:
        second = outcome.second
        console.print(
            f"second play: {second.answers_replayed:,} of {second.answers:,} answers and "
            f"{second.steps_replayed:,} of {second.steps:,} steps were replays"
        )
    for difference in outcome.differences:
        console.print(f"[red]{escape(str(difference))}[/red]", soft_wrap=True)
    count = len(outcome.differences)
    noun = "difference" if count == 1 else "differences"
    console.print(f"[bold {'red' if count else 'green'}]{count or 'zero'} {noun}[/]")


def _table(comparison: Comparison) -> Table:
    table = Table(title="the log and the server, over all learners")
    table.add_column("")
    sources = {
        "log": comparison.log,
        "answers": comparison.answers_of_gateway,
        "/v1/sessions": comparison.listed_sessions,
        "/v1/stats": comparison.stats,
    }
    for source in sources:
        table.add_column(source, justify="right")
    for figure in FIGURES:
        values = [getattr(tally, figure) for tally in sources.values()]
        cells = ["" if value is None else f"{value:,}" for value in values]
        wrong = any(value is not None and value != values[0] for value in values)
        table.add_row(figure.replace("_", " "), *cells, style="red" if wrong else "")
    return table


def _play_as_json(play: Play, log: PracticeLog) -> dict[str, Any]:
    return {
        "seconds": round(play.seconds, 3),
        "answersPerSecond": round(log.answer_count / play.seconds, 1),
        "p50Ms": _percentile_ms(play, 0.50),
        "p99Ms": _percentile_ms(play, 0.99),
        "retries": play.retries,
    }


def _sentence(name: str, play: Play, log: PracticeLog) -> str:
    rate = log.answer_count / play.seconds
    return (
        f"{name}: {len(log.learners):,} learners, {log.session_count:,} sessions, "
        f"{log.answer_count:,} answers\n"
        f"  in {play.seconds:.1f} s: {rate:,.0f} answers/s, p50 {_percentile_ms(play, 0.50):g} ms, "
        f"p99 {_percentile_ms(play, 0.99):g} ms, {play.retries:,} retries"
    )


def _percentile_ms(play: Play, share: float) -> float:
    latencies = play.latencies_seconds
    if not latencies:
        return 0.0
    return round(latencies[min(len(latencies) - 1, int(len(latencies) * share))] * 1000, 1)
