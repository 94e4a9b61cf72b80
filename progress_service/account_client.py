"""Calls to subscription_service: whether a learner's account is active, and its e-mail address verified."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chassis.batch import Item, latest_deadline
from chassis.context import Context
from chassis.errors import Reason, ServiceError
from chassis.postgres.isolation import run_reads
from chassis.rpc.client import Upstream
from protos.subscription.v1 import account_checks_pb2 as pb

CHECK_ACCOUNTS = "/homeroom.subscription.v1.AccountCheckService/CheckAccounts"
ACCOUNTS_PER_CALL_MAX = 256


class AccountClient:
    """What progress_service asks about accounts. Nothing is kept: an account may change at any time."""

    def __init__(self, *, upstream: Upstream) -> None:
        self._upstream = upstream

    async def refusals_of_inactive(self, items: Sequence[Item[Any]]) -> list[ServiceError | None]:
        """For each caller: None if the account is active, else the refusal.

        The refusal is INVALID_USER_REFERENCE, or that of a subscription_service that does not answer.
        """
        answers = await self._checked(items)
        return [_refusal(answers[item.user_id]) for item in items]

    async def refusals_of_unverified(self, items: Sequence[Item[Any]]) -> list[ServiceError | None]:
        """The same, and EMAIL_NOT_VERIFIED for an account whose e-mail address is not verified."""
        answers = await self._checked(items)
        return [
            None
            if (account := answers[item.user_id]) == pb.CheckAccountsResponse.VERIFIED
            else _refusal(account) or ServiceError(Reason.EMAIL_NOT_VERIFIED)
            for item in items
        ]

    async def _checked(self, items: Sequence[Item[Any]]) -> dict[str, Any]:
        """For each caller what the account is, or the refusal: one call for the whole batch.

        A caller whom subscription_service cannot read is asked about alone, and refused alone.
        """
        user_ids = list({item.user_id: None for item in items})
        context = _context_of(items)
        answers: dict[str, Any] = {}
        for first in range(0, len(user_ids), ACCOUNTS_PER_CALL_MAX):
            asked = user_ids[first : first + ACCOUNTS_PER_CALL_MAX]
            try:
                answers |= zip(
                    asked, await run_reads(asked, lambda some: self._check(some, context)), strict=True
                )
            except ServiceError as error:
                answers |= dict.fromkeys(asked, error)
        return answers

    async def _check(self, user_ids: Sequence[str], context: Context) -> list[Any]:
        request = pb.CheckAccountsRequest(user_ids=user_ids)
        message: Any = (await self._upstream.call(CHECK_ACCOUNTS, request, context)).message
        return list(message.accounts)


def _context_of(items: Sequence[Item[Any]]) -> Context:
    """That of the batch: it lasts as long as its last caller waits, and is traced if one of them is."""
    traced = next((item.context for item in items if item.context.recorded_trace), items[0].context)
    return traced.on_behalf(CHECK_ACCOUNTS)._replace(deadline=latest_deadline(items))


def _refusal(account: Any) -> ServiceError | None:
    if isinstance(account, ServiceError):
        return account
    active = account in {pb.CheckAccountsResponse.UNVERIFIED, pb.CheckAccountsResponse.VERIFIED}
    return None if active else ServiceError(Reason.INVALID_USER_REFERENCE)
