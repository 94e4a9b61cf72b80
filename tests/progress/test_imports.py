"""Imports of existing progress: duplicates and contradictions merge, odd rows are told, twice is once."""

from __future__ import annotations

import asyncio
import io
import json
import random
import signal
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.scale.imports import HEADER as HEADER_OF_BOTH
from bench.scale.imports import lines
from bench.scale.progress_population import COMPLETIONS_PER_LEARNER, build
from chassis.postgres import Connection, Database
from homeroom.embedded.provisioning import ServiceDatabase
from progress_service.__main__ import assemble_import
from progress_service.domain.imported_rows import ProgressRow, RowRefused, RowRules, merge
from progress_service.domain.statistics import UserId
from progress_service.operations import import_progress
from progress_service.operations.import_files import LINE_BYTES_MAX, ImportFile, ImportRefused
from tests.progress.conftest import Progress
from tests.progress.findings import findings_of
from tests.progress.specializations import put_levels
from tests.support.service_process import started

NOW = datetime(2026, 6, 1, tzinfo=UTC)
RULES = RowRules({"PLAYER": 8, "COACH": 3}, NOW)
HEADER = "userId,specialization,level,xp,updatedAt"


def written(folder: Path, text: str | bytes, name: str = "old.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


async def imported(
    database: Database, path: Path, *, dry_run: bool = False
) -> tuple[import_progress.Summary, list[tuple[int, str, str]]]:
    """The summary, and the report's lines without the summary."""
    report = io.BytesIO()
    summary = await assemble_import(database, lambda _: None).run(ImportFile(path), report, dry_run=dry_run)
    *notes, last = map(json.loads, report.getvalue().splitlines())
    assert last["summary"]["rows"] == summary.rows
    return summary, [(note["line"], note["verdict"], note["reason"]) for note in notes]


@pytest.fixture
async def database(progress: Progress) -> Database:
    await put_levels(progress.truth, "PLAYER", [0, 100, 200, 300, 400, 500, 600, 700])
    await put_levels(progress.truth, "COACH", [0, 1000, 2000])
    return progress.results._store._database


async def everything(truth: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """All rows that an import may touch."""
    tables = ("learner_statistics", "specialization_progress", "xp_entries", "learner_achievements", "outbox")
    return {
        table: [tuple(row) for row in await truth.fetch(f"SELECT * FROM {table} ORDER BY 1, 2")]  # noqa: S608  # our own names
        for table in tables
    }


async def standings(truth: Connection) -> dict[tuple[str, str], tuple[int, int]]:
    """Level and XP of each learner in each specialization."""
    rows = await truth.fetch("SELECT user_id, specialization, level, xp FROM specialization_progress")
    return {(row[0], row[1]): (row[2], row[3]) for row in rows}


async def test_the_highest_level_wins_then_the_latest_and_the_xp_of_all_counts(
    progress: Progress, database: Database, tmp_path: Path
) -> None:
    path = written(
        tmp_path,
        f"""{HEADER}
ann,PLAYER,2,10,2025-01-05T00:00:00Z
ann,PLAYER,5,20,2025-01-01T00:00:00Z
ann,PLAYER,5,30,2025-01-02T00:00:00+01:00
ann,PLAYER,2,10,2025-01-05T00:00:00Z
ann,COACH,1,0,2025-01-01T00:00:00Z
bob,PLAYER,1,650,2025-01-01T00:00:00Z
""",
    )
    summary, notes = await imported(database, path)
    assert notes == [
        (2, "MERGED", "line 4 has the higher level 5; the XP of both count"),
        (3, "MERGED", "line 4 has the same level and is later; the XP of both count"),
        (5, "DUPLICATE", "line 2 says the same"),
    ]
    assert await standings(progress.truth) == {
        ("ann", "PLAYER"): (5, 60),
        ("ann", "COACH"): (1, 0),
        ("bob", "PLAYER"): (7, 650),  # the catalog gives more for the XP
    }
    assert (summary.rows, summary.counted, summary.duplicates, summary.merged) == (6, 3, 1, 2)
    assert (summary.xp_added, summary.levels_raised) == (710, 3)
    assert "xp" not in {each.total for each in await progress.discrepancies()}
    assert await progress.truth.fetchval("SELECT count(*) FROM outbox") == 0
    assert await progress.truth.fetchval("SELECT count(*) FROM import_rows") == 0
    # A run tells the licenses.
    run = await progress.truth.fetchrow("SELECT run_id::text, direction, dry_run, ordered_by FROM sync_runs")
    assert tuple(run) == (summary.sync_run, "progress_to_license", False, "import")


async def test_a_level_from_before_a_reset_hides_none_from_after_it(
    progress: Progress, database: Database, tmp_path: Path
) -> None:
    await progress.truth.execute("INSERT INTO learner_statistics (user_id) VALUES ('ann')")
    await progress.truth.execute(
        """
        INSERT INTO progress_resets (user_id, epoch, scope, name, ordered_by, reason, reset_at)
        VALUES ('ann', 1, 'all', '', 'root', 'a new season', '2025-01-03T00:00:00Z')
        """
    )
    path = written(
        tmp_path,
        f"""{HEADER}
ann,PLAYER,5,30,2025-01-01T00:00:00Z
ann,PLAYER,2,10,2025-01-05T00:00:00Z
ann,PLAYER,4,0,2025-01-02T00:00:00Z
ann,PLAYER,1,0,2025-01-04T00:00:00Z
""",
    )
    summary, notes = await imported(database, path)
    assert await standings(progress.truth) == {("ann", "PLAYER"): (2, 10)}
    assert notes == [
        (2, "REJECTED", "the progress was reset after updatedAt; only its XP is kept"),
        (4, "REJECTED", "the progress was reset after updatedAt; only its XP is kept"),
        (5, "MERGED", "line 3 has the higher level 2; the XP of both count"),
    ]
    assert (summary.counted, summary.merged, summary.rejected) == (1, 1, 2)


async def test_a_dry_run_shows_the_same_report_and_changes_nothing_and_twice_is_once(
    progress: Progress, database: Database, tmp_path: Path
) -> None:
    lines = [HEADER] + [
        f"u{number % 40},{random.Random(number).choice(['PLAYER', 'COACH', 'NOBODY'])},{number % 4},"
        f"{number % 7},2025-01-{1 + number % 28:02d}T00:00:00Z"
        for number in range(400)
    ]
    path = written(tmp_path, "\n".join(lines) + "\n")
    before = await everything(progress.truth)
    dry, dry_notes = await imported(database, path, dry_run=True)
    assert await everything(progress.truth) == before
    assert await progress.truth.fetchval("SELECT count(*) FROM sync_runs") == 0
    real, notes = await imported(database, path)
    assert notes == dry_notes
    assert {note[1] for note in notes} == {"DUPLICATE", "MERGED", "REJECTED"}
    assert (real.xp_added, real.levels_raised) == (dry.xp_added, dry.levels_raised)
    assert real.xp_added > 0
    after = await everything(progress.truth)
    assert after != before
    again, again_notes = await imported(database, path)
    assert again_notes == notes
    assert (again.xp_added, again.levels_raised) == (0, 0)
    assert await everything(progress.truth) == after
    assert await progress.truth.fetchval("SELECT count(*) FROM import_rows") == 0


ROWS = st.lists(
    st.builds(
        ProgressRow,
        line=st.just(0),
        user_id=st.sampled_from([UserId("ann"), UserId("bob")]),
        specialization=st.sampled_from(["PLAYER", "COACH"]),
        level=st.integers(0, 3),
        xp=st.integers(0, 2),
        happened_at=st.integers(0, 2).map(lambda days: NOW - timedelta(days=days)),
    ),
    max_size=12,
)


def numbered(rows: Iterable[ProgressRow]) -> list[ProgressRow]:
    return [
        ProgressRow(line, row.user_id, row.specialization, row.level, row.xp, row.happened_at)
        for line, row in enumerate(rows, start=2)
    ]


@given(ROWS, st.sampled_from([None, NOW - timedelta(days=1)]), st.randoms(use_true_random=False))
@settings(max_examples=300)
def test_any_order_and_duplication_of_the_same_rows_comes_to_the_same(
    rows: list[ProgressRow], reset_at: datetime | None, chance: random.Random
) -> None:
    def outcome(rows: list[ProgressRow]) -> Any:
        merged = merge(numbered(rows))
        notes = list(merged.notes)
        levels = {}
        for each in merged.standings:
            winner, others = each.settled(reset_at)
            notes += others
            if winner is not None:
                levels[each.user_id, each.specialization] = (winner.level, winner.happened_at)
        assert len({note.line for note in notes}) + len(levels) == len(rows)
        assert len(notes) + len(levels) == len(rows)
        return (
            levels,
            Counter((each.user_id, each.operation_id, each.xp) for each in merged.earnings),
        )

    expected = outcome(rows)
    shuffled = rows + chance.choices(rows, k=5) if rows else []
    chance.shuffle(shuffled)
    assert outcome(shuffled) == expected
    assert max(expected[1].values(), default=1) == 1


async def test_any_split_of_a_file_in_any_order_comes_to_the_same_rows(
    databases: Any, tmp_path: Path
) -> None:
    """Twice with other orders, parts and repetitions, on databases of their own."""
    choices = random.Random(7)
    lines = [
        f"u{choices.randrange(6)},{choices.choice(['PLAYER', 'COACH'])},{choices.randrange(4)},"
        f"{choices.randrange(400)},2025-01-{choices.randrange(1, 4):02d}T00:00:00Z"
        for _ in range(60)
    ]
    found = []
    for attempt in range(3):
        async with databases.fresh("progress") as fresh:
            database = await Database.connect(fresh.service, maximum=4)
            truth = await asyncpg.connect(fresh.superuser)
            await put_levels(truth, "PLAYER", [0, 100, 200, 300, 400])
            await put_levels(truth, "COACH", [0, 1000, 2000])
            told = choices.sample(lines, len(lines)) + choices.sample(lines, 20)
            cut = choices.randrange(len(told))
            for number, part in enumerate((told[:cut], told[cut:], told[:cut])):
                text = "\n".join([HEADER, *part])
                await imported(database, written(tmp_path, text, f"{attempt}-{number}.csv"))
            levels = await truth.fetch(
                """
                SELECT user_id, specialization, xp, level, max_level, granted_level
                  FROM specialization_progress ORDER BY 1, 2
                """
            )
            entries = await truth.fetch("SELECT user_id, operation_id, amount FROM xp_entries ORDER BY 1, 2")
            totals = await truth.fetch("SELECT user_id, xp FROM learner_statistics ORDER BY 1")
            found.append([tuple(map(tuple, rows)) for rows in (levels, entries, totals)])
            await truth.close()
            await database.close()
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "userId is missing"),
        ({"userId": "a" * 129}, "userId has 129 characters; 128 are allowed"),
        ({"userId": "a\0b"}, "userId has the character NUL"),
        ({"userId": "a\ud800"}, "userId has half of a surrogate pair"),
        ({"userId": 5}, "userId must be a text"),
        ({"userId": "ann"}, "specialization is missing"),
        ({"userId": "ann", "specialization": "x" * 64}, "specialization has 64 characters; 63 are allowed"),
        (
            {"userId": "ann", "specialization": "KING", "level": 1},
            "specialization 'KING' is not in the catalog",
        ),
        ({"level": None}, "level is missing"),
        ({"level": "9"}, "level 9 is above the highest one of 'PLAYER', which is 8"),
        ({"level": "-1"}, "level '-1' is not a whole number of at least 0"),
        ({"level": -1}, "level '-1' is not between 0 and 10000"),
        ({"level": 1.0}, "level '1.0' is not a whole number of at least 0"),
        ({"level": True}, "level 'True' is not a whole number of at least 0"),
        ({"level": "٣"}, "level '٣' is not a whole number of at least 0"),
        ({"level": "9" * 5000}, "level '" + "9" * 60 + "…' is not a whole number of at least 0"),
        ({"xp": "1000001"}, "xp '1000001' is not between 0 and 1000000"),
        ({"xp": "1e3"}, "xp '1e3' is not a whole number of at least 0"),
        ({"updatedAt": None}, "updatedAt is missing"),
        ({"updatedAt": "yesterday"}, "updatedAt 'yesterday' is not a time such as 2026-01-31T12:00:00Z"),
        (
            {"updatedAt": "2026-01-31T12:00:00"},
            "updatedAt '2026-01-31T12:00:00' has no offset; write Z for UTC",
        ),
        ({"updatedAt": "1999-12-31T23:59:59Z"}, "updatedAt '1999-12-31T23:59:59Z' is before the year 2000"),
        ({"updatedAt": "2026-06-03T00:00:00Z"}, "updatedAt '2026-06-03T00:00:00Z' lies in the future"),
        ({"updatedAt": "0001-01-01T00:00:00+14:00"}, "updatedAt '0001-01-01T00:00:00+14:00' is out of range"),
        ({"moduleId": "m"}, "names a specialization and a lesson; a row may have only one of them"),
        ({"specialization": "", "moduleId": "m"}, "lessonId is missing"),
        ({"specialization": "", "moduleId": "m", "lessonId": "l"}, "completedAt is missing"),
    ],
)
def test_an_odd_row_is_rejected_in_plain_words(values: dict[str, Any], reason: str) -> None:
    usual = {
        "userId": "ann",
        "specialization": "PLAYER",
        "level": "1",
        "xp": "5",
        "updatedAt": "2026-01-01T00:00:00Z",
    }
    given_ = values if values.keys() <= {"userId"} or "KING" in values.values() else usual | values
    if "userId" in values and len(values) > 1:
        given_ = values
    with pytest.raises(RowRefused) as refused:
        RULES.row(2, given_)
    assert str(refused.value) == reason


