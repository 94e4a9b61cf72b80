"""The licenses in one order, and their repair by the progress that they mirror."""

from __future__ import annotations

import asyncio
import random
import uuid
from typing import Any

import pytest

from chassis.errors import Reason
from chassis.postgres import Connection
from protos.subscription.v1 import license_levels_pb2 as pb
from protos.subscription.v1 import licenses_pb2
from tests.subscription.service import LEVELS, LICENSES, Subscriptions, refused
from tests.subscription.test_licenses import advance, history, license_of, reset

# Texts whose order differs between collations, and the characters that need the most room in a token.
NAMES = ["a", "B", "ä", "Z", "z", "_", "a b", "ab", "A", "é", "\U0001f600", "\x01", "￿", "10", "9"]


def mirror(user_id: str, level: int, **fields: Any) -> pb.MirrorLevelRequest:
    fields = {
        "specialization": "physics",
        "max_level": 5,
        "epoch": 0,
        "event_id": str(uuid.uuid4()),
        "by": "root",
        "reason": "a sweep",
    } | fields
    return pb.MirrorLevelRequest(user_id=user_id, level=level, **fields)


async def mirrored(subscriptions: Subscriptions, request: pb.MirrorLevelRequest) -> tuple[int, int]:
    """The levels before and after."""
    answer = await subscriptions.one(LEVELS, "MirrorLevel", request)
    return answer.level_before, answer.license.level


async def keys(subscriptions: Subscriptions, *, page_size: int, **fields: Any) -> list[tuple[str, str]]:
    """The keys of all pages."""
    found: list[tuple[str, str]] = []
    request = pb.ListLicenseLevelsRequest(page_size=page_size, **fields)
    while True:
        response = await subscriptions.one(LEVELS, "ListLicenseLevels", request)
        found += [(level.specialization, level.user_id) for level in response.levels]
        if not response.next_page_token:
            return found
        request.page_token = response.next_page_token


@pytest.fixture
async def planted(subscriptions: Subscriptions) -> list[tuple[str, str]]:
    """Licenses of odd names, by the code points of the texts, which is the order of their UTF-8 bytes."""
    wanted = [(specialization, user_id) for specialization in NAMES[:6] for user_id in NAMES]
    for number, user_id in enumerate(NAMES):
        await subscriptions.account(user_id, email=f"learner-{number}@example.com")
    shuffled = random.sample(wanted, len(wanted))
    requests = [mirror(user_id, 1, specialization=name) for name, user_id in shuffled]
    for answer in await subscriptions.batch(LEVELS, "MirrorLevel", requests):
        assert answer.license.level == 1, answer
    return sorted(wanted)


@pytest.mark.parametrize("page_size", [1, 7, 1000])
async def test_the_list_is_in_the_order_of_the_bytes_whatever_the_page(
    subscriptions: Subscriptions, planted: list[tuple[str, str]], page_size: int
) -> None:
    assert await keys(subscriptions, page_size=page_size) == planted


async def test_the_list_begins_behind_any_position_and_keeps_to_what_is_named(
    subscriptions: Subscriptions, planted: list[tuple[str, str]]
) -> None:
    for specialization, user_id in [("a", "zz"), ("a", "\x02"), ("Y", "a"), ("~", "a"), ("ä", "ä")]:
        after = pb.LicenseLevelPosition(specialization=specialization, user_id=user_id)
        behind = [key for key in planted if key > (specialization, user_id)]
        assert await keys(subscriptions, page_size=9, after=after) == behind
        for name in NAMES[:6]:
            found = await keys(subscriptions, page_size=9, after=after, specialization=name)
            assert found == [key for key in behind if key[0] == name]
    of_one = [key for key in planted if key[1] == "ä"]
    assert await keys(subscriptions, page_size=4, user_id="ä") == of_one
    assert await keys(subscriptions, page_size=4, user_id="ä", specialization="z") == [("z", "ä")]
    assert await keys(subscriptions, page_size=4, user_id="nobody") == []


async def test_the_longest_names_fit_into_a_page_token(subscriptions: Subscriptions) -> None:
    user_id, name = "\x01" * 128, "\x02" * 63
    await subscriptions.account(user_id, email="long@example.com")
    await mirrored(subscriptions, mirror(user_id, 1, specialization=name))
    await mirrored(subscriptions, mirror(user_id, 1, specialization="z"))
    assert await keys(subscriptions, page_size=1) == [(name, user_id), ("z", user_id)]


