from __future__ import annotations

import asyncio
import itertools
import uuid
from typing import Any

import pytest

from chassis.errors import Reason, ServiceError
from protos.subscription.v1 import licenses_pb2 as pb
from tests.subscription.service import LICENSES, Subscriptions, refused


def reached(user_id: str, level: int, **fields: Any) -> pb.ApplyLicenseLevelRequest:
    fields.setdefault("specialization", "physics")
    fields.setdefault("max_level", 5)
    fields.setdefault("event_id", str(uuid.uuid4()))
    return pb.ApplyLicenseLevelRequest(user_id=user_id, level=level, reason="level up", **fields)


def reset(user_id: str, to_level: int, **fields: Any) -> pb.ResetLicenseRequest:
    fields.setdefault("event_id", str(uuid.uuid4()))
    return pb.ResetLicenseRequest(
        user_id=user_id,
        specialization="physics",
        to_level=to_level,
        max_level=5,
        by="root",
        reason="cheated",
        **fields,
    )


def advance(user_id: str, to_level: int) -> pb.AdvanceLicenseRequest:
    return pb.AdvanceLicenseRequest(
        user_id=user_id, specialization="physics", to_level=to_level, reason="passed an interview"
    )


async def license_of(subscriptions: Subscriptions, user_id: str) -> tuple[int, int]:
    request = pb.ListLicensesRequest(user_id=user_id)
    (license_,) = (await subscriptions.one(LICENSES, "ListLicenses", request)).licenses
    return license_.level, license_.max_level


async def history(
    subscriptions: Subscriptions, user_id: str, page_size: int = 2
) -> list[tuple[int, int, str]]:
    """From, to and by of each change, oldest first."""
    changes: list[Any] = []
    request = pb.GetLicenseHistoryRequest(specialization="physics", page_size=page_size)
    for _ in range(50):
        response = await subscriptions.one(LICENSES, "GetLicenseHistory", request, user_id=user_id)
        changes += response.progressions
        request.page_token = response.next_page_token
        if not request.page_token:
            break
    return [(getattr(change, "from"), change.to, change.by) for change in reversed(changes)]


async def send(subscriptions: Subscriptions, *requests: Any) -> list[Any]:
    """Each request in a batch of its own, in their order."""
    names = {pb.ApplyLicenseLevelRequest: "ApplyLicenseLevel", pb.ResetLicenseRequest: "ResetLicense"}
    return [await subscriptions.one(LICENSES, names[type(request)], request) for request in requests]