async def test_odd_lines_are_rejected_alone(progress: Progress, database: Database, tmp_path: Path) -> None:
    good = "{user},PLAYER,1,1,2025-01-01T00:00:00Z"
    lines = [
        ("\ufeff" + HEADER + ",shoe size").encode(),
        (good.format(user="ann") + ",44").encode(),
        b"",
        b"caf\xe9,PLAYER,1,1,2025-01-01T00:00:00Z,44",
        b'"open,PLAYER,1,1,2025-01-01T00:00:00Z,44',
        b"short,PLAYER,1",
        b"x" * (LINE_BYTES_MAX + 5),
        b"nul\x00,PLAYER,1,1,2025-01-01T00:00:00Z,44",
        b'"comma, and ""quotes""",PLAYER,1,1,2025-01-01T00:00:00Z,44',
        b"truncated,PLAYER,1,1,2025-01-0",
    ]
    path = written(tmp_path, b"\r\n".join(lines))
    summary, notes = await imported(database, path)
    assert notes == [
        (4, "REJECTED", "is not UTF-8 (byte 4 of the line)"),
        (5, "REJECTED", "is not CSV (unexpected end of data)"),
        (6, "REJECTED", "has 3 cells under 6 columns"),
        (7, "REJECTED", f"is longer than {LINE_BYTES_MAX} bytes"),
        (8, "REJECTED", "userId has the character NUL"),
        (10, "REJECTED", "has 5 cells under 6 columns"),
    ]
    assert summary.ignored_columns == ["shoe size"]
    assert not summary.ends_in_a_line
    assert {user for user, _ in await standings(progress.truth)} == {"ann", 'comma, and "quotes"'}


