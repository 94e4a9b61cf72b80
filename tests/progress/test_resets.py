"""A reset begins a new epoch: nothing is reached in it, and nothing from before it counts in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chassis.batch import Item, Outcome, Reply
from chassis.errors import Reason, ServiceError
from progress_service.domain.resets import ResetOrder, Scope
from progress_service.domain.statistics import UserId
from progress_service.operations.resets import ResetOperations
from progress_service.store.resets import ResetStore
from protos.progress.v1 import resets_pb2 as pb
from tests.progress.conftest import Progress, asked
from tests.progress.licenses import Licenses, following
from tests.progress.results import completed, learner
from tests.progress.serving import Client, served
from tests.progress.specializations import (
    Standing,
    achievements,
    orders,
    put_levels,
    specialization_name,
    standing,
)
from tests.support.waiting import eventually

BEFORE = datetime(2026, 1, 1, tzinfo=UTC)
LADDER = [0, 10, 20, 30]


def after() -> datetime:
    """A time after every reset of this test."""
    return datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
async def client(progress: Progress) -> AsyncIterator[Client]:
    async with served(progress.database) as client:
        yield client


@pytest.fixture
async def player(progress: Progress) -> str:
    name = specialization_name()
    await put_levels(progress.truth, name, LADDER)
    return name


async def reset(client: Client, user_id: str, *, key: str = "", role: str = "admin", **scope: Any) -> Any:
    request = pb.ResetProgressRequest(user_id=user_id, scope=pb.ResetScope(**scope), reason="a new season")
    return await client.ask(
        "ResetService/ResetProgress", request, "root", role=role, key=key or f"reset {user_id} {scope}"
    )


async def audit(progress: Progress, user_id: str) -> list[tuple[int, str, str, str, str]]:
    return [
        (row["epoch"], row["scope"], row["name"], row["ordered_by"], row["reason"])
        for row in await progress.rows("progress_resets", [user_id])
    ]


async def test_a_reset_of_a_specialization_lowers_it_alone(
    client: Client, progress: Progress, player: str
) -> None:
    ada, coach = learner("ada"), specialization_name("COACH")
    await put_levels(progress.truth, coach, LADDER)
    await progress.tell(
        completed(ada, "s1", specialization=player, xp=30, closed_at=BEFORE),
        completed(ada, "s2", specialization=coach, xp=20, closed_at=BEFORE),
    )
    earned = await achievements(progress.truth, ada)

    response = await reset(client, ada, specialization=player)

    assert (response.epoch, response.version) == (1, 3)
    assert await standing(progress.truth, ada, player) == Standing(0, 1, 4, 0, 1)
    assert await standing(progress.truth, ada, coach) == Standing(20, 3, 4, 0, 0)
    totals = (await progress.stats(ada)).statistics
    assert (totals.xp, totals.completed_sessions, totals.version) == (50, 2, 3)
    assert await achievements(progress.truth, ada) == earned
    assert await audit(progress, ada) == [(1, "specialization", player, "root", "a new season")]
    (order,) = [each for each in await orders(progress.truth, ada) if each.reset]
    assert (order.specialization, order.epoch, order.level, order.ordered_by) == (player, 1, 1, "root")


async def test_what_was_earned_before_the_reset_and_arrives_after_it_changes_no_level(
    client: Client, progress: Progress, player: str
) -> None:
    ada = learner("ada")
    await progress.tell(completed(ada, "s1", specialization=player, closed_at=BEFORE))
    await reset(client, ada, specialization=player)

    await progress.tell(completed(ada, "late", specialization=player, xp=30, closed_at=BEFORE))
    assert await standing(progress.truth, ada, player) == Standing(0, 1, 4, 0, 1)
    assert (await progress.stats(ada)).statistics.xp == 40

    await progress.tell(completed(ada, "new", specialization=player, xp=10, closed_at=after()))
    assert await standing(progress.truth, ada, player) == Standing(10, 2, 4, 0, 1)
    assert await progress.discrepancies() == []


async def test_a_reset_of_all_begins_one_epoch_of_every_specialization(
    client: Client, progress: Progress, player: str
) -> None:
    ada, coach = learner("ada"), specialization_name("COACH")
    await put_levels(progress.truth, coach, LADDER)
    await progress.tell(
        completed(ada, "s1", specialization=player, xp=30, closed_at=BEFORE),
        completed(ada, "s2", specialization="not in the catalog", xp=20, closed_at=BEFORE),
    )
    assert (await reset(client, ada, specialization=player)).epoch == 1
    assert (await reset(client, ada, all=True)).epoch == 2
    assert await standing(progress.truth, ada, player) == Standing(0, 1, 4, 0, 2)
    assert await standing(progress.truth, ada, "not in the catalog") == Standing(0, 0, 0, 0, 2)

    # A specialization in which the learner begins only now belongs to the epoch too.
    await progress.tell(
        completed(ada, "s3", specialization=coach, xp=10, closed_at=BEFORE),
        completed(ada, "s4", specialization=coach, xp=20, closed_at=after()),
    )
    assert await standing(progress.truth, ada, coach) == Standing(20, 3, 4, 0, 2)
    assert await progress.discrepancies() == []


async def test_a_key_resets_once_however_often_and_by_however_many_it_is_sent(
    client: Client, progress: Progress, player: str
) -> None:
    ada = learner("ada")
    await progress.tell(completed(ada, "s1", specialization=player, closed_at=BEFORE))
    responses = await asyncio.gather(
        *(reset(client, ada, key="one", specialization=player) for _ in range(20))
    )
    await progress.tell(completed(ada, "s2", specialization=player, closed_at=after()))
    responses.append(await reset(client, ada, key="one", specialization=player))

    assert {response.epoch for response in responses} == {1}
    assert len(await audit(progress, ada)) == 1
    assert await standing(progress.truth, ada, player) == Standing(10, 2, 4, 0, 1)
    with pytest.raises(ServiceError) as refusal:
        await reset(client, ada, key="one", all=True)
    assert refusal.value.reason is Reason.IDEMPOTENCY_KEY_REUSED


async def test_a_course_begins_a_new_epoch_and_the_levels_stay(
    client: Client, progress: Progress, player: str
) -> None:
    ada = learner("ada")
    await progress.truth.execute("INSERT INTO courses (course_id) VALUES ('intro') ON CONFLICT DO NOTHING")
    await progress.tell(completed(ada, "s1", specialization=player, closed_at=BEFORE))
    assert (await reset(client, ada, course_id="intro")).epoch == 1
    assert await audit(progress, ada) == [(1, "course", "intro", "root", "a new season")]
    await progress.tell(completed(ada, "s2", specialization=player, closed_at=BEFORE))
    assert await standing(progress.truth, ada, player) == Standing(20, 3, 4, 0, 0)


@pytest.mark.parametrize("scope", [{"specialization": "nothing"}, {"course_id": "nothing"}])
async def test_a_scope_that_does_not_exist_is_not_found(
    client: Client, progress: Progress, scope: Any
) -> None:
    ada = learner("ada")
    with pytest.raises(ServiceError) as refusal:
        await reset(client, ada, **scope)
    assert refusal.value.reason is Reason.NOT_FOUND
    assert await audit(progress, ada) == []


@pytest.mark.parametrize(
    "scope", [{}, {"specialization": "a", "all": True}, {"specialization": "a", "course_id": "b"}]
)
async def test_a_reset_names_exactly_one_scope(client: Client, scope: Any) -> None:
    with pytest.raises(ServiceError) as refusal:
        await reset(client, learner(), **scope)
    assert refusal.value.reason is Reason.INVALID_ARGUMENT


async def test_only_an_admin_resets(client: Client) -> None:
    for role in ("learner", "instructor"):
        with pytest.raises(ServiceError) as refusal:
            await reset(client, learner(), role=role, all=True)
        assert refusal.value.reason is Reason.PERMISSION_DENIED


async def test_the_license_is_reset_and_nothing_from_before_raises_it_again(
    client: Client, progress: Progress, licenses: Licenses, player: str
) -> None:
    ada: UserId = learner("ada")
    await licenses.accounts(ada)
    await progress.tell(completed(ada, "s1", specialization=player, xp=20, closed_at=BEFORE))
    async with following(progress.database, licenses):
        await eventually(lambda: licenses.level(ada, player))
    # An instructor advances the license, and nobody here has followed that when the reset is ordered.
    await licenses.advance(ada, player, 4)
    await reset(client, ada, specialization=player)
    await progress.tell(completed(ada, "late", specialization=player, xp=30, closed_at=BEFORE))
    async with following(progress.database, licenses), following(progress.database, licenses):
        await eventually(lambda: licenses.in_step(progress.truth))
        assert await standing(progress.truth, ada, player) == Standing(0, 1, 4, 0, 1)
        assert await licenses.history(ada, player) == [(0, 3, 0), (3, 4, 0), (4, 1, 1)]

        await licenses.advance(ada, player, 2)
        await eventually(lambda: licenses.in_step(progress.truth))
    assert await standing(progress.truth, ada, player) == Standing(0, 2, 4, 2, 1)


async def test_a_license_in_a_specialization_that_the_catalog_lacks_is_reset_too(
    client: Client, progress: Progress, licenses: Licenses
) -> None:
    ada, unknown = learner("ada"), specialization_name("UNKNOWN")
    await licenses.accounts(ada)
    await licenses._subscriptions.apply_level(ada, unknown, 1, max_level=5)  # as another program may
    async with following(progress.database, licenses):
        await licenses.advance(ada, unknown, 3)
        await eventually(lambda: licenses.in_step(progress.truth))
        await reset(client, ada, specialization=unknown)
        await eventually(lambda: licenses.in_step(progress.truth))
        assert await standing(progress.truth, ada, unknown) == Standing(0, 1, 3, 0, 1)
        assert await licenses.level(ada, unknown) == 1
        await licenses.advance(ada, unknown, 2)
        await eventually(lambda: licenses.in_step(progress.truth))
    assert await standing(progress.truth, ada, unknown) == Standing(0, 2, 2, 2, 1)


async def test_a_level_order_from_before_the_reset_that_is_delivered_twice_raises_nothing(
    client: Client, progress: Progress, licenses: Licenses, player: str
) -> None:
    ada = learner("ada")
    await licenses.accounts(ada)
    await progress.tell(completed(ada, "s1", specialization=player, xp=20, closed_at=BEFORE))
    await progress.truth.execute("CREATE TABLE kept AS SELECT * FROM outbox")
    await reset(client, ada, specialization=player)
    async with following(progress.database, licenses):
        await eventually(lambda: licenses.in_step(progress.truth))
        # The lease of the first order ran out, and it comes again, after the reset.
        await progress.truth.execute("INSERT INTO outbox SELECT * FROM kept; DROP TABLE kept")
        await eventually(lambda: licenses.in_step(progress.truth))
    assert await licenses.history(ada, player) == [(0, 3, 0), (3, 1, 1)]
    assert await licenses.level(ada, player) == 1


def ordered(user_id: UserId, *, key: str = "k", reason: str = "a new season") -> Item[ResetOrder]:
    order = ResetOrder(user_id=user_id, scope=Scope.ALL, name="", ordered_by="root", reason=reason)
    item = asked(order)
    key = f"{key} {user_id}"
    return item._replace(context=item.context._replace(user_id="root", idempotency_key=key))


async def answered(progress: Progress, items: list[Item[ResetOrder]]) -> list[Outcome]:
    operations = ResetOperations(store=ResetStore(progress.database), wake_relay=lambda: None)
    return await operations.reset_progress(items, lambda reset: str(reset.epoch).encode())


async def test_a_poisonous_reset_and_a_locked_learner_cost_no_neighbour(progress: Progress) -> None:
    neighbours = [learner() for _ in range(20)]
    locked, poisonous = learner("locked"), learner("poisonous")
    await progress.tell(completed(locked, "s1"))
    items = [ordered(each) for each in neighbours]
    items.insert(3, ordered(poisonous, reason="a\0b"))
    items.insert(7, ordered(locked))
    items.insert(9, ordered(UserId("x" * 129)))
    async with progress.truth.transaction():
        await progress.truth.execute("SELECT 1 FROM learner_statistics WHERE user_id = $1 FOR UPDATE", locked)
        outcomes = await answered(progress, items)
    too_long, waiting, poison = outcomes.pop(9), outcomes.pop(7), outcomes.pop(3)
    assert isinstance(too_long, ServiceError)
    assert too_long.reason is Reason.INVALID_ARGUMENT
    assert isinstance(waiting, ServiceError)
    assert waiting.reason is Reason.UNAVAILABLE
    assert isinstance(poison, ServiceError)
    assert poison.reason is Reason.INVALID_ARGUMENT
    assert [outcome.payload() for outcome in outcomes if isinstance(outcome, Reply)] == [b"1"] * 20
    assert await audit(progress, poisonous) == []
    (retried,) = await answered(progress, [ordered(locked)])
    assert isinstance(retried, Reply)


async def test_two_resets_of_one_learner_in_a_batch_come_one_after_the_other(progress: Progress) -> None:
    ada = learner("ada")
    outcomes = await answered(progress, [ordered(ada, key="a"), ordered(ada, key="b"), ordered(ada, key="a")])
    assert [outcome.payload() for outcome in outcomes if isinstance(outcome, Reply)] == [b"1", b"2", b"1"]
    assert len(await audit(progress, ada)) == 2


async def test_results_and_resets_at_once_leave_what_some_order_of_them_leaves(
    client: Client, progress: Progress, player: str
) -> None:
    ada = learner("ada")
    await progress.tell(completed(ada, "first", specialization=player, closed_at=BEFORE))
    later = after()
    results = [
        completed(ada, f"{name}{number}", specialization=player, xp=1, closed_at=closed_at)
        for number in range(10)
        for name, closed_at in (("old", BEFORE), ("new", later))
    ]
    await asyncio.gather(
        *(progress.tell(result) for result in results),
        reset(client, ada, specialization=player),
        return_exceptions=True,
    )
    # On a slow machine somebody has waited too long for the learner's lock, and comes again.
    await progress.tell(*results)
    assert (await reset(client, ada, specialization=player)).epoch == 1
    # A result that was told before the reset, with a time after it, belongs to the epoch that it was told in.
    found = await standing(progress.truth, ada, player)
    assert found is not None
    assert found.epoch == 1
    assert found.xp <= 10
    assert (await progress.stats(ada)).statistics.xp == 30