async def test_levels_rise_with_progress_and_never_fall(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    answers = await send(subscriptions, reached(ann, 1), reached(ann, 3), reached(ann, 2), reached(ann, 3))
    assert [answer.license.level for answer in answers] == [1, 3, 3, 3]
    assert await history(subscriptions, ann) == [(0, 1, "progress_service"), (1, 3, "progress_service")]
    (answer,) = await send(subscriptions, reached(ann, 5))
    assert answer.license.status == pb.License.COMPLETED
    assert await subscriptions.discrepancies() == []


async def test_an_event_counts_once_even_after_a_reset(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    low, high = reached(ann, 2), reached(ann, 4)
    back = reset(ann, 1)
    await send(subscriptions, high, low, back)
    answers = await send(subscriptions, low, high, back)
    assert [answer.license.level for answer in answers] == [1, 1, 1]
    assert await history(subscriptions, ann) == [(0, 4, "progress_service"), (4, 1, "root")]
    (answer,) = await send(subscriptions, reached(ann, 2))
    assert answer.license.level == 2


async def test_any_order_and_duplication_of_the_same_events_gives_the_same_license(
    subscriptions: Subscriptions,
) -> None:
    ends = set()
    for number, order in enumerate(itertools.permutations(range(5))):
        ann = await subscriptions.account(f"ann-{number}")
        events = [
            reached(ann, 2, epoch=0),
            reached(ann, 4, epoch=0, max_level=4),
            reset(ann, 1, epoch=1),
            reached(ann, 2, epoch=1),
            reached(ann, 2, epoch=1, max_level=6),
        ]
        shuffled = [events[place] for place in order]
        await send(subscriptions, *shuffled, *shuffled[:2], *shuffled[3:])
        ends.add(await license_of(subscriptions, ann))
    assert ends == {(2, 6)}
    assert await subscriptions.discrepancies() == []


async def test_one_event_may_raise_several_specializations(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    event_id = str(uuid.uuid4())
    await send(
        subscriptions,
        reached(ann, 2, event_id=event_id),
        reached(ann, 3, event_id=event_id, specialization="chemistry"),
        reached(ann, 4, event_id=event_id, specialization="chemistry"),
    )
    request = pb.ListMyLicensesRequest()
    response = await subscriptions.one(LICENSES, "ListMyLicenses", request, user_id=ann)
    assert [(each.specialization, each.level) for each in response.licenses] == [
        ("chemistry", 3),
        ("physics", 2),
    ]


async def test_a_batch_for_one_learner_is_applied_in_order_of_arrival(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    twice = reached(ann, 3)
    outcomes = await subscriptions.batch(
        LICENSES, "ApplyLicenseLevel", [reached(ann, 2), twice, reached(ann, 1), twice, reached("nobody", 1)]
    )
    assert [outcome.license.level for outcome in outcomes[:4]] == [2, 3, 3, 3]
    refused(outcomes[4], Reason.INVALID_USER_REFERENCE)
    assert [to for _, to, _ in await history(subscriptions, ann)] == [2, 3]


async def test_an_instructor_raises_a_license_within_the_catalog(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")

    async def ask(to_level: int, key: str) -> Any:
        (outcome,) = await subscriptions.batch(
            LICENSES, "AdvanceLicense", [advance(ann, to_level)], user_id="teacher", keys=[key]
        )
        return outcome

    refused(await ask(2, "before-there-is-one"), Reason.NOT_FOUND)
    await send(subscriptions, reached(ann, 2))
    assert (await ask(4, "raise")).license.level == 4
    assert (await ask(4, "raise")).license.level == 4
    assert (await ask(4, "again")).license.level == 4
    assert refused(await ask(3, "lower"), Reason.ILLEGAL_TRANSITION) == {"from": 4, "to": 3}
    beyond = await ask(6, "beyond")
    refused(beyond, Reason.INVALID_ARGUMENT)
    assert beyond.violations[0].field == "toLevel"
    refused(await ask(5, "raise"), Reason.IDEMPOTENCY_KEY_REUSED)
    assert await history(subscriptions, ann) == [(0, 2, "progress_service"), (2, 4, "teacher")]
    await subscriptions.account("ann", status="INACTIVE")
    refused(await ask(5, "inactive"), Reason.INVALID_USER_REFERENCE)
    # What progress has to say of the past is still heard.
    assert (await send(subscriptions, reached(ann, 5)))[0].license.level == 5


async def test_one_key_advances_once_however_many_ask(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    await send(subscriptions, reached(ann, 1))
    answers = await asyncio.gather(
        *(
            subscriptions.batch(LICENSES, "AdvanceLicense", [advance(ann, 3)] * 3, keys=["k"] * 3)
            for _ in range(6)
        )
    )
    assert len({outcome.SerializeToString() for batch in answers for outcome in batch}) == 1
    assert len(await history(subscriptions, ann)) == 2


async def test_a_level_above_the_catalog_is_impossible_in_the_database_too(
    subscriptions: Subscriptions,
) -> None:
    ann = await subscriptions.account("ann")
    await send(subscriptions, reached(ann, 2))
    violation = "licenses_level_within_catalog"
    with pytest.raises(Exception, match=violation):
        await subscriptions.truth.execute("UPDATE licenses SET level = 6")


async def test_licenses_are_listed_page_by_page_for_known_accounts(subscriptions: Subscriptions) -> None:
    ann = await subscriptions.account("ann")
    names = [f"s-{number}" for number in range(5)]
    await send(subscriptions, *(reached(ann, 1, specialization=name) for name in names))
    await subscriptions.account("ann", status="INACTIVE")
    listed: list[str] = []
    request = pb.ListLicensesRequest(user_id=ann, page_size=2)
    for _ in range(5):
        response = await subscriptions.one(LICENSES, "ListLicenses", request)
        listed += [license_.specialization for license_ in response.licenses]
        request.page_token = response.next_page_token
        if not request.page_token:
            break
    assert listed == names
    for method, unknown in (
        ("ListMyLicenses", pb.ListMyLicensesRequest()),
        ("ListLicenses", pb.ListLicensesRequest(user_id="nobody")),
    ):
        (outcome,) = await subscriptions.batch(LICENSES, method, [unknown], user_id=ann)
        assert isinstance(outcome, ServiceError)
        refused(outcome, Reason.INVALID_USER_REFERENCE)