async def test_jsonl_is_read_too(progress: Progress, database: Database, tmp_path: Path) -> None:
    row = {
        "userId": "ann",
        "specialization": "PLAYER",
        "level": 3,
        "xp": 7,
        "updatedAt": "2025-01-01T00:00:00Z",
    }
    lines = [
        json.dumps(row | {"name": "Ann"}),
        json.dumps(row),
        "[]",
        json.dumps(row | {"userId": "half \ud800"}),
        json.dumps(row)[:-10],
    ]
    summary, notes = await imported(database, written(tmp_path, "\n".join(lines), "old.jsonl"))
    assert [note[:2] for note in notes] == [
        (3, "REJECTED"),
        (4, "REJECTED"),
        (5, "REJECTED"),
        (2, "DUPLICATE"),
    ]
    assert "cut off" in notes[2][2]
    assert summary.ignored_columns == ["name"]
    assert await standings(progress.truth) == {("ann", "PLAYER"): (3, 7)}


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("old.csv", "\ufeffuserId".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        ("old.csv", b"", "it has none of them"),
        ("old.csv", b"user_id,level\n", "it has level"),
        ("old.csv", b"userId,userId,specialization,level,updatedAt\n", "one of them twice"),
        ("old.csv", b"\xff,\n", "is not UTF-8"),
        ("old.xlsx", b"", "is neither .csv nor .jsonl"),
        ("missing/old.csv", None, "cannot be read: No such file"),
    ],
)
async def test_a_file_that_cannot_be_read_is_refused_in_plain_words(
    database: Database, tmp_path: Path, name: str, content: bytes | None, problem: str
) -> None:
    path = tmp_path / name if content is None else written(tmp_path, content, name)
    with pytest.raises(ImportRefused, match=problem):
        await imported(database, path)


