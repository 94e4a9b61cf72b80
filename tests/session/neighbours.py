"""The real services that session_service calls, as far as it calls them."""

from __future__ import annotations

from collections.abc import Mapping

from chassis.telemetry.metrics import Metrics
from chassis.postgres import Database
from progress_service.operations.results import ResultOperations
from progress_service.operations.statistics import StatisticsOperations
from progress_service.servicer.statistics import StatisticsServicer
from progress_service.store.results import ResultStore
from progress_service.store.statistics import StatisticsStore
from subscription_service.operations.accounts import AccountOperations
from subscription_service.operations.entitlements import EntitlementOperations
from subscription_service.operations.holds import HoldOperations
from subscription_service.operations.plans import PlanOperations
from subscription_service.operations.subscriptions import SubscriptionOperations
from subscription_service.servicer.accounts import AccountServicer, PlanServicer
from subscription_service.servicer.holds import HoldServicer
from subscription_service.store.accounts import AccountStore
from subscription_service.store.entitlements import EntitlementStore
from subscription_service.store.holds import HoldStore
from subscription_service.store.plans import PlanStore
from subscription_service.store.subscriptions import SubscriptionStore

ACCOUNTS = "homeroom.subscription.v1.AccountService"
PLANS = "homeroom.subscription.v1.PlanService"
HOLDS = "homeroom.subscription.v1.HoldService"
STATISTICS = "homeroom.progress.v1.StatisticsService"


def neighbours(*, subscription: Database, progress: Database) -> Mapping[str, object]:
    """Services by their full names, each on its own database."""
    return {
        ACCOUNTS: AccountServicer(
            accounts=AccountOperations(store=AccountStore(database=subscription)),
            subscriptions=SubscriptionOperations(store=SubscriptionStore(database=subscription)),
            entitlements=EntitlementOperations(store=EntitlementStore(database=subscription)),
        ),
        PLANS: PlanServicer(operations=PlanOperations(store=PlanStore(database=subscription))),
        HOLDS: HoldServicer(operations=HoldOperations(store=HoldStore(database=subscription))),
        STATISTICS: StatisticsServicer(
            results=ResultOperations(
                store=ResultStore(progress), metrics=Metrics(service="progress_service")
            ),
            statistics=StatisticsOperations(store=StatisticsStore(progress)),
        ),
    }
