"""`homeroom repair`: plan a repair, look at it, apply it, take it back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from homeroom.commands.deployment import Deployment
from homeroom.commands.options import DataOption, JsonOption, complaints, console
from homeroom.commands.question_options import TokenOption, UrlOption
from homeroom.data_directory import DEFAULT
from homeroom.diagnostics_api import SERVICES, DiagnosticsApi, PlanName, service_of

NOT_ALL_CHANGED = 3
"""The exit code when some rows of a plan were skipped, failed or kept."""
ROWS_SHOWN_MAX = 50
PLANS_SHOWN_MAX = 20

T = TypeVar("T")

PlanArgument = Annotated[str, typer.Argument(metavar="PLAN", help="SERVICE/ID, as `repair plan` prints it.")]
HashOption = Annotated[str, typer.Option("--hash", help="The hash of the plan that you have seen.")]

_OUTCOMES = {
    "APPLIED": "green",
    "UNDONE": "green",
    "SKIPPED": "yellow",
    "KEPT": "yellow",
    "FAILED": "bold red",
}

repairs = typer.Typer(
    name="repair", help="Mend what diagnosis has found: by a plan, and reversibly.", no_args_is_help=True
)


@repairs.command("plan")
def plan(
    *,
    check: Annotated[
        str, typer.Argument(help="The check whose findings are to be mended.", show_default=False)
    ] = "",
    user: Annotated[str, typer.Option("--user", help="Only for this learner.")] = "",
    repair: Annotated[str, typer.Option("--repair", help="Another repair than the usual one.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why; the journal keeps it.")],
    url: UrlOption = None,
    token: TokenOption = None,
    data: DataOption = DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Plan a repair. Nothing is changed: the plan shows each row before and after, and has a hash."""
    services = _services(check, repair, user)

    async def work(api: DiagnosticsApi) -> list[tuple[str, dict[str, Any]]]:
        return [
            (service, await api.plan(service, check=check, repair=repair, user_id=user, reason=reason))
            for service in services
        ]

    made = Deployment(url, token, data).ask(work)
    if as_json:
        typer.echo(json.dumps([{"service": service, **answer} for service, answer in made], indent=2))
        return
    told = [each for each in made if _has_something(each[1]["plan"])] or made[:1]
    for service, answer in told:
        _tell_plan(PlanName(service, answer["plan"]["planId"]), answer["plan"], answer.get("rows", []))


