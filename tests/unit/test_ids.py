"""Ids sort by time, are unique, and follow RFC 9562."""

from __future__ import annotations

import threading
import time
import uuid

import pytest

from chassis import ids
from chassis.ids import named_uuid, parse_uuid, uuid7


def test_an_id_is_a_version_7_uuid_of_now() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid7()
    after = time.time_ns() // 1_000_000
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    # An id of this process may have run ahead of the clock by what was made before it, never behind.
    assert before <= made.int >> 80 <= after + 1000


def test_ids_of_one_process_are_unique_and_ascend() -> None:
    made = [uuid7() for _ in range(50_000)]
    assert len(set(made)) == len(made)
    assert made == sorted(made)
    assert [str(each) for each in made] == sorted(str(each) for each in made)


def test_ids_ascend_when_the_clock_steps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    first = uuid7()
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - 3_600_000_000_000)
    made = [uuid7() for _ in range(10_000)]
    assert [first, *made] == sorted([first, *made])
    assert made[-1].int >> 80 >= first.int >> 80


def test_ids_ascend_when_more_are_made_in_a_millisecond_than_the_counter_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frozen = time.time_ns() + 60_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: frozen)
    monkeypatch.setattr(ids, "_latest", 0)
    made = [uuid7() for _ in range(10_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert made[0].int >> 80 == frozen // 1_000_000
    assert made[-1].int >> 80 <= frozen // 1_000_000 + 3  # each borrowed millisecond holds 4096


def test_the_bits_behind_the_counter_are_random(monkeypatch: pytest.MonkeyPatch) -> None:
    tails = [uuid7().int & ((1 << 62) - 1) for _ in range(1000)]
    assert len(set(tails)) == 1000
    ever_set, ever_clear = 0, 0
    for tail in tails:
        ever_set |= tail
        ever_clear |= ~tail
    assert ever_set == (1 << 62) - 1
    assert ever_clear & ((1 << 62) - 1) == (1 << 62) - 1


def test_threads_do_not_get_the_same_id() -> None:
    made: list[list[uuid.UUID]] = [[] for _ in range(8)]

    def make(into: list[uuid.UUID]) -> None:
        into.extend(uuid7() for _ in range(2000))

    threads = [threading.Thread(target=make, args=(each,)) for each in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(each == sorted(each) for each in made)
    counters = {each.int >> 64 for thread_ids in made for each in thread_ids}
    assert len(counters) == 16_000


@pytest.mark.parametrize("name", ["", "k1", "ada\n/method\nkey", "é 😀" * 100])
def test_the_id_of_a_name_is_its_version_5_uuid(name: str) -> None:
    namespace = uuid7()
    made, usual = named_uuid(namespace, name), uuid.uuid5(namespace, name)
    assert made == usual
    assert (made.version, made.variant, made.is_safe) == (5, uuid.RFC_4122, usual.is_safe)
    assert (str(made), hash(made), repr(made)) == (str(usual), hash(usual), repr(usual))


def test_only_the_usual_form_of_an_id_is_read() -> None:
    written = "0198a5b2-7c3d-7e4f-8a9b-0c1d2e3f4a5b"
    assert parse_uuid(written) == uuid.UUID(written)
    assert str(parse_uuid(written)) == written
    for other in (
        written.upper(),
        written.replace("-", ""),
        f"{{{written}}}",
        f"urn:uuid:{written}",
        f"{written}\n",
        written.replace("0", "\u0660"),  # a digit, and no ASCII
        "-".join(written.split("-")[::-1]),
        "",
    ):
        assert parse_uuid(other) is None
