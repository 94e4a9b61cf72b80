"""What the bench is asked becomes what it does: which systems, how many connections, in which order."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from bench.__main__ import CONNECTIONS_MAX, parse_connections, parse_systems
from bench.load import wrk
from bench.load.requests import RequestFile
from bench.results import Settings
from bench.starts import Order, turns
from bench.systems.choice import SYSTEMS


def _order(systems: list[str], connections: list[int], repeat: int) -> Order:
    settings = Settings(connections=connections, seconds=1, repeat=repeat, requests=1000)
    return Order(systems=systems, settings=settings, profile=False)


def test_connections_are_numbers_in_the_given_order():
    assert parse_connections("64, 1,256") == [64, 1, 256]


@pytest.mark.parametrize("text", ["", "many", "1,,2", "0", "-1", "1,1", str(CONNECTIONS_MAX + 1)])
def test_connections_that_cannot_be_are_refused(text):
    with pytest.raises(ValueError, match="--connections"):
        parse_connections(text)


def test_systems_keep_the_order_of_the_bench():
    assert parse_systems("pgbench,gateway") == ["gateway", "pgbench"]
    assert parse_systems(",".join(SYSTEMS)) == list(SYSTEMS)


def test_an_unknown_system_is_refused_by_name():
    with pytest.raises(ValueError, match="no system django"):
        parse_systems("gateway,django")


def test_every_system_is_measured_as_often_as_every_other():
    plan = list(turns(_order(["a", "b", "c"], [1, 64], repeat=3)))
    assert Counter((connections, name) for _, connections, name in plan) == {
        (connections, name): 3 for connections in (1, 64) for name in "abc"
    }
    assert len(set(plan)) == len(plan)


def test_each_repeat_begins_with_another_system():
    plan = list(turns(_order(["a", "b", "c"], [1], repeat=4)))
    assert [plan[index][2] for index in (0, 3, 6, 9)] == ["a", "b", "c", "a"]


@pytest.mark.parametrize(("connections", "threads"), [(1, 1), (64, 2), (256, 2)])
def test_the_threads_of_wrk_share_the_file_without_overlap(monkeypatch, connections, threads):
    monkeypatch.setattr(shutil, "which", lambda name: f"/somewhere/{name}")
    file = RequestFile(path=Path("/cache/starts.bin"), count=1001, record_bytes=788, first=300)
    command = wrk.wrk_command("http://127.0.0.1:1/v1/sessions", file, connections=connections, seconds=3)
    assert command[0] == "/somewhere/wrk"
    assert f"--threads={threads}" in command
    assert f"--connections={connections}" in command
    assert command[-5:] == ["/cache/starts.bin", "788", "1001", "300", str(1001 // threads)]
    assert int(command[-1]) * threads <= file.count


def test_the_next_run_goes_on_where_the_last_one_ended():
    file = RequestFile(path=Path("starts.bin"), count=1000, record_bytes=788)
    assert file.after(300).first == 300
    assert file.after(300).after(800).first == 100


def test_a_missing_wrk_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(RuntimeError, match="apt-get install wrk"):
        wrk.require_wrk()
