"""What progress_service asks about accounts: active or not, verified or not, as it is now."""

from __future__ import annotations

from typing import Any

import pytest

from chassis.errors import Reason, ServiceError
from chassis.rpc.validation import validate
from protos.subscription.v1 import account_checks_pb2 as pb
from protos.subscription.v1 import accounts_pb2
from tests.subscription.service import ACCOUNTS, Subscriptions

CHECKS = "homeroom.subscription.v1.AccountCheckService"
Answer = pb.CheckAccountsResponse


async def check(subscriptions: Subscriptions, *user_ids: str) -> list[Any]:
    answer = await subscriptions.one(CHECKS, "CheckAccounts", pb.CheckAccountsRequest(user_ids=user_ids))
    return list(answer.accounts)


async def test_accounts_are_told_in_the_order_of_the_request(subscriptions: Subscriptions) -> None:
    await subscriptions.account("ann", email_verified=True)
    await subscriptions.account("bob")
    await subscriptions.account("eve", email_verified=True, status=accounts_pb2.Account.INACTIVE)
    asked = ["bob", "nobody", "ann", "eve", "ann"]
    assert await check(subscriptions, *asked) == [
        Answer.UNVERIFIED,
        Answer.NOT_ACTIVE,
        Answer.VERIFIED,
        Answer.NOT_ACTIVE,
        Answer.VERIFIED,
    ]


async def test_a_verification_that_is_withdrawn_counts_from_the_next_call_on(
    subscriptions: Subscriptions,
) -> None:
    for verified, expected in ((True, Answer.VERIFIED), (False, Answer.UNVERIFIED)):
        request = accounts_pb2.PutAccountRequest(
            user_id="ann", email="ann@example.com", email_verified=verified
        )
        await subscriptions.one(ACCOUNTS, "PutAccount", request)
        assert await check(subscriptions, "ann") == [expected]


async def test_a_list_with_an_id_that_cannot_be_read_is_refused_beside_polite_neighbours(
    subscriptions: Subscriptions,
) -> None:
    await subscriptions.account("ann", email_verified=True)
    lists = [["ann"], ["ann", "a\0b"], ["nobody"]]
    first, refused, last = await subscriptions.batch(
        CHECKS, "CheckAccounts", [pb.CheckAccountsRequest(user_ids=each) for each in lists]
    )
    assert (list(first.accounts), list(last.accounts)) == ([Answer.VERIFIED], [Answer.NOT_ACTIVE])
    assert isinstance(refused, ServiceError)
    assert refused.reason is Reason.INVALID_ARGUMENT


@pytest.mark.parametrize("count", [0, 257])
async def test_a_list_has_a_bound(count: int) -> None:
    assert validate(pb.CheckAccountsRequest(user_ids=["ann"] * count)) is not None
