"""What is told of entitlements that have changed: a fingerprint of what `GET /v1/entitlements` shows."""

from __future__ import annotations

from typing import Any

from chassis.postgres import Connection
from protos.subscription.v1 import accounts_pb2
from protos.subscription.v1 import changes_pb2 as pb
from tests.subscription.service import Subscriptions

CHANGES = "homeroom.subscription.v1.EntitlementChangeService"


async def read(subscriptions: Subscriptions, *user_ids: str) -> list[Any]:
    request = pb.ReadEntitlementChangesRequest(user_ids=user_ids)
    answer = await subscriptions.one(CHANGES, "ReadEntitlementChanges", request)
    assert len(answer.learners) == len(user_ids)
    return list(answer.learners)


async def test_a_fingerprint_changes_with_what_is_shown_and_only_then(
    subscriptions: Subscriptions, truth: Connection
) -> None:
    ada, eve = await subscriptions.accounts(2)
    before, hers = await read(subscriptions, ada, eve)
    assert (await read(subscriptions, ada))[0] == before
    assert len(before.fingerprint) == 8
    assert before.plan_id
    assert before.status == accounts_pb2.Subscription.ACTIVE
    await truth.execute(
        "INSERT INTO daily_usage (user_id, day, used, held)"
        " VALUES ($1, (now() AT TIME ZONE 'utc')::date, 1, 0)",
        ada,
    )
    after, same = await read(subscriptions, ada, eve)
    assert after.fingerprint != before.fingerprint
    assert same == hers


async def test_another_day_alone_is_no_change(subscriptions: Subscriptions) -> None:
    ada = await subscriptions.account("ada")
    subscriptions.clock.set("2030-03-01T10:00:00Z")
    before = await read(subscriptions, ada)
    subscriptions.clock.set("2030-03-02T10:00:00Z")
    assert await read(subscriptions, ada) == before


async def test_another_plan_is_told_by_its_name(subscriptions: Subscriptions) -> None:
    ada = await subscriptions.account("ada")
    (before,) = await read(subscriptions, ada)
    await subscriptions.plan("gold", limit=7)
    await subscriptions.subscribe(ada, "gold")
    (after,) = await read(subscriptions, ada)
    assert after.plan_id == "gold"
    assert after.fingerprint != before.fingerprint


async def test_without_an_active_account_there_is_nothing(subscriptions: Subscriptions) -> None:
    (nobody,) = await read(subscriptions, "nobody")
    assert nobody == pb.EntitlementChange()


async def test_a_learner_who_cannot_be_read_costs_the_others_nothing(
    subscriptions: Subscriptions, truth: Connection
) -> None:
    users = await subscriptions.accounts(7)
    await truth.execute("ALTER TABLE subscriptions DROP CONSTRAINT subscriptions_status_known")
    await truth.execute("UPDATE subscriptions SET status = 'odd' WHERE user_id = $1", users[3])
    answers = await read(subscriptions, *users)
    assert [user for user, each in zip(users, answers, strict=True) if each.failed] == [users[3]]
    assert all(each.fingerprint for each in answers if not each.failed)
