"""Calls to subscription_service: whether a learner's account is active, and its e-mail address verified."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chassis.batch import Item
from chassis.errors import Reason, ServiceError
from chassis.rpc.client import Upstream
from protos.subscription.v1 import accounts_pb2

GET_ENTITLEMENTS = "/homeroom.subscription.v1.AccountService/GetEntitlements"


class AccountClient:
    """What progress_service asks about accounts. Nothing is kept: an account may change at any time."""

    def __init__(self, *, upstream: Upstream) -> None:
        self._upstream = upstream

    async def refusals_of_inactive(self, items: Sequence[Item[Any]]) -> list[ServiceError | None]:
        """For each caller: None if the account is active, else the refusal.

        The refusal is INVALID_USER_REFERENCE, or that of a subscription_service that does not answer.
        """
        return [refusal for refusal, _ in await self._asked(items)]

    async def refusals_of_unverified(self, items: Sequence[Item[Any]]) -> list[ServiceError | None]:
        """The same, and EMAIL_NOT_VERIFIED for an account whose e-mail address is not verified."""
        return [
            refusal or (None if verified else ServiceError(Reason.EMAIL_NOT_VERIFIED))
            for refusal, verified in await self._asked(items)
        ]

    async def _asked(self, items: Sequence[Item[Any]]) -> list[tuple[ServiceError | None, bool]]:
        """For each item the refusal of its caller, and whether the e-mail address is verified."""
        first = {item.user_id: item.context for item in reversed(items)}
        outcomes = await self._upstream.call_many(
            GET_ENTITLEMENTS,
            [
                (
                    accounts_pb2.GetEntitlementsRequest(user_id=user_id),
                    context.on_behalf(GET_ENTITLEMENTS),
                )
                for user_id, context in first.items()
            ],
        )
        answers: dict[str, tuple[ServiceError | None, bool]] = {}
        for user_id, outcome in zip(first, outcomes, strict=True):
            if isinstance(outcome, ServiceError):
                answers[user_id] = outcome, False
            else:
                message: Any = outcome.message
                answers[user_id] = None, message.entitlements.email_verified
        return [answers[item.user_id] for item in items]