async def test_the_report_never_overwrites_the_file(
    progress_database: ServiceDatabase, progress: Progress, tmp_path: Path
) -> None:
    path = written(tmp_path, f"{HEADER}\nann,PLAYER,2,10,2025-01-01T00:00:00Z\n")
    link = tmp_path / "report.jsonl"
    link.symlink_to(path)
    before = path.read_bytes()
    address = {"HOMEROOM_DATABASE_URL": progress_database.service}
    arguments = ("import", "--report", str(link), str(path))
    async with started("progress_service", *arguments, **address) as process:
        assert await process.ended() == 1
        assert "is the file itself" in process.log
    assert path.read_bytes() == before


async def test_learners_are_merged_whole_whatever_the_size_of_a_merge(
    progress: Progress, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_progress, "ROWS_PER_MERGE", 5)
    monkeypatch.setattr(import_progress, "ROWS_OF_A_LEARNER_MAX", 5)
    monkeypatch.setattr(import_progress, "ROWS_PER_STAGING", 3)
    lines = [HEADER]
    for count, user in enumerate(["ann", "bob", "cy", "dee", "eve", "many"], start=1):
        lines += [
            f"{user},PLAYER,{level % 5},1,2025-01-{1 + level:02d}T00:00:00Z"
            for level in range(12 if user == "many" else count)
        ]
    summary, notes = await imported(database, written(tmp_path, "\n".join(lines) + "\n"))
    assert Counter(verdict for _, verdict, _ in notes) == {"MERGED": 1 + 2 + 3 + 4 + 4, "REJECTED": 7}
    assert summary.counted == 6
    assert (await standings(progress.truth))["eve", "PLAYER"] == (4, 5)
    assert (await standings(progress.truth))["many", "PLAYER"] == (4, 5)
    assert await progress.truth.fetchval("SELECT count(*) FROM import_rows") == 0


