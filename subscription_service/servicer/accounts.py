"""AccountService and PlanService: messages to accounts, subscriptions, entitlements and plans, and back."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from chassis.batch import Item, Reply
from chassis.errors import ServiceError
from protos.subscription.v1 import accounts_pb2 as pb
from subscription_service.domain.accounts import (
    Account,
    AccountDetails,
    AccountStatus,
    invalid_user_reference,
)
from subscription_service.domain.entitlements import Entitlements
from subscription_service.domain.plans import Plan
from subscription_service.domain.subscriptions import (
    Subscription,
    SubscriptionChange,
    SubscriptionOrder,
    SubscriptionStatus,
)
from subscription_service.operations.accounts import AccountOperations
from subscription_service.operations.entitlements import EntitlementOperations
from subscription_service.operations.plans import PlanOperations
from subscription_service.operations.subscriptions import SubscriptionOperations
from subscription_service.servicer.batches import deadline_of, keyed, replies, timestamp
from subscription_service.servicer.paging import number_in, pages, text_in

_ACCOUNT_STATUSES = {
    AccountStatus.ACTIVE: pb.Account.ACTIVE,
    AccountStatus.INACTIVE: pb.Account.INACTIVE,
}
_STATUSES = {
    SubscriptionStatus.TRIALING: pb.Subscription.TRIALING,
    SubscriptionStatus.ACTIVE: pb.Subscription.ACTIVE,
    SubscriptionStatus.PAST_DUE: pb.Subscription.PAST_DUE,
    SubscriptionStatus.CANCELED: pb.Subscription.CANCELED,
    SubscriptionStatus.EXPIRED: pb.Subscription.EXPIRED,
}
_STATUSES_BY_NUMBER = {number: status for status, number in _STATUSES.items()}


class AccountServicer:
    def __init__(
        self,
        *,
        accounts: AccountOperations,
        subscriptions: SubscriptionOperations,
        entitlements: EntitlementOperations,
    ) -> None:
        self._accounts = accounts
        self._subscriptions = subscriptions
        self._entitlements = entitlements

    async def PutAccount(
        self, batch: list[Item[pb.PutAccountRequest]]
    ) -> list[Reply[pb.PutAccountResponse] | ServiceError]:
        outcomes = await self._accounts.put_accounts(
            [(_details(item.request), item.call.user_id) for item in batch], deadline=deadline_of(batch)
        )
        return replies(outcomes, lambda account: pb.PutAccountResponse(account=_account(account)))

    async def GetAccount(
        self, batch: list[Item[pb.GetAccountRequest]]
    ) -> list[Reply[pb.GetAccountResponse] | ServiceError]:
        outcomes = await self._accounts.get_accounts(
            [item.request.user_id for item in batch], deadline=deadline_of(batch)
        )
        return replies(outcomes, lambda account: pb.GetAccountResponse(account=_account(account)))

    async def GetMyAccount(
        self, batch: list[Item[pb.GetMyAccountRequest]]
    ) -> list[Reply[pb.GetMyAccountResponse] | ServiceError]:
        found = await self._accounts.get_accounts(
            [item.call.user_id for item in batch], deadline=deadline_of(batch)
        )
        # A token that names nobody is not the same as a page that is not there.
        outcomes = [invalid_user_reference() if isinstance(each, ServiceError) else each for each in found]
        return replies(outcomes, lambda account: pb.GetMyAccountResponse(account=_account(account)))

    async def SetSubscription(
        self, batch: list[Item[pb.SetSubscriptionRequest]]
    ) -> list[Reply[Any] | ServiceError]:
        return await self._subscriptions.set_subscriptions(
            [keyed(item, _order(item)) for item in batch],
            render=lambda subscription: pb.SetSubscriptionResponse(
                subscription=_subscription(subscription)
            ).SerializeToString(),
            deadline=deadline_of(batch),
        )

    async def ListSubscriptionChanges(
        self, batch: list[Item[pb.ListSubscriptionChangesRequest]]
    ) -> list[Reply[pb.ListSubscriptionChangesResponse] | ServiceError]:
        return await pages(
            batch,
            self._changes,
            position=lambda change: (change.change_number,),
            render=lambda changes, token: pb.ListSubscriptionChangesResponse(
                changes=map(_change, changes), next_page_token=token
            ),
        )

    async def GetMyEntitlements(
        self, batch: list[Item[pb.GetMyEntitlementsRequest]]
    ) -> list[Reply[pb.GetMyEntitlementsResponse] | ServiceError]:
        outcomes = await self._entitlements.get_entitlements(
            [item.call.user_id for item in batch], deadline=deadline_of(batch)
        )
        return replies(outcomes, lambda e: pb.GetMyEntitlementsResponse(entitlements=_entitlements(e)))

    async def GetEntitlements(
        self, batch: list[Item[pb.GetEntitlementsRequest]]
    ) -> list[Reply[pb.GetEntitlementsResponse] | ServiceError]:
        outcomes = await self._entitlements.get_entitlements(
            [item.request.user_id for item in batch], deadline=deadline_of(batch)
        )
        return replies(outcomes, lambda e: pb.GetEntitlementsResponse(entitlements=_entitlements(e)))

    async def _changes(
        self, item: Item[pb.ListSubscriptionChangesRequest], limit: int
    ) -> list[SubscriptionChange]:
        return await self._subscriptions.list_changes(
            user_id=item.request.user_id,
            before=number_in(item.request.page_token),
            limit=limit,
            deadline=item.call.deadline,
        )


class PlanServicer:
    def __init__(self, *, operations: PlanOperations) -> None:
        self._operations = operations

    async def PutPlan(
        self, batch: list[Item[pb.PutPlanRequest]]
    ) -> list[Reply[pb.PutPlanResponse] | ServiceError]:
        outcomes = await self._operations.put_plans(
            [_plan_of(item.request) for item in batch], deadline=deadline_of(batch)
        )
        return replies(outcomes, lambda plan: pb.PutPlanResponse(plan=_plan(plan)))

    async def ListPlans(
        self, batch: list[Item[pb.ListPlansRequest]]
    ) -> list[Reply[pb.ListPlansResponse] | ServiceError]:
        return await pages(
            batch,
            lambda item, limit: self._operations.list_plans(
                after=text_in(item.request.page_token), limit=limit, deadline=item.call.deadline
            ),
            position=lambda plan: (plan.plan_id,),
            render=lambda plans, token: pb.ListPlansResponse(plans=map(_plan, plans), next_page_token=token),
        )


def _details(request: pb.PutAccountRequest) -> AccountDetails:
    inactive = request.status == pb.Account.INACTIVE
    return AccountDetails(
        user_id=request.user_id,
        email=request.email,
        display_name=request.display_name,
        email_verified=request.email_verified,
        status=AccountStatus.INACTIVE if inactive else AccountStatus.ACTIVE,
    )


def _account(account: Account) -> pb.Account:
    return pb.Account(
        user_id=account.user_id,
        email=account.email,
        display_name=account.display_name,
        email_verified=account.email_verified,
        status=_ACCOUNT_STATUSES[account.status],
        created_at=timestamp(account.created_at),
        updated_at=timestamp(account.updated_at),
    )


def _order(item: Item[pb.SetSubscriptionRequest]) -> SubscriptionOrder:
    request = item.request
    return SubscriptionOrder(
        user_id=request.user_id,
        plan_id=request.plan_id,
        status=_STATUSES_BY_NUMBER[request.status],
        period_end=request.period_end.ToDatetime(UTC) if request.HasField("period_end") else None,
        by=item.call.user_id,
    )


def _subscription(subscription: Subscription) -> pb.Subscription:
    return pb.Subscription(
        user_id=subscription.user_id,
        plan_id=subscription.plan_id,
        status=_STATUSES[subscription.status],
        period_end=None if subscription.period_end is None else timestamp(subscription.period_end),
        updated_at=timestamp(subscription.updated_at),
    )


def _change(change: SubscriptionChange) -> pb.SubscriptionChange:
    return pb.SubscriptionChange(
        from_plan_id=change.from_plan_id or "",
        to_plan_id=change.to_plan_id,
        from_status=pb.Subscription.STATUS_UNSPECIFIED
        if change.from_status is None
        else _STATUSES[change.from_status],
        to_status=_STATUSES[change.to_status],
        period_end=None if change.period_end is None else timestamp(change.period_end),
        by=change.by,
        at=timestamp(change.at),
    )


def _entitlements(entitlements: Entitlements) -> pb.Entitlements:
    return pb.Entitlements(
        user_id=entitlements.user_id,
        plan_id=entitlements.plan_id,
        status=_STATUSES[entitlements.status],
        tests=pb.Entitlements.Tests(
            limit=entitlements.limit,
            used=entitlements.used,
            held=entitlements.held,
            remaining=entitlements.remaining,
            resets_at=timestamp(entitlements.resets_at),
        ),
        credits=pb.Entitlements.Credits(
            balance=entitlements.balance,
            held=entitlements.held_credits,
            available=entitlements.available,
        ),
        features=entitlements.features,
        email_verified=entitlements.email_verified,
    )


def _plan_of(request: pb.PutPlanRequest) -> Plan:
    return Plan(
        plan_id=request.plan_id,
        name=request.name,
        daily_test_limit=request.daily_test_limit if request.HasField("daily_test_limit") else None,
        monthly_credits=request.monthly_credits,
        features=tuple(request.features),
    )


def _plan(plan: Plan) -> pb.Plan:
    return pb.Plan(
        plan_id=plan.plan_id,
        name=plan.name,
        daily_test_limit=plan.daily_test_limit,
        monthly_credits=plan.monthly_credits,
        features=plan.features,
    )
