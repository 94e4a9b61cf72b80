"""CPU time and memory are given to whom they belong, also when processes begin and end meanwhile."""

from __future__ import annotations

import pytest

from bench.measure.processes import (
    POSTGRES_ENDED,
    POSTGRES_HELPERS,
    TICKS_PER_SECOND,
    Process,
    Snapshot,
    parse_machine_ticks,
    parse_smaps_rollup,
    parse_stat,
    postgres_group,
    spending,
)

STAT = "4711 (a (very) odd name) S 42 4711 4711 0 -1 64 100 200 0 0 150 50 30 20 20 0 3 0 987654 1000 500"


def _snapshot(*processes: tuple[Process, str], busy: int = 0, stolen: int = 0) -> Snapshot:
    return Snapshot(
        {process.pid: process for process, _ in processes},
        {process.pid: group for process, group in processes},
        busy,
        stolen,
    )


def _process(pid: int, used: int, *, parent: int = 1, started: int = 5, reaped: int = 0) -> Process:
    return Process(pid=pid, parent=parent, started=started, used=used, reaped=reaped)


def test_a_stat_line_is_read_whatever_the_command_is_called():
    assert parse_stat(STAT) == Process(pid=4711, parent=42, started=987654, used=200, reaped=50)


def test_idle_and_waiting_time_is_not_busy():
    assert parse_machine_ticks("cpu  100 1 10 5000 900 2 3 7 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n") == (116, 7)


@pytest.mark.parametrize(
    ("title", "group"),
    [
        ("postgres: session_service session [local] idle", "postgres session"),
        ("postgres: bench: someone peer_fastapi [local] INSERT", "postgres peer_fastapi"),
        ("postgres: someone progress 127.0.0.1(40312) COMMIT", "postgres progress"),
        ("postgres: walwriter ", POSTGRES_HELPERS),
        ("postgres: autovacuum worker session", POSTGRES_HELPERS),
        ("postgres: io worker 0", POSTGRES_HELPERS),
        ("/wheel/bin/postgres -D /data", POSTGRES_HELPERS),
        ("", POSTGRES_HELPERS),
    ],
)
def test_a_backend_works_for_its_database(title, group):
    assert postgres_group(title) == group


def test_what_was_used_before_does_not_count():
    before = _snapshot((_process(1, 1000), "gateway"), busy=5000, stolen=10)
    after = _snapshot((_process(1, 1000 + 2 * TICKS_PER_SECOND), "gateway"), busy=5000 + 300, stolen=10)
    spent = spending(before, after)
    assert spent.seconds_by_group == {"gateway": 2.0}
    assert spent.machine_seconds == 300 / TICKS_PER_SECOND
    assert spent.stolen_seconds == 0


def test_a_new_process_counts_whole_even_under_a_pid_that_was_used_before():
    before = _snapshot((_process(7, 900, started=5), "gateway"))
    after = _snapshot((_process(7, TICKS_PER_SECOND, started=6), "gateway"))
    assert spending(before, after).seconds_by_group == {"gateway": 1.0}


def test_processes_of_one_group_are_added():
    before = _snapshot((_process(1, 0), "fastapi"), (_process(2, 0, parent=1), "fastapi"))
    after = _snapshot(
        (_process(1, TICKS_PER_SECOND), "fastapi"), (_process(2, 2 * TICKS_PER_SECOND, parent=1), "fastapi")
    )
    assert spending(before, after).seconds_by_group == {"fastapi": 3.0}


def test_a_backend_that_ended_counts_with_what_it_used_in_between():
    postmaster = _process(1, 0)
    backend = _process(2, 3 * TICKS_PER_SECOND, parent=1)
    before = _snapshot((postmaster, POSTGRES_HELPERS), (backend, "postgres session"))
    after = _snapshot((_process(1, 0, reaped=5 * TICKS_PER_SECOND), POSTGRES_HELPERS))
    assert spending(before, after).seconds_by_group == {POSTGRES_ENDED: 2.0}


def test_a_rollup_is_read_in_mebibytes():
    memory = parse_smaps_rollup(
        "55d0-7ffd ---p 00000000 00:00 0  [rollup]\nRss:   2048 kB\nPss:   1536 kB\nShared_Clean: 1 kB\n"
    )
    assert (memory.rss_mib, memory.pss_mib) == (2.0, 1.5)
