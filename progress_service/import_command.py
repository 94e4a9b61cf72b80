"""`python -m progress_service import FILE`: brings the progress of a team that moves in into the database."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

import chassis.postgres.migrations
from chassis.errors import ServiceError
from chassis.postgres import Database, DatabaseMisconfigured, DatabaseUnavailable
from chassis.postgres.errors import DataRefused, LockTimeout, OutcomeUnknown
from chassis.postgres.migrations import SchemaMismatch
from chassis.process.config import ConfigError, Secret, load, rules
from chassis.process.lifecycle import EXIT_CONFIGURATION, EXIT_CRASHED, EXIT_OK
from progress_service.operations.import_files import ImportFile, ImportRefused
from progress_service.operations.import_progress import ProgressImport, Progressing, Summary

EXIT_INTERRUPTED = 130
CONNECTIONS_MAX = 2
AGAIN = "What was imported stays; run it again to go on."

# Makes the import of a database, which tells how far it is.
Assemble = Callable[[Database, Callable[[Progressing], object]], ProgressImport]


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """The configuration of the command."""

    database_url: Secret = field(
        metadata=rules(means="the PostgreSQL URI of the role of progress_service that reads and writes rows")
    )


def main(arguments: Sequence[str], *, assemble: Assemble, migrations: Mapping[str, Path]) -> int:
    """Carry out the command, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m progress_service import",
        description="Import levels, XP and completions from a file. A second time changes nothing.",
    )
    parser.add_argument("file", type=Path, help="a .csv with a header, or a .jsonl")
    parser.add_argument("--dry-run", action="store_true", help="write the same report, and change nothing")
    parser.add_argument("--report", type=Path, help="where to write the report (default: FILE.report.jsonl)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    given = parser.parse_args(arguments)
    report = given.report or given.file.with_name(f"{given.file.name}.report.jsonl")
    said = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        config = load(ImportConfig, os.environ)
        _require_apart(report, given.file)
        importing = _run(
            config,
            ImportFile(given.file),
            report,
            dry_run=given.dry_run,
            assemble=assemble,
            migrations=migrations,
        )
        summary = asyncio.run(importing)
    except ConfigError as error:
        said.print(str(error), style="red", markup=False)
        return EXIT_CONFIGURATION
    except (ImportRefused, SchemaMismatch, DatabaseUnavailable, DatabaseMisconfigured) as error:
        said.print(f"error: {error}", style="red", markup=False)
        return EXIT_CRASHED
    except OSError as error:
        said.print(f"error: {report} cannot be written: {error.strerror or error}", style="red", markup=False)
        return EXIT_CRASHED
    except (ServiceError, DataRefused, LockTimeout, OutcomeUnknown) as error:
        said.print(f"error: the import stopped: {error!r}. {AGAIN}", style="red", markup=False)
        return EXIT_CRASHED
    except KeyboardInterrupt:
        said.print(f"interrupted. {AGAIN}", markup=False)
        return EXIT_INTERRUPTED
    sys.stdout.write(orjson.dumps(asdict(summary)).decode() + "\n" if given.json else _told(summary, report))
    return EXIT_OK


async def _run(
    config: ImportConfig,
    source: ImportFile,
    report: Path,
    *,
    dry_run: bool,
    assemble: Assemble,
    migrations: Mapping[str, Path],
) -> Summary:
    database = await Database.connect(
        config.database_url.reveal(), maximum=CONNECTIONS_MAX, application_name="progress_service import"
    )
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    tasks = {part: bar.add_task(part, total=1.0) for part in ("reading", "merging")}

    def tell(progressing: Progressing) -> None:
        bar.update(tasks[progressing.part], completed=progressing.done)

    try:
        await chassis.postgres.migrations.check(database, migrations)
        with bar, report.open("wb") as report_file:
            return await assemble(database, tell).run(source, report_file, dry_run=dry_run)
    finally:
        await database.close()


def _require_apart(report: Path, file: Path) -> None:
    if file.exists() and report.exists() and report.samefile(file):
        raise ImportRefused(f"the report {report} is the file itself, and would overwrite it")


def _told(summary: Summary, report: Path) -> str:
    verb = "would add" if summary.dry_run else "added"
    added = f"{summary.xp_added} XP, {summary.levels_raised} levels, {summary.completions_added} completions"
    lines = [
        f"{summary.rows} rows: {summary.counted} counted, {summary.duplicates} duplicates",
        f"{summary.merged} merged, {summary.rejected} rejected; the report is {report}",
        f"{verb}: {added}",
    ]
    if summary.ignored_columns:
        lines.append(f"ignored columns: {', '.join(map(repr, summary.ignored_columns))}")
    if not summary.ends_in_a_line:
        lines.append("The last line has no line break: the file may have been cut off.")
    if summary.sync_run:
        lines.append(f"The licenses follow in the background: GET /v1/sync/runs/{summary.sync_run}")
    return "\n".join(lines) + "\n"
