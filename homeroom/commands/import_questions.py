"""`homeroom import questions`: the questions of a file into a test."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from homeroom.api import Api, ApiError
from homeroom.commands.options import DataOption, JsonOption, complaints, console, fail
from homeroom.commands.question_options import (
    FormatOption,
    TestOption,
    TokenOption,
    UrlOption,
    administrator_of,
    one_of,
)
from homeroom.data_directory import DEFAULT
from homeroom.questions.model import FileRefusedError, Place, QuestionFile, Rejection
from homeroom.questions.reading import FORMATS, read_questions
from homeroom.questions.transfer import Sent, send_questions

NOT_ALL_IMPORTED = 3
"""The exit code when some questions of the file were rejected."""


def import_questions(
    *,
    file: Annotated[Path, typer.Argument(help="GIFT, Moodle XML, QTI 2.1 or 3.0 (zip), or CSV.")],
    test: TestOption,
    file_format: FormatOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only read the file, and report what would be imported.")
    ] = False,
    url: UrlOption = None,
    token: TokenOption = None,
    data: DataOption = DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Import the questions of a file into a test. The same file a second time changes nothing.

    What cannot be imported is listed with its place and the reason; the exit code is then 3.
    """
    wanted = one_of(file_format, FORMATS)
    try:
        found = read_questions(file, wanted)
    except FileRefusedError as refusal:
        raise fail(escape(f"{file}: {refusal}")) from refusal
    sent = Sent()
    if not dry_run and found.questions:
        base_url, admin_token = administrator_of(url, token, data)
        try:
            sent = asyncio.run(_send(base_url, admin_token, test, found))
        except ApiError as error:
            raise fail(escape(str(error))) from error
    if as_json:
        typer.echo(json.dumps(_report(file, found, sent, dry_run=dry_run), indent=2, ensure_ascii=False))
    else:
        _tell(file, found, sent, dry_run=dry_run)
    if sent.stopped:
        raise fail(escape(f"{sent.stopped}; {sent.unsent} questions were not sent: run the command again"))
    if found.rejections or sent.rejections:
        raise typer.Exit(NOT_ALL_IMPORTED)


async def _send(base_url: str, token: str, test: str, found: QuestionFile) -> Sent:
    with Progress(console=complaints, transient=True) as progress:
        bar = progress.add_task("importing", total=len(found.questions))
        async with Api(base_url, token) as api:
            return await send_questions(
                api, test, found.questions, on_progress=lambda done: progress.advance(bar, done)
            )


def _report(file: Path, found: QuestionFile, sent: Sent, *, dry_run: bool) -> dict[str, Any]:
    return {
        "file": str(file),
        "format": found.format,
        "dryRun": dry_run,
        "read": len(found.questions),
        "created": sent.created,
        "updated": sent.updated,
        "unchanged": sent.unchanged,
        "total": sent.total,
        "unsent": sent.unsent,
        "stopped": sent.stopped or None,
        "rejected": [
            {**_place(each.place), "reason": each.reason} for each in [*found.rejections, *sent.rejections]
        ],
        "lost": [
            {**_place(each.place), "questionId": each.question.question_id, "lost": list(each.losses)}
            for each in found.questions
            if each.losses
        ],
    }


def _place(place: Place) -> dict[str, Any]:
    return {"line": place.line, "item": place.item or None}


def _tell(file: Path, found: QuestionFile, sent: Sent, *, dry_run: bool) -> None:
    rejections = [*found.rejections, *sent.rejections]
    if rejections:
        console.print(_table(rejections))
    for each in found.questions:
        if each.losses:
            console.print(escape(f"{each.place}: not taken over: {', '.join(each.losses)}"), soft_wrap=True)
    if dry_run:
        done = f"{len(found.questions)} questions can be imported"
    else:
        done = f"{sent.created} created, {sent.updated} updated, {sent.unchanged} unchanged"
    console.print(escape(f"{file.name} ({found.format}): {done}, {len(rejections)} rejected"), soft_wrap=True)


def _table(rejections: list[Rejection]) -> Table:
    table = Table("where", "why it is rejected", box=None)
    for each in rejections:
        table.add_row(escape(str(each.place)), escape(each.reason))
    return table
