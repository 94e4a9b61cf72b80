"""The report of a replay, for people and for machines."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.replay.caller import ABORTED, NO_ANSWER
from bench.replay.comparison import Comparison, Difference
from bench.replay.killer import Way
from bench.replay.log import PracticeLog
from bench.replay.play import Play
from bench.replay.tally import FIGURES

# What README.md tells an app to expect while processes die: done, try again, or try again with a new key.
EXPECTED = re.compile(rf"2\d\d|50[34]( \w+)?|409 {ABORTED}|{NO_ANSWER}")


@dataclass(frozen=True, slots=True)
class Replayed:
    """How much of a second play was answered as a replay of the first."""

    answers: int
    answers_replayed: int
    steps: int
    steps_replayed: int
    differences: Sequence[Difference]


@dataclass(frozen=True, slots=True)
class Storm:
    """What was done to the stack: `kills` by victim and way, from this seed.

    `internal_errors` counts the calls that each process has failed with a 500 since its last start.
    """

    seed: int
    kills: Mapping[tuple[str, Way], int]
    internal_errors: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that a replay has found out; `second` is None if the log was played once.

    `passes` counts how often the log was gone through, each time with new learners; `log` is all of that.
    """

    log: PracticeLog
    plays: Sequence[Play]
    comparison: Comparison
    all_counted: bool
    second: Replayed | None
    statuses: Mapping[str, int] = field(default_factory=dict)
    storm: Storm | None = None
    passes: int = 1

    @property
    def differences(self) -> list[Difference]:
        again = self.second.differences if self.second is not None else ()
        return [*self.comparison.differences, *again]

    @property
    def unexpected_statuses(self) -> dict[str, int]:
        """The answers that a patient caller must not get, whichever process dies."""
        return {label: count for label, count in self.statuses.items() if not EXPECTED.fullmatch(label)}

    @property
    def sound(self) -> bool:
        """Whether log and server agree; with a storm also whether every answer was an honest one."""
        if self.differences or not self.all_counted:
            return False
        return self.storm is None or not (
            self.unexpected_statuses or any(self.storm.internal_errors.values())
        )


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
        "passes": outcome.passes,
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
        "statuses": dict(outcome.statuses),
        "storm": None if outcome.storm is None else _storm_as_json(outcome.storm),
        "unexpectedStatuses": outcome.unexpected_statuses,
        "differences": [asdict(difference) for difference in outcome.differences],
    }


def show(console: Console, outcome: Outcome) -> None:
    """The table of totals, the plays, and every difference."""
    for name, play in zip(("played", "played again"), outcome.plays, strict=False):
        console.print(_sentence(name, play, outcome.log))
    if outcome.passes > 1:
        console.print(f"that is {outcome.passes} passes over the log, each with new learners")
    console.print(_table(outcome.comparison))
    if not outcome.all_counted:
        console.print("[red]/v1/stats did not count every session in time; what it says is above[/red]")
    if outcome.second is not None:
        second = outcome.second
        console.print(
            f"second play: {second.answers_replayed:,} of {second.answers:,} answers and "
            f"{second.steps_replayed:,} of {second.steps:,} steps were replays"
        )
    console.print(f"answers: {_counts(outcome.statuses)}")
    if outcome.storm is not None:
        _show_storm(console, outcome.storm, outcome.unexpected_statuses)
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


def _show_storm(console: Console, storm: Storm, unexpected: Mapping[str, int]) -> None:
    console.print(f"{sum(storm.kills.values())} kills (seed {storm.seed}): {_counts(_by_name(storm))}")
    for label, count in unexpected.items():
        console.print(f"[red]{count:,} answers were {escape(label)}, which no kill excuses[/red]")
    for name, count in storm.internal_errors.items():
        if count:
            console.print(f"[red]{name} has failed {count:,} calls with a 500[/red]")


def _storm_as_json(storm: Storm) -> dict[str, Any]:
    return {
        "seed": storm.seed,
        "kills": _by_name(storm),
        "internalErrors": dict(storm.internal_errors),
    }


def _by_name(storm: Storm) -> dict[str, int]:
    return {f"{victim} {way}": count for (victim, way), count in sorted(storm.kills.items())}


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


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
