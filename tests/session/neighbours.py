"""The real services that session_service calls, as far as it calls them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from chassis.postgres import Database
from chassis.rpc.paging import PageTokens
from chassis.rpc.server import Server
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.tracing import Tracing
from progress_service import __main__ as progress_main
from subscription_service.operations.accounts import AccountOperations
from subscription_service.operations.entitlements import EntitlementOperations
from subscription_service.operations.holds import HoldOperations
from subscription_service.operations.plans import PlanOperations
from subscription_service.operations.subscriptions import SubscriptionOperations
from subscription_service.servicer import accounts, hold_checks, holds, plans
from subscription_service.store.accounts import AccountStore
from subscription_service.store.entitlements import EntitlementStore
from subscription_service.store.hold_checks import HoldCheckStore
from subscription_service.store.holds import HoldStore
from subscription_service.store.plans import PlanStore
from subscription_service.store.subscriptions import SubscriptionStore

ACCOUNTS = "homeroom.subscription.v1.AccountService"
PLANS = "homeroom.subscription.v1.PlanService"
STATISTICS = "homeroom.progress.v1.StatisticsService"


@asynccontextmanager
async def running(*, subscription: str, progress: str, service_token: str) -> AsyncIterator[str]:
    """Both services behind one port, each on its own database; yields host:port."""
    async with AsyncExitStack() as stack:

        async def connect(dsn: str) -> Database:
            connected = await Database.connect(dsn, maximum=8)
            stack.push_async_callback(connected.close)
            return connected

        database = await connect(subscription)
        metrics = Metrics(service="neighbours")
        tokens = PageTokens(secret=service_token)
        subscriptions = SubscriptionStore(database=database)
        plan_store, hold_store = PlanStore(database=database), HoldStore(database=database)
        server = Server(
            bind="127.0.0.1:0",
            handlers=[
                *accounts.handlers(
                    accounts=AccountOperations(store=AccountStore(database=database)),
                    subscriptions=SubscriptionOperations(store=subscriptions),
                    entitlements=EntitlementOperations(store=EntitlementStore(database=database)),
                    list_changes=subscriptions.list_changes,
                    tokens=tokens,
                ),
                *plans.handlers(
                    operations=PlanOperations(store=plan_store),
                    list_plans=plan_store.list_plans,
                    tokens=tokens,
                ),
                *holds.handlers(
                    operations=HoldOperations(store=hold_store),
                    list_open_holds=hold_store.list_open_holds,
                    tokens=tokens,
                ),
                *hold_checks.handlers(find_holds=HoldCheckStore(database=database).find_holds),
                *progress_main.handlers(
                    database=await connect(progress),
                    wakes=progress_main.Wakes(relay=lambda: None, raising=lambda: None),
                    tokens=tokens,
                    metrics=metrics,
                ),
            ],
            service_token=service_token,
            tracing=Tracing(service="test", version="0", sample_ratio=0.0),
            metrics=metrics,
        )
        await server.start()
        stack.push_async_callback(server.stop, grace_seconds=0)
        yield f"127.0.0.1:{server.port}"