async def test_what_was_reset_since_is_not_raised_again(
    progress: Progress, database: Database, tmp_path: Path
) -> None:
    await progress.truth.execute(
        """
        INSERT INTO progress_resets (user_id, epoch, scope, name, ordered_by, reason, reset_at)
        VALUES ('ann', 1, 'all', '', 'root', 'cheated', '2025-06-01T00:00:00Z')
        """
    )
    path = written(
        tmp_path,
        f"{HEADER}\nann,PLAYER,5,10,2025-01-01T00:00:00Z\nbob,PLAYER,5,10,2025-01-01T00:00:00Z\n"
        "ann,COACH,2,10,2025-07-01T00:00:00Z\n",
    )
    for dry_run in (True, False, False):
        _, notes = await imported(database, path, dry_run=dry_run)
        assert notes == [(2, "REJECTED", "the progress was reset after updatedAt; only its XP is kept")]
    assert await standings(progress.truth) == {
        ("ann", "COACH"): (2, 10),
        ("bob", "PLAYER"): (5, 10),
    }


async def test_a_learner_at_work_delays_the_import_and_breaks_nothing(
    progress: Progress, database: Database, tmp_path: Path
) -> None:
    path = written(tmp_path, f"{HEADER}\nann,PLAYER,2,10,2025-01-01T00:00:00Z\n")
    await progress.truth.execute("INSERT INTO learner_statistics (user_id) VALUES ('ann')")
    transaction = progress.truth.transaction()
    await transaction.start()
    await progress.truth.execute("SELECT FROM learner_statistics WHERE user_id = 'ann' FOR UPDATE")
    importing = asyncio.create_task(imported(database, path))
    done, _ = await asyncio.wait([importing], timeout=0.6)
    assert not done
    await transaction.rollback()
    summary, _ = await importing
    assert (summary.xp_added, summary.levels_raised) == (10, 1)


