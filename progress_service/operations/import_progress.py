"""Import of existing progress: a file is staged, then merged learner by learner, and told in a report."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import IO, NamedTuple
from uuid import UUID

import orjson

from chassis.process.background import step_deadline
from progress_service.domain.desyncs import Direction
from progress_service.domain.imported_rows import Note, Row, RowRefused, Verdict, merge
from progress_service.domain.statistics import UserId
from progress_service.domain.sync_runs import Order, RunId
from progress_service.operations.import_files import ImportFile
from progress_service.store.imports import ImportStore
from progress_service.store.sync_runs import SyncRunStore

ROWS_PER_STAGING = 10_000
# A merge has the rows of whole learners, so one learner may have no more than this.
ROWS_PER_MERGE = 5_000
ROWS_OF_A_LEARNER_MAX = ROWS_PER_MERGE
LEFTOVERS_PER_DELETION = 50_000


class Progressing(NamedTuple):
    """How far an import is: a part of its work, and the part's share that is done."""

    part: str
    done: float


@dataclass(slots=True)
class Summary:
    """What an import has read and changed. In a dry run nothing was changed, but all of this would be."""

    dry_run: bool
    rows: int = 0
    counted: int = 0
    duplicates: int = 0
    merged: int = 0
    rejected: int = 0
    xp_added: int = 0
    levels_raised: int = 0
    completions_added: int = 0
    ignored_columns: list[str] = field(default_factory=list)
    ends_in_a_line: bool = True
    sync_run: str = ""


class Report:
    """The report of an import: one JSON object for each row that was merged or rejected."""

    def __init__(self, file: IO[bytes], summary: Summary) -> None:
        self._file = file
        self._summary = summary

    def note(self, note: Note) -> None:
        """Add a line, and count it."""
        self._file.write(orjson.dumps(note._asdict(), option=orjson.OPT_APPEND_NEWLINE))
        match note.verdict:
            case Verdict.DUPLICATE:
                self._summary.duplicates += 1
            case Verdict.MERGED:
                self._summary.merged += 1
            case Verdict.REJECTED:
                self._summary.rejected += 1

    def end(self) -> None:
        """Add the summary as the last line."""
        self._file.write(orjson.dumps({"summary": asdict(self._summary)}, option=orjson.OPT_APPEND_NEWLINE))


class ProgressImport:
    """Imports one file at a time, in memory that does not depend on its size.

    The file may be imported again, whole or in part, in any order: XP has ids that come from the content of
    its row, and levels only rise. So an import that was interrupted is repeated.
    """

    def __init__(
        self, *, store: ImportStore, runs: SyncRunStore, tell: Callable[[Progressing], object]
    ) -> None:
        self._store = store
        self._runs = runs
        self._tell = tell

    async def run(self, source: ImportFile, report_file: IO[bytes], *, dry_run: bool) -> Summary:
        """Import the file and write the report. A dry run does the same, and takes back each change.

        The licenses follow the imported levels by a run over all learners, which any replica works on.
        Raises ImportRefused if the file cannot be read, and what `Database` raises.
        """
        summary = Summary(dry_run=dry_run)
        report = Report(report_file, summary)
        import_id = uuid.uuid4()
        while await self._store.unstage_leftovers(limit=LEFTOVERS_PER_DELETION):
            pass
        staged = await self._stage(import_id, source, summary, report)
        await self._merge(import_id, staged, summary, report)
        summary.counted = summary.rows - summary.duplicates - summary.merged - summary.rejected
        summary.ignored_columns = sorted(source.ignored)
        summary.ends_in_a_line = source.ends_in_a_line
        if summary.counted and not dry_run:
            order = Order(
                run_id=RunId(import_id),
                direction=Direction.PROGRESS_TO_LICENSE,
                dry_run=False,
                ordered_by="import",
            )
            if await self._runs.begin(order, deadline=step_deadline()):
                summary.sync_run = str(import_id)
        report.end()
        return summary

    async def _stage(self, import_id: UUID, source: ImportFile, summary: Summary, report: Report) -> int:
        """Check each line and store it; how many rows there are then."""
        rules = await self._store.read_rules()
        size_bytes = max(1, source.size_bytes())
        rows: list[Row] = []
        staged = 0
        for line in source.lines():
            summary.rows += 1
            try:
                if isinstance(line.values, RowRefused):
                    raise line.values
                rows.append(rules.row(line.number, line.values))
            except RowRefused as refusal:
                report.note(Note(line.number, Verdict.REJECTED, str(refusal)))
            if len(rows) >= ROWS_PER_STAGING:
                staged += len(rows)
                await self._store.stage(import_id, rows)
                rows = []
                self._tell(Progressing("reading", source.bytes_read / size_bytes))
        await self._store.stage(import_id, rows)
        self._tell(Progressing("reading", 1.0))
        return staged + len(rows)

    async def _merge(self, import_id: UUID, staged: int, summary: Summary, report: Report) -> None:
        """Merge the staged rows, some learners at a time."""
        after, done = "", 0
        while rows := await self._store.read(import_id, after=after, limit=ROWS_PER_MERGE + 1):
            learners = [list(of_one) for _, of_one in groupby(rows, key=lambda row: row.user_id)]
            if len(rows) > ROWS_PER_MERGE and len(learners) > 1:
                learners.pop()  # the rows of the last one may go on behind these
            if len(rows) > ROWS_PER_MERGE and len(learners) == 1:
                done += await self._reject_rest(import_id, learners[0], report)
            whole = [row for of_one in learners for row in of_one]
            user_ids = [of_one[0].user_id for of_one in learners]
            await self._merge_learners(whole, user_ids, summary, report)
            await self._store.unstage(import_id, user_ids)
            after, done = user_ids[-1], done + len(whole)
            self._tell(Progressing("merging", done / max(1, staged)))

    async def _merge_learners(
        self, rows: Sequence[Row], user_ids: Sequence[UserId], summary: Summary, report: Report
    ) -> None:
        merged = merge(rows)
        applied = await self._store.apply(merged, user_ids, dry_run=summary.dry_run)
        for note in sorted([*merged.notes, *applied.notes]):
            report.note(note)
        summary.xp_added += applied.xp
        summary.levels_raised += applied.levels
        summary.completions_added += applied.completions

    async def _reject_rest(self, import_id: UUID, rows: list[Row], report: Report) -> int:
        """Reject a learner's rows behind the first ROWS_OF_A_LEARNER_MAX, and remove them from `rows`."""
        del rows[ROWS_OF_A_LEARNER_MAX:]
        rejected, line = 0, rows[-1].line
        while lines := await self._store.read_lines(
            import_id, rows[0].user_id, after_line=line, limit=ROWS_PER_MERGE
        ):
            for line in lines:
                report.note(
                    Note(line, Verdict.REJECTED, f"the learner has more than {ROWS_OF_A_LEARNER_MAX} rows")
                )
            rejected += len(lines)
        return rejected
