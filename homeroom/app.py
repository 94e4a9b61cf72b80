"""The command line `homeroom`: each command registered once."""

from __future__ import annotations

import typer

from homeroom.commands.backup import backup
from homeroom.commands.demo import demo
from homeroom.commands.diagnose import diagnose
from homeroom.commands.export_questions import export_questions
from homeroom.commands.import_progress import import_progress
from homeroom.commands.import_questions import import_questions
from homeroom.commands.repair import repairs
from homeroom.commands.restore import discard, restore
from homeroom.commands.seed import seed
from homeroom.commands.status import status
from homeroom.commands.token import token
from homeroom.commands.up import up

app = typer.Typer(
    name="homeroom",
    help="Run, watch and try a Homeroom stack on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (up, status, diagnose, token, seed, demo, backup, restore, discard):
    app.command()(command)

imports = typer.Typer(name="import", help="Bring files into a Homeroom.", no_args_is_help=True)
imports.command("questions")(import_questions)
imports.command("progress")(import_progress)
app.add_typer(imports)

exports = typer.Typer(name="export", help="Write what a Homeroom has into files.", no_args_is_help=True)
exports.command("questions")(export_questions)
app.add_typer(exports)

app.add_typer(repairs)
