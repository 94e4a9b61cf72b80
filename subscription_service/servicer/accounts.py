"""AccountService: messages to accounts, subscriptions and entitlements, and back."""

from __future__ import annotations

from chassis.batch import Item
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler, PagedOperation, keyed, paged, plain
from chassis.rpc.timestamps import moment_of, timestamp
from protos.subscription.v1 import accounts_pb2 as pb
from subscription_service.domain.accounts import Account, AccountDetails, AccountStatus
from subscription_service.domain.entitlements import Entitlements
from subscription_service.domain.subscriptions import (
    Subscription,
    SubscriptionChange,
    SubscriptionOrder,
    SubscriptionStatus,
)
from subscription_service.operations.accounts import AccountOperations
from subscription_service.operations.entitlements import EntitlementOperations
from subscription_service.operations.subscriptions import SubscriptionOperations

SERVICE = "/homeroom.subscription.v1.AccountService"
_ACCOUNT_STATUSES = {
    AccountStatus.ACTIVE: pb.Account.ACTIVE,
    AccountStatus.INACTIVE: pb.Account.INACTIVE,
}
SUBSCRIPTION_STATUSES = {
    SubscriptionStatus.TRIALING: pb.Subscription.TRIALING,
    SubscriptionStatus.ACTIVE: pb.Subscription.ACTIVE,
    SubscriptionStatus.PAST_DUE: pb.Subscription.PAST_DUE,
    SubscriptionStatus.CANCELED: pb.Subscription.CANCELED,
    SubscriptionStatus.EXPIRED: pb.Subscription.EXPIRED,
}
_STATUSES_BY_NUMBER = {number: status for status, number in SUBSCRIPTION_STATUSES.items()}


def handlers(
    *,
    accounts: AccountOperations,
    subscriptions: SubscriptionOperations,
    entitlements: EntitlementOperations,
    list_changes: PagedOperation[str, SubscriptionChange],
    tokens: PageTokens,
) -> list[Handler]:
    """The methods of AccountService."""
    return [
        plain(
            f"{SERVICE}/PutAccount",
            _details,
            accounts.put_accounts,
            lambda account: pb.PutAccountResponse(account=_account(account)),
        ),
        plain(
            f"{SERVICE}/GetAccount",
            _user_id,
            accounts.get_accounts,
            lambda account: pb.GetAccountResponse(account=_account(account)),
        ),
        plain(
            f"{SERVICE}/GetMyAccount",
            _caller,
            accounts.get_own_accounts,
            lambda account: pb.GetMyAccountResponse(account=_account(account)),
        ),
        keyed(
            f"{SERVICE}/SetSubscription",
            _order,
            subscriptions.set_subscriptions,
            lambda subscription: pb.SetSubscriptionResponse(subscription=_subscription(subscription)),
        ),
        paged(
            f"{SERVICE}/ListSubscriptionChanges",
            _user_id,
            list_changes,
            _change,
            position=lambda change: (change.change_number,),
            tokens=tokens,
        ),
        plain(
            f"{SERVICE}/GetMyEntitlements",
            _caller,
            entitlements.get_entitlements,
            lambda found: pb.GetMyEntitlementsResponse(entitlements=_entitlements(found)),
        ),
        plain(
            f"{SERVICE}/GetEntitlements",
            _user_id,
            entitlements.get_entitlements,
            lambda found: pb.GetEntitlementsResponse(entitlements=_entitlements(found)),
        ),
    ]


def _user_id(
    item: Item[pb.GetAccountRequest | pb.ListSubscriptionChangesRequest | pb.GetEntitlementsRequest],
) -> str:
    return item.request.user_id


def _caller(item: Item[pb.GetMyAccountRequest | pb.GetMyEntitlementsRequest]) -> str:
    return item.user_id


def _details(item: Item[pb.PutAccountRequest]) -> AccountDetails:
    request = item.request
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
        period_end=moment_of(request.period_end, "periodEnd") if request.HasField("period_end") else None,
        by=item.user_id,
    )


def _subscription(subscription: Subscription) -> pb.Subscription:
    return pb.Subscription(
        user_id=subscription.user_id,
        plan_id=subscription.plan_id,
        status=SUBSCRIPTION_STATUSES[subscription.status],
        period_end=timestamp(subscription.period_end),
        updated_at=timestamp(subscription.updated_at),
    )


def _change(change: SubscriptionChange) -> pb.SubscriptionChange:
    return pb.SubscriptionChange(
        from_plan_id=change.from_plan_id or "",
        to_plan_id=change.to_plan_id,
        from_status=pb.Subscription.STATUS_UNSPECIFIED
        if change.from_status is None
        else SUBSCRIPTION_STATUSES[change.from_status],
        to_status=SUBSCRIPTION_STATUSES[change.to_status],
        period_end=timestamp(change.period_end),
        by=change.changed_by,
        at=timestamp(change.changed_at),
    )


def _entitlements(entitlements: Entitlements) -> pb.Entitlements:
    return pb.Entitlements(
        user_id=entitlements.user_id,
        plan_id=entitlements.plan_id,
        status=SUBSCRIPTION_STATUSES[entitlements.status],
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
