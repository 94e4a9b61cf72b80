"""Finding disagreements: both stores are merged in one order; what is under way is not reported."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeroom.embedded.provisioning import ServiceDatabase
from progress_service.domain.desyncs import (
    Action,
    Direction,
    Key,
    LicenseLevel,
    ProgressLevel,
    Slice,
    compare,
    plan,
)
from progress_service.domain.license_orders import LicenseOrder
from progress_service.domain.statistics import UserId
from progress_service.operations import comparison
from protos.progress.v1 import sync_pb2 as pb
from tests.progress.specializations import put_levels
from tests.progress.two_stores import AGE_SECONDS_MIN, TwoStores, two_stores

T = TypeVar("T", ProgressLevel, LicenseLevel)

LEVELS = st.dictionaries(
    st.tuples(st.sampled_from("aäZ"), st.sampled_from(["u", "v", "ü", "U", "\U0001f600", "￿", "10"])),
    st.tuples(st.integers(1, 3), st.integers(0, 2)),
)


@pytest.fixture
async def stores(
    progress_database: ServiceDatabase, subscription_database: ServiceDatabase
) -> AsyncIterator[TwoStores]:
    async with two_stores(progress_database, subscription_database) as stores:
        yield stores


def progress_levels(levels: dict[tuple[str, str], tuple[int, int]]) -> list[ProgressLevel]:
    return [
        ProgressLevel(UserId(user), name, level, 9, epoch, 0.0, under_way=False)
        for (name, user), (level, epoch) in sorted(levels.items())
    ]


def license_levels(levels: dict[tuple[str, str], tuple[int, int]]) -> list[LicenseLevel]:
    return [
        LicenseLevel(UserId(user), name, level, epoch, 0.0)
        for (name, user), (level, epoch) in sorted(levels.items())
    ]


def slice_behind(rows: Sequence[T], after: Key | None, limit: int) -> Slice[T]:
    behind = [row for row in rows if after is None or row.key > after]
    return Slice(behind[:limit], more=len(behind) > limit)


@given(LEVELS, LEVELS, st.integers(1, 4), st.integers(1, 4))
def test_slices_of_any_size_find_what_a_comparison_of_everything_finds(
    ours: dict[Any, Any], theirs: dict[Any, Any], our_limit: int, their_limit: int
) -> None:
    progress, licenses = progress_levels(ours), license_levels(theirs)
    found, compared, after = [], 0, None
    for _ in range(len(ours) + len(theirs) + 1):
        stretch = compare(
            slice_behind(progress, after, our_limit), slice_behind(licenses, after, their_limit)
        )
        found += [tuple(desync.key) for desync in stretch.desyncs]
        compared += stretch.compared
        after = stretch.reached
        if after is None:
            break
    assert after is None
    assert compared == len(ours) + len(theirs)
    differ = {key for key in ours | theirs if ours.get(key, (0, 0))[0] != theirs.get(key, (0, 0))[0]}
    assert found == sorted(differ)


@given(LEVELS, LEVELS, st.sampled_from(Direction))
@settings(max_examples=300)
def test_no_plan_lowers_anything_but_a_license_that_missed_a_reset(
    ours: dict[Any, Any], theirs: dict[Any, Any], direction: Direction
) -> None:
    everything = compare(Slice(progress_levels(ours), more=False), Slice(license_levels(theirs), more=False))
    for desync in everything.desyncs:
        wanted = plan(desync, direction)
        assert (wanted.action is Action.NONE) == bool(wanted.reason)
        if wanted.action is Action.NONE:
            assert wanted.after == desync.levels
            continue
        assert wanted.after.progress == wanted.after.license
        assert wanted.after.progress >= desync.levels.progress
        if wanted.after.license < desync.levels.license:
            assert desync.progress is not None
            assert desync.license is not None
            assert desync.license.epoch < desync.progress.epoch
        if direction is Direction.PROGRESS_TO_LICENSE:
            assert wanted.action is Action.LICENSE_FOLLOWS
        if direction is Direction.LICENSE_TO_PROGRESS:
            assert wanted.action is Action.PROGRESS_FOLLOWS


def shown(desyncs: list[Any]) -> list[tuple[str, str, str, int, int]]:
    return [
        (
            each.user_id,
            each.specialization,
            pb.DesyncKind.Name(each.kind),
            each.progress_level if each.HasField("progress_level") else 0,
            each.license_level if each.HasField("license_level") else 0,
        )
        for each in desyncs
    ]


async def plant(stores: TwoStores) -> list[tuple[str, str, str, int, int]]:
    users = [f"u{number:02d}" for number in range(40)]
    await stores.add_accounts(users)
    await stores.plant_progress([(user, name, 3) for user in users[:30] for name in ("a", "B")])
    await stores.plant_licenses([(user, name, 3) for user in users[10:] for name in ("a", "B")])
    await stores.plant_progress([(user, "c", 2) for user in users])
    await stores.plant_licenses([(user, "c", 1 + number % 2) for number, user in enumerate(users)])
    expected = [
        (user, name, kind, *levels)
        for name in ("B", "a")
        for some, kind, levels in (
            (users[:10], "PROGRESS_WITHOUT_LICENSE", (3, 0)),
            (users[30:], "LICENSE_WITHOUT_PROGRESS", (0, 3)),
        )
        for user in some
    ]
    return [*expected, *((user, "c", "LEVEL_MISMATCH", 2, 1) for user in users[::2])]


@pytest.mark.parametrize(("rows", "page_size"), [(1000, 500), (7, 3), (3, 500), (1, 1)])
async def test_the_list_shows_every_disagreement_once_in_order_whatever_the_slices(
    stores: TwoStores, monkeypatch: pytest.MonkeyPatch, rows: int, page_size: int
) -> None:
    monkeypatch.setattr(comparison, "ROWS_PER_STRETCH", rows)
    expected = await plant(stores)
    assert shown(await stores.first.desyncs(page_size=page_size)) == expected
    for name in ("B", "a", "c", "d"):
        of_one = [each for each in expected if each[1] == name]
        assert shown(await stores.first.desyncs(page_size=page_size, specialization=name)) == of_one


async def test_a_page_searches_a_bounded_part_and_may_be_empty(
    stores: TwoStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "ROWS_PER_STRETCH", 10)
    users = [f"u{number:03d}" for number in range(200)]
    await stores.add_accounts(users)
    await stores.plant_progress([(user, "a", 3) for user in users])
    await stores.plant_licenses([(user, "a", 3) for user in users[:-1]])
    request = pb.ListDesyncsRequest()
    sizes = []
    while True:
        page = await stores.first.one("ListDesyncs", request)
        sizes.append(len(page.desyncs))
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    assert sizes == [0, 0, 0, 1]


async def test_what_is_under_way_is_not_reported(stores: TwoStores) -> None:
    await stores.add_accounts(["young", "young license", "on its way", "old", "parked"])
    await stores.plant_progress([("old", "a", 2), ("on its way", "a", 2), ("parked", "a", 2)])
    await stores.plant_progress([("young", "a", 2)], age_seconds=AGE_SECONDS_MIN / 5)
    await stores.plant_licenses([("young license", "a", 2)], age_seconds=AGE_SECONDS_MIN / 5)
    for user in ("on its way", "parked"):
        order = LicenseOrder(
            user_id=UserId(user), specialization="a", epoch=0, level=2, max_level=9, reason="level reached"
        )
        await stores.progress.execute(
            "INSERT INTO outbox (user_id, event_id, topic, payload) VALUES ($1, $2, $3, $4)",
            user,
            order.event_id,
            "subscription.LicenseOrder",
            order.payload(),
        )
    await stores.progress.execute("UPDATE outbox SET parked_at = now() WHERE user_id = 'parked'")
    assert [each.user_id for each in await stores.first.desyncs()] == ["old", "parked"]
    dry = await stores.first.run(dry_run=True)
    assert [each.user_id for each in await stores.first.changes_of(dry.run_id)] == ["old", "parked"]
    await stores.first.run()
    assert sorted(user for user, _ in await stores.license_levels()) == [
        "old",
        "parked",
        "young",
        "young license",
    ]


async def test_xp_without_a_level_is_no_disagreement(stores: TwoStores) -> None:
    await stores.add_accounts(["ann", "bob"])
    await stores.plant_progress([("ann", "unknown", 0), ("bob", "unknown", 0)])
    await stores.plant_licenses([("bob", "unknown", 3)])
    expected = [("bob", "unknown", "LICENSE_WITHOUT_PROGRESS", 0, 3)]
    assert shown(await stores.first.desyncs()) == expected
    await stores.first.run()
    assert (await stores.progress_levels())["bob", "unknown"] == 3
    await put_levels(stores.progress, "unknown", [0, 10])
    assert await stores.first.desyncs() == []
