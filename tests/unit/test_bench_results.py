"""Medians, ratios and goals say what the good runs say; the rows must bear out the answers."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import pytest

from bench.load.outcome import LoadOutcome
from bench.machine import Machine
from bench.measure.processes import Spending
from bench.measured_run import count_problems, split_by_owner
from bench.progress import describe
from bench.results import Results, Run, Settings, goals_of, medians_of, ratios_of, store


def _run(system: str, rate: float, **changes: Any) -> Run:
    values: dict[str, Any] = {
        "system": system,
        "connections": 64,
        "repeat": 1,
        "seconds": 8.0,
        "rate": rate,
        "p50_ms": 10.0,
        "p90_ms": 20.0,
        "p99_ms": 30.0,
        "max_ms": 40.0,
        "sent": 100,
        "succeeded": 100,
        "counts": {"sessions": 100},
        "cpu_us_per_start": {system: 200.0},
        "generator_cpu_us_per_start": 20.0,
        "bystanders_cores": 0.0,
        "elsewhere_cores": 0.0,
        "stolen_cores": 0.0,
        "problems": [],
    }
    return Run(**{**values, **changes})


def _outcome(*, sent: int, succeeded: int) -> LoadOutcome:
    return LoadOutcome(
        seconds=1,
        sent=sent,
        succeeded=succeeded,
        p50_ms=1,
        p90_ms=1,
        p99_ms=1,
        max_ms=1,
        generator_cpu_seconds=0,
        problems=[],
    )


def _results(runs: list[Run]) -> Results:
    medians = medians_of(runs)
    ratios = ratios_of(medians)
    machine = Machine(
        cpu="AMD EPYC (tm)",
        cores=2,
        memory_mib=1024,
        system="Linux 6",
        python="3.11",
        postgres="18",
        wrk="wrk 4",
        commit="abc",
        packages={},
        postgres_settings={"fsync": "on"},
    )
    return Results(
        taken_at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        machine=machine,
        settings=Settings(connections=[64], seconds=8, repeat=3, requests=1000),
        titles={},
        medians=medians,
        ratios=ratios,
        goals=goals_of(medians, ratios),
        memory={},
        runs=runs,
    )


def test_the_median_ignores_invalid_runs_and_outliers():
    runs = [_run("gateway", rate) for rate in (4000, 4200, 9999)]
    runs.append(_run("gateway", 1, problems=["5 answers of 400 and above"]))
    (point,) = medians_of(runs)
    assert (point.rate, point.rate_min, point.rate_max, point.runs) == (4200, 4000, 9999, 3)


def test_cpu_of_a_process_that_was_idle_in_a_run_counts_as_zero_there():
    runs = [
        _run("gateway", 1, cpu_us_per_start={"gateway": 100.0, "redis": 4.0}),
        _run("gateway", 1, cpu_us_per_start={"gateway": 120.0}),
        _run("gateway", 1, cpu_us_per_start={"gateway": 110.0}),
    ]
    (point,) = medians_of(runs)
    assert point.cpu_us_per_start == {"gateway": 110.0, "redis": 0.0}
    assert point.cpu_us == 110.0


def test_a_ratio_compares_the_same_number_of_connections():
    runs = [
        _run("gateway", 4000),
        _run("gateway", 300, connections=1),
        _run("fastapi", 500),
        _run("aiohttp", 600, connections=1),
        _run("pgbench", 9000, connections=256),
    ]
    ratios = ratios_of(medians_of(runs))
    assert {(ratio.peer, ratio.connections): ratio.ratio for ratio in ratios} == {
        ("fastapi", 64): 8.0,
        ("aiohttp", 1): 0.5,
    }


def test_without_our_own_figures_there_is_neither_ratio_nor_goal():
    results = _results([_run("fastapi", 500), _run("pgbench", 9000)])
    assert results.ratios == []
    assert results.goals == []


@pytest.mark.parametrize(("rate", "p50_ms", "reached"), [(4000, 5.0, True), (3999, 5.01, False)])
def test_a_goal_is_reached_at_its_limit_and_not_short_of_it(rate, p50_ms, reached):
    runs = [_run("gateway", rate), _run("gateway", 300, connections=1, p50_ms=p50_ms), _run("fastapi", 500)]
    goals = _results(runs).goals
    assert [goal.reached for goal in goals] == [reached, reached]


def test_an_invalid_run_makes_the_results_invalid_and_says_so():
    bad = _run("aiohttp", 1, problems=["3 timeouts"])
    assert _results([_run("gateway", 1), bad]).invalid == [bad]
    assert "invalid: 3 timeouts" in describe(bad)


def test_a_run_beside_other_work_is_called_disturbed():
    assert "disturbed: 0.9 cores" in describe(_run("gateway", 1, elsewhere_cores=0.5, stolen_cores=0.4))
    assert "disturbed" not in describe(_run("gateway", 1, elsewhere_cores=0.1))


def test_results_never_overwrite_others_and_can_be_read_back(tmp_path):
    results = _results([_run("gateway", 4000), _run("pgbench", 9000)])
    first, second = store(results, tmp_path), store(results, tmp_path)
    assert first.name == "2026-01-02-amd-epyc-tm-2-cores.json"
    assert second.name == "2026-01-02-amd-epyc-tm-2-cores-2.json"
    assert msgspec.json.decode(first.read_bytes(), type=Results) == results


def test_rows_between_answered_and_sent_bear_out_a_run():
    outcome = _outcome(sent=110, succeeded=100)
    for rows in (100, 105, 110):
        assert count_problems({"sessions": rows, "keys": rows}, outcome) == []


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"sessions": 99}, "1 of 100 successes without sessions"),
        ({"sessions": 111}, "111 sessions from 110 requests"),
        ({"sessions": 101, "holds": 102}, "the tables disagree: 101 sessions, 102 holds"),
    ],
)
def test_lost_doubled_and_uneven_rows_are_problems(counts, words):
    assert words in count_problems(counts, _outcome(sent=110, succeeded=100))


def test_a_failed_load_is_an_invalid_outcome():
    outcome = LoadOutcome.of_failure("wrk failed", seconds=8)
    assert (outcome.rate, outcome.problems) == (0.0, ["wrk failed"])
    assert count_problems({"sessions": 0}, outcome) == []


def test_cpu_of_other_systems_is_not_the_systems_own():
    spent = Spending({"gateway": 2.0, "postgres session": 1.0, "aiohttp": 0.5}, 4.0, 0.0)
    mine, others = split_by_owner(spent, {"gateway", "postgres session", "redis"})
    assert mine == {"gateway": 2.0, "postgres session": 1.0}
    assert others == 0.5