@repairs.command("show")
def show(
    *,
    plan: PlanArgument,
    url: UrlOption = None,
    token: TokenOption = None,
    data: DataOption = DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show a plan: each row before and after, and what became of it."""
    name = _named(plan)
    found, rows = Deployment(url, token, data).ask(lambda api: api.show(name))
    if as_json:
        typer.echo(json.dumps({"plan": found, "rows": rows}, indent=2))
        return
    _tell_plan(name, found, rows)


@repairs.command("list")
def list_plans(
    *,
    url: UrlOption = None,
    token: TokenOption = None,
    data: DataOption = DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """List the newest plans of each service."""

    async def work(api: DiagnosticsApi) -> list[tuple[str, dict[str, Any]]]:
        lists = [(service, await api.list_plans(service, limit=PLANS_SHOWN_MAX)) for service in SERVICES]
        return [(service, each) for service, plans in lists for each in plans]

    found = Deployment(url, token, data).ask(work)
    found.sort(key=lambda each: each[1]["createdAt"], reverse=True)
    if as_json:
        typer.echo(json.dumps([{"service": service, **each} for service, each in found], indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("plan", "state", "what", "rows", "by", "made", "why"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "plan")
    for service, each in found:
        table.add_row(
            f"{service}/{each['planId']}",
            each["state"],
            escape(each.get("repair") or each.get("check") or each.get("userId", "")),
            str(each.get("counts", {}).get("rows", 0)),
            escape(each.get("createdBy", "")),
            each["createdAt"][:19],
            escape(each.get("reason", "")),
        )
    console.print(table if found else "No plans.")


@repairs.command("apply")
def apply(
    *,
    plan: PlanArgument,
    plan_hash: HashOption,
    url: UrlOption = None,
    token: TokenOption = None,
    data: DataOption = DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Change the rows of a plan that are still as the plan shows them. Interrupted? Run it again."""
    _work(_named(plan), "apply", plan_hash, Deployment(url, token, data), as_json=as_json)


@repairs.command("undo")
def undo(
    *,
    plan: PlanArgument,
    plan_hash: HashOption,
    url: UrlOption = None,
    token: TokenOption = None,
    data: DataOption = DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Take a repair back: restore the rows that are still as the repair left them."""
    _work(_named(plan), "undo", plan_hash, Deployment(url, token, data), as_json=as_json)


def _work(name: PlanName, verb: str, plan_hash: str, deployment: Deployment, *, as_json: bool) -> None:
    async def work(api: DiagnosticsApi) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        last: dict[str, Any] = {}
        rows: list[dict[str, Any]] = []
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=complaints, transient=True) as progress:
            bar = progress.add_task(verb, total=None)
            async for answer in api.work(name, verb, plan_hash):
                last = answer["plan"]
                rows += answer.get("rows", [])
                counts = last.get("counts", {})
                progress.update(bar, total=counts.get("rows", 0), completed=_done(counts, verb))
        return last, rows

    found, rows = deployment.ask(work)
    odd = [row for row in rows if row["outcome"] in {"SKIPPED", "FAILED", "KEPT"}]
    if as_json:
        typer.echo(json.dumps({"plan": found, "rows": rows}, indent=2))
    else:
        if odd:
            console.print(_rows_table(odd))
        counts = found.get("counts", {})
        console.print(f"[bold]{found['state']}[/]  {_counted(counts)}")
        if verb == "apply" and counts.get("applied"):
            console.print(f"take it back: homeroom repair undo {name} --hash {plan_hash}", soft_wrap=True)
    if odd:
        raise typer.Exit(NOT_ALL_CHANGED)


def _done(counts: dict[str, int], verb: str) -> int:
    names = ("applied", "skipped", "failed") if verb == "apply" else ("undone", "kept")
    return sum(counts.get(each, 0) for each in (*names, *(("undone", "kept") if verb == "apply" else ())))


def _services(check: str, repair: str, user: str) -> Sequence[str]:
    """The services that have to plan."""
    if not check and not repair and not user:
        raise typer.BadParameter("name a check, or a learner with --user", param_hint="CHECK")
    named = check or repair
    if not named:
        return SERVICES
    service = service_of(named)
    if service is None:
        raise typer.BadParameter(
            f"{named!r} has to begin with one of {', '.join(SERVICES)}", param_hint="CHECK"
        )
    return (service,)


def _named(text: str) -> PlanName:
    name = PlanName.read(text)
    if name is None:
        raise typer.BadParameter(f"{text!r} is not SERVICE/ID", param_hint="PLAN")
    return name


def _has_something(plan: dict[str, Any]) -> bool:
    return bool(plan.get("counts", {}).get("rows") or plan.get("leftOut"))


def _tell_plan(name: PlanName, plan: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    counts = plan.get("counts", {})
    if rows:
        console.print(_rows_table(rows[:ROWS_SHOWN_MAX]))
    if counts.get("rows", 0) > min(len(rows), ROWS_SHOWN_MAX):
        console.print(f"… {counts['rows']} rows in all: homeroom repair show {name} --json")
    for line in plan.get("leftOut", []):
        console.print(f"[yellow]left out:[/] {escape(line)}", soft_wrap=True)
    if plan.get("isPartial"):
        console.print("[yellow]There is more than fits in one plan: plan again after applying this one.[/]")
    console.print(f"\n[bold]{name}[/]  {plan['state']}  {_counted(counts)}", soft_wrap=True)
    if not counts.get("rows"):
        console.print("There is nothing to change.")
    elif plan["state"] in {"PLANNED", "APPLYING"}:
        console.print(f"apply it: homeroom repair apply {name} --hash {plan['hash']}", soft_wrap=True)


def _rows_table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table("learner", "table", "change", "outcome", "", box=None, pad_edge=False)
    for row in rows:
        outcome = row["outcome"]
        table.add_row(
            Text(row.get("userId", "")),
            Text(row["table"]),
            Text(_change(row.get("before"), row.get("after"))),
            Text("" if outcome == "WAITING" else outcome, style=_OUTCOMES.get(outcome, "")),
            Text(row.get("detail", "")),
        )
    return table


def _change(before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
    """What changes in a row: only the columns that differ."""
    if before is None and after is None:
        return ""
    if before is None:
        return "created"
    if after is None:
        return "removed (the journal keeps it)"
    changed = [name for name in after if before.get(name) != after[name]]
    return ", ".join(f"{name}: {_short(before.get(name))} → {_short(after[name])}" for name in changed)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:39] + "…"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)
