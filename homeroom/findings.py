"""Findings of diagnosis as the command line shows them: a table by severity, then what a person needs to act.

A finding is a dictionary in the names of the HTTP API: `check`, `severity`, `observed`, `expected`, `row`,
`evidence`; and where they are known `process`, `userId`, `since`, `means` and `action`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

Finding = Mapping[str, Any]

SEVERITIES = ("CRITICAL", "HIGH", "MEDIUM", "LOW", "INFO")
"""The worst one first."""
_STYLES = {"CRITICAL": "bold red", "HIGH": "red", "MEDIUM": "yellow", "LOW": "cyan", "INFO": "dim"}


def rank(severity: str) -> int:
    """The place in SEVERITIES; what is unknown is as bad as the worst."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else 0


def at_least(findings: Iterable[Finding], severity: str) -> list[Finding]:
    """The findings that are as bad as this, or worse."""
    return [each for each in findings if rank(each["severity"]) <= rank(severity)]


def is_critical(findings: Iterable[Finding]) -> bool:
    return any(rank(each["severity"]) == 0 for each in findings)


def gathered(findings: Iterable[Finding]) -> list[tuple[Finding, tuple[str, ...]]]:
    """The worst first; what several processes say in the same words is one entry with all their names."""
    entries: dict[tuple[Any, ...], tuple[Finding, list[str]]] = {}
    for each in findings:
        row = tuple(sorted(each.get("row", {}).items()))
        words = tuple(each.get(name, "") for name in ("check", "severity", "observed", "expected", "userId"))
        _, processes = entries.setdefault((*words, row), (each, []))
        if each.get("process") and each["process"] not in processes:
            processes.append(each["process"])
    ordered = sorted(entries.values(), key=lambda entry: rank(entry[0]["severity"]))
    return [(finding, tuple(processes)) for finding, processes in ordered]


def show(findings: Sequence[Finding], console: Console) -> None:
    """Print the table, then the evidence of what is wrong; facts (INFO) are only in the table."""
    entries = gathered(findings)
    if entries:
        console.print(_table(entries))
    for finding, processes in entries:
        if finding["severity"] != "INFO":
            _show_evidence(finding, processes, console)
    console.print(_summary(findings))


def _table(entries: Sequence[tuple[Finding, tuple[str, ...]]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("severity", "check", "where", "what is so"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "severity")
    for finding, processes in entries:
        style = _STYLES.get(finding["severity"], _STYLES["CRITICAL"])
        table.add_row(
            Text(finding["severity"], style=style),
            Text(finding["check"]),
            Text(_where(finding, processes)),
            Text(finding["observed"], style="dim" if finding["severity"] == "INFO" else ""),
        )
    return table


def _where(finding: Finding, processes: Sequence[str]) -> str:
    return ", ".join(filter(None, (finding.get("userId", ""), *processes)))


def _show_evidence(finding: Finding, processes: Sequence[str], console: Console) -> None:
    style = _STYLES.get(finding["severity"], _STYLES["CRITICAL"])
    title = f"[{style}]{escape(finding['severity'])}[/] [bold]{escape(finding['check'])}[/]"
    console.print(f"\n{title}  {escape(_where(finding, processes))}", soft_wrap=True)
    lines = [("observed", finding["observed"]), ("expected", finding.get("expected", ""))]
    lines += [("since", finding.get("since") or "")]
    lines += [(name, str(value)) for name, value in finding.get("row", {}).items()]
    lines += [(name, str(value)) for name, value in finding.get("evidence", {}).items()]
    lines += [("means", finding.get("means", "")), ("do", finding.get("action", ""))]
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in lines:
        if value:
            table.add_row(Text(name), Text(value))
    console.print(Padding(table, (0, 0, 0, 2)))


def _summary(findings: Sequence[Finding]) -> str:
    counts = {
        severity: sum(1 for each in findings if each["severity"] == severity) for severity in SEVERITIES[:-1]
    }
    told = [f"{count} {severity.lower()}" for severity, count in counts.items() if count]
    return f"\n{', '.join(told)}" if told else "\n[bold green]Nothing is wrong.[/]"