async def test_the_list_is_read_from_its_index(
    subscriptions: Subscriptions, planted: list[tuple[str, str]], truth: Connection
) -> None:
    """Each page must cost what it shows, however many licenses there are."""
    await truth.execute("ANALYZE licenses")
    plan = await truth.fetch(
        """
        EXPLAIN SELECT level FROM licenses
         WHERE (specialization COLLATE "C", user_id COLLATE "C") > ('a', 'z')
         ORDER BY specialization COLLATE "C", user_id COLLATE "C" LIMIT 5
        """
    )
    assert any("licenses_in_order" in row[0] for row in plan), plan
    assert not any("Sort" in row[0] for row in plan), plan


async def test_a_license_is_created_and_raised_and_never_lowered(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    assert await mirrored(subscriptions, mirror(ann, 2)) == (0, 2)
    assert await mirrored(subscriptions, mirror(ann, 4)) == (2, 4)
    assert await mirrored(subscriptions, mirror(ann, 3)) == (4, 4)
    assert await mirrored(subscriptions, mirror(ann, 4)) == (4, 4)
    assert await history(subscriptions, ann) == [(0, 2, "root"), (2, 4, "root")]
    assert await subscriptions.discrepancies() == []


async def test_a_repetition_is_answered_with_the_levels_of_the_first_time(
    subscriptions: Subscriptions,
) -> None:
    ann = await subscriptions.account("ann")
    request = mirror(ann, 2)
    first, in_one_batch = await subscriptions.batch(LEVELS, "MirrorLevel", [request, request])
    assert (first.level_before, in_one_batch.level_before) == (0, 0)
    assert await mirrored(subscriptions, mirror(ann, 5)) == (2, 5)
    assert await mirrored(subscriptions, request) == (0, 5)
    answers = await asyncio.gather(*(mirrored(subscriptions, request) for _ in range(10)))
    assert set(answers) == {(0, 5)}
    assert await history(subscriptions, ann) == [(0, 2, "root"), (2, 5, "root")]


async def test_a_newer_epoch_begins_the_license_again_and_an_older_one_changes_nothing(
    subscriptions: Subscriptions,
) -> None:
    ann = await subscriptions.account("ann")
    await mirrored(subscriptions, mirror(ann, 5))
    # The reset itself was lost on its way; the comparison finds its epoch.
    assert await mirrored(subscriptions, mirror(ann, 1, epoch=1)) == (5, 1)
    assert await mirrored(subscriptions, mirror(ann, 5, epoch=0)) == (1, 1)
    late = reset(ann, 1, epoch=1)
    assert (await subscriptions.one(LICENSES, "ResetLicense", late)).license.level == 1
    assert await license_of(subscriptions, ann) == (1, 5)


async def test_a_repair_that_races_an_advance_keeps_the_higher_level(subscriptions: Subscriptions) -> None:
    users = await subscriptions.accounts(20)
    await subscriptions.batch(LEVELS, "MirrorLevel", [mirror(user_id, 1) for user_id in users])

    async def race(user_id: str) -> None:
        await asyncio.gather(
            mirrored(subscriptions, mirror(user_id, 3)),
            subscriptions.one(LICENSES, "AdvanceLicense", advance(user_id, 4), key=f"advance {user_id}"),
        )

    await asyncio.gather(*map(race, users))
    assert {await license_of(subscriptions, user_id) for user_id in users} == {(4, 5)}
    assert await subscriptions.discrepancies() == []


async def test_a_repair_for_an_unknown_learner_is_refused_alone(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    requests = [mirror(ann, 2), mirror("nobody", 2), mirror(ann, 3, specialization="\x01")]
    first, unknown, last = await subscriptions.batch(LEVELS, "MirrorLevel", requests)
    refused(unknown, Reason.INVALID_USER_REFERENCE)
    assert (first.license.level, last.license.level) == (2, 3)


async def test_a_repair_reaches_the_feed_of_changes(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    await mirrored(subscriptions, mirror(ann, 2))
    async for change in subscriptions.watch():
        assert isinstance(change, licenses_pb2.WatchLicensesResponse)
        assert (change.license.user_id, change.license.level, change.progression.by) == (ann, 2, "root")
        break
