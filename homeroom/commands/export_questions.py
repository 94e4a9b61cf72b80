"""`homeroom export questions`: the questions of a test into a file."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import Progress

from homeroom.api import Api, ApiError
from homeroom.commands.import_questions import NOT_ALL_IMPORTED
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
from homeroom.questions import csv_table, qti
from homeroom.questions.csv_table import write_csv
from homeroom.questions.model import Question, Rejection
from homeroom.questions.qti_writing import write_qti_package
from homeroom.questions.transfer import list_questions

FORMATS = (qti.FORMAT, csv_table.FORMAT)


def export_questions(
    *,
    file: Annotated[Path, typer.Argument(help="Where to write them; the file must not exist.")],
    test: TestOption,
    file_format: FormatOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    url: UrlOption = None,
    token: TokenOption = None,
    data: DataOption = DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Export the questions of a test, with their right answers: as a QTI 2.1 package, or as CSV.

    What the format cannot hold is listed; the exit code is then 3.
    """
    wanted = one_of(file_format, FORMATS) or _format_of(file)
    if file.exists() and not overwrite:
        raise fail(escape(f"{file} exists already: choose another file, or add --overwrite"))
    base_url, admin_token = administrator_of(url, token, data)
    try:
        questions = asyncio.run(_list(base_url, admin_token, test))
    except ApiError as error:
        raise fail(escape(str(error))) from error
    content, rejections = _written(questions, wanted)
    try:
        file.write_bytes(content)
    except OSError as error:
        raise fail(escape(f"{file}: {error.strerror}")) from error
    written = len(questions) - len(rejections)
    if as_json:
        rejected = [{"questionId": each.place.item, "reason": each.reason} for each in rejections]
        typer.echo(
            json.dumps({"file": str(file), "format": wanted, "written": written, "rejected": rejected})
        )
    else:
        for each in rejections:
            console.print(escape(f"{each.place.item}: {each.reason}"), soft_wrap=True)
        console.print(escape(f"{written} questions are in {file}"), soft_wrap=True)
    if rejections:
        raise typer.Exit(NOT_ALL_IMPORTED)


async def _list(base_url: str, token: str, test: str) -> list[Question]:
    with Progress(console=complaints, transient=True) as progress:
        bar = progress.add_task("exporting", total=None)
        async with Api(base_url, token) as api:
            return await list_questions(api, test, on_progress=lambda done: progress.advance(bar, done))


def _written(questions: list[Question], wanted: str) -> tuple[bytes, list[Rejection]]:
    return write_qti_package(questions) if wanted == qti.FORMAT else (write_csv(questions), [])


def _format_of(file: Path) -> str:
    by_name = {".csv": csv_table.FORMAT, ".zip": qti.FORMAT}.get(file.suffix.lower())
    if by_name is None:
        raise typer.BadParameter("the name of the file does not say it: qti or csv", param_hint="--format")
    return by_name