async def test_two_imports_of_one_file_at_once_count_it_once(
    progress: Progress, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_progress, "ROWS_PER_MERGE", 50)
    lines = [HEADER] + [
        f"u{number % 90},PLAYER,{number % 4},3,2025-01-0{1 + number % 5}T00:00:00Z" for number in range(300)
    ]
    path = written(tmp_path, "\n".join(lines) + "\n")
    both = await asyncio.gather(imported(database, path), imported(database, path))
    assert both[0][1] == both[1][1]
    entries = await progress.truth.fetchval("SELECT sum(amount) FROM xp_entries")
    assert sum(summary.xp_added for summary, _ in both) == entries
    assert await progress.truth.fetchval("SELECT sum(xp) FROM learner_statistics") == entries
    assert {level for level, _ in (await standings(progress.truth)).values()} <= {1, 2, 3}
    before = await everything(progress.truth)
    assert (await imported(database, path))[0].xp_added == 0
    assert await everything(progress.truth) == before
    assert await findings_of(database) == []


@pytest.mark.fault
async def test_a_killed_import_is_repeated(
    progress_database: ServiceDatabase, progress: Progress, database: Database, tmp_path: Path
) -> None:
    lines = [HEADER, *(f"u{number:06d},PLAYER,3,5,2025-01-01T00:00:00Z" for number in range(20_000))]
    path = written(tmp_path, "\n".join(lines) + "\n")
    address = {"HOMEROOM_DATABASE_URL": progress_database.service}
    async with started("progress_service", "import", str(path), "--json", **address) as process:
        while not await progress.truth.fetchval("SELECT EXISTS (SELECT FROM specialization_progress)"):
            await asyncio.sleep(0.01)
        process.child.send_signal(signal.SIGKILL)
        assert await process.ended() == -signal.SIGKILL
    assert await progress.truth.fetchval("SELECT count(*) FROM specialization_progress") < 20_000
    async with started("progress_service", "import", str(path), "--json", **address) as process:
        assert await process.ended() == 0
        summary = json.loads(process.log.splitlines()[-1])
    assert (summary["rows"], summary["counted"]) == (20_000, 20_000)
    assert (
        await progress.truth.fetchval("SELECT count(*) FROM specialization_progress WHERE level = 3")
        == 20_000
    )
    assert await progress.truth.fetchval("SELECT sum(xp) FROM learner_statistics") == 100_000
    assert await findings_of(database) == []
    # What the killed one has staged goes with a later import.
    left = await progress.truth.fetchval("SELECT count(*) FROM import_rows")
    assert left > 0
    await progress.truth.execute("UPDATE import_rows SET staged_at = staged_at - interval '2 days'")
    await imported(database, written(tmp_path, HEADER + "\n", "empty.csv"))
    assert await progress.truth.fetchval("SELECT count(*) FROM import_rows") == 0


async def test_a_large_file_reads_no_table_from_end_to_end_for_each_learner(
    progress_database: ServiceDatabase, truth: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_progress, "ROWS_PER_MERGE", 50)
    # The planner knows a store with a single learner, and keeps the plans that are good for that.
    await build(truth, COMPLETIONS_PER_LEARNER)
    path = written(tmp_path, HEADER_OF_BOTH + "".join(lines(700, random.Random(1))))
    before = await scans(truth)
    database = await Database.connect(progress_database.service, maximum=2)
    try:
        summary, _ = await imported(database, path)
    finally:
        await database.close()  # what it has read is in the statistics then
    assert summary.completions_added > 400
    after = await scans(truth)
    assert {table: count - before[table] for table, count in after.items() if count > before[table]} == {}


async def scans(truth: Connection) -> dict[str, int]:
    """How often the tables of learners were read from end to end, besides by this connection."""
    await truth.execute("SELECT pg_stat_clear_snapshot()")
    rows = await truth.fetch(
        "SELECT relname, seq_scan FROM pg_stat_user_tables WHERE relname = ANY($1::text[])",
        ["enrollments", "lesson_completions", "learner_statistics", "specialization_progress", "xp_entries"],
    )
    return {row["relname"]: row["seq_scan"] for row in rows}


async def test_the_command_says_what_is_wrong(progress_database: ServiceDatabase, tmp_path: Path) -> None:
    address = {"HOMEROOM_DATABASE_URL": progress_database.service}
    async with started("progress_service", "import", str(tmp_path / "none.csv"), **address) as process:
        assert await process.ended() == 1
        assert "No such file" in process.log
    async with started("progress_service", "import", str(tmp_path / "none.csv")) as process:
        assert await process.ended() == 78
        assert "HOMEROOM_DATABASE_URL is missing" in process.log
