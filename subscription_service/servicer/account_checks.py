"""AccountCheckService: whether accounts may act, in short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chassis.batch import Item
from chassis.rpc.servicing import Handler, plain
from protos.subscription.v1 import account_checks_pb2 as pb
from subscription_service.domain.accounts import AccountStanding
from subscription_service.operations.accounts import AccountOperations

CHECK_ACCOUNTS = "/homeroom.subscription.v1.AccountCheckService/CheckAccounts"

_ACCOUNTS: Mapping[AccountStanding, Any] = {
    AccountStanding.NOT_ACTIVE: pb.CheckAccountsResponse.NOT_ACTIVE,
    AccountStanding.UNVERIFIED: pb.CheckAccountsResponse.UNVERIFIED,
    AccountStanding.VERIFIED: pb.CheckAccountsResponse.VERIFIED,
}


def handlers(*, accounts: AccountOperations) -> list[Handler]:
    """The methods of AccountCheckService."""
    return [plain(CHECK_ACCOUNTS, _user_ids, accounts.check_accounts, _answer)]


def _user_ids(item: Item[pb.CheckAccountsRequest]) -> list[str]:
    return list(item.request.user_ids)


def _answer(standings: Sequence[AccountStanding]) -> pb.CheckAccountsResponse:
    return pb.CheckAccountsResponse(accounts=[_ACCOUNTS[standing] for standing in standings])
