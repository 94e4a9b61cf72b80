"""The results as tables on a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.measure.profiles import Profile
from bench.results import GOAL_CONNECTIONS, Results


def print_report(console: Console, results: Results) -> None:
    machine = results.machine
    console.print(
        f"\n[bold]Starts of a session[/bold]: {machine.cpu}, {machine.cores} cores, "
        f"{machine.memory_mib} MiB, PostgreSQL {machine.postgres} with fsync "
        f"{machine.postgres_settings.get('fsync', 'on')}, "
        f"Python {machine.python}, commit {machine.commit}",
        highlight=False,
    )
    console.print(_rates(results))
    console.print(_cpu(results))
    console.print(_memory(results))
    if results.goals:
        console.print(_goals(results))
    for run in results.invalid:
        console.print(
            f"[red]invalid: {run.system}, {run.connections} connections, repeat {run.repeat}: "
            f"{escape('; '.join(run.problems))}[/red]"
        )


def print_profiles(console: Console, profiles: Mapping[str, Profile]) -> None:
    for name, profile in sorted(profiles.items(), key=lambda item: -item[1].samples):
        if not profile.samples:
            console.print(f"{name}: idle in every sample")
            continue
        table = Table(title=f"{name}: where its time goes ({profile.samples} samples)", title_justify="left")
        for heading in ("package", "function itself", "with all that it calls"):
            table.add_column(heading, overflow="fold")
        columns = [_shares(shares) for shares in (profile.by_package, profile.by_function, profile.by_caller)]
        table.add_row(*("\n".join(column) for column in columns))
        console.print(table)


def _rates(results: Results) -> Table:
    ratios = {(ratio.peer, ratio.connections): ratio.ratio for ratio in results.ratios}
    table = Table(title="Rates and latencies: medians of the good runs", title_justify="left")
    table.add_column("system")
    for heading in (
        "conns", "starts/s", "least to most", "p50 ms", "p99 ms", "CPU µs/start", "load µs/start", "ours is",
        "runs",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    before = None
    for point in sorted(results.medians, key=lambda point: point.connections):
        if before not in (None, point.connections):
            table.add_section()
        before = point.connections
        ratio = ratios.get((point.system, point.connections))
        table.add_row(
            results.titles[point.system],
            str(point.connections),
            f"[bold]{point.rate:,.0f}[/bold]",
            f"{point.rate_min:,.0f} to {point.rate_max:,.0f}",
            f"{point.p50_ms:.2f}",
            f"{point.p99_ms:.2f}",
            f"{point.cpu_us:,.0f}",
            f"{point.generator_cpu_us_per_start:,.0f}",
            "" if ratio is None else f"{ratio:.2f} times",
            str(point.runs),
        )
    return table


def _cpu(results: Results) -> Table:
    wanted = {point.connections for point in results.medians}
    connections = GOAL_CONNECTIONS if GOAL_CONNECTIONS in wanted else max(wanted, default=0)
    table = Table(title=f"CPU µs per start by process, {connections} connections", title_justify="left")
    table.add_column("system")
    table.add_column("process")
    table.add_column("µs/start", justify="right")
    for point in results.medians:
        if point.connections == connections:
            groups = sorted(point.cpu_us_per_start.items(), key=lambda item: -item[1])
            table.add_row(
                results.titles[point.system],
                "\n".join(group for group, _ in groups),
                "\n".join(f"{used:,.0f}" for _, used in groups),
                end_section=True,
            )
    return table


def _memory(results: Results) -> Table:
    table = Table(title="Memory after the load, MiB", title_justify="left")
    table.add_column("process")
    table.add_column("RSS", justify="right")
    table.add_column("PSS", justify="right")
    for group, memory in results.memory.items():
        table.add_row(group, f"{memory.rss_mib:,.0f}", f"{memory.pss_mib:,.0f}")
    return table


def _goals(results: Results) -> Table:
    table = Table(title="Goals", title_justify="left")
    table.add_column("what")
    table.add_column("wanted", justify="right")
    table.add_column("measured", justify="right")
    table.add_column("reached")
    for goal in results.goals:
        table.add_row(
            goal.what,
            goal.wanted,
            f"{goal.measured:.2f}",
            "[green]yes[/green]" if goal.reached else "[red]no[/red]",
        )
    return table


def _shares(shares: Mapping[str, float]) -> list[str]:
    return [escape(f"{share:6.1%}  {name}") for name, share in shares.items()]
