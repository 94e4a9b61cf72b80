"""The service without its network: batches of messages in, outcomes out, and a view of the tables."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.message import Message

from chassis.batch import Item, Reply
from chassis.context import Context
from chassis.diagnostics.checks import Scope
from chassis.diagnostics.findings import Finding, Severity
from chassis.diagnostics.walking import CheckWalk
from chassis.errors import Reason, ServiceError
from chassis.postgres import Connection, Database
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import StreamHandler, UnaryHandler
from protos.subscription.v1 import accounts_pb2, credits_pb2, holds_pb2, licenses_pb2
from subscription_service.__main__ import handlers
from subscription_service.operations.diagnosis import checks
from subscription_service.operations.license_feed import LicenseFeed
from subscription_service.store.license_reads import LicenseReader
from tests.subscription.diagnostics import DiagnosticStore, Discrepancy

ACCOUNTS = "homeroom.subscription.v1.AccountService"
PLANS = "homeroom.subscription.v1.PlanService"
HOLDS = "homeroom.subscription.v1.HoldService"
CREDITS = "homeroom.subscription.v1.CreditService"
LICENSES = "homeroom.subscription.v1.LicenseService"
LEVELS = "homeroom.subscription.v1.LicenseLevelService"
CREATE_SESSION = "/homeroom.session.v1.SessionService/CreateSession"


@dataclass
class PinnedClock:
    """The service's time when it is set, the database's when it is not."""

    moment: datetime | None = None

    def __call__(self) -> datetime | None:
        return self.moment

    def set(self, text: str) -> datetime:
        self.moment = datetime.fromisoformat(text).astimezone(UTC)
        return self.moment


@dataclass
class Subscriptions:
    database: Database
    truth: Connection
    clock: PinnedClock = field(default_factory=PinnedClock)
    timeout_seconds: float = 10.0

    def __post_init__(self) -> None:
        self.feed = LicenseFeed(reader=LicenseReader(database=self.database), poll_seconds=0.05)
        self.tokens = PageTokens(secret="the token of these services")
        served = handlers(self.database, self.feed, tokens=self.tokens, pinned_time=self.clock)
        self.handlers = {handler.method.path: handler for handler in served}
        self._numbers = itertools.count(1)

    async def discrepancies(self) -> list[Discrepancy | Finding]:
        """What differs from the sum of its parts, and what the checks of the service find, however young."""
        return [*await self.wrong_sums(), *await self.findings()]

    async def wrong_sums(self) -> list[Discrepancy]:
        store = DiagnosticStore(database=self.database)
        return await store.select_discrepancies(deadline=time.monotonic() + 30.0)

    async def findings(self) -> list[Finding]:
        """What the checks find. What is only worth knowing is left out."""
        found: list[Finding] = []
        for check in checks(self.database):
            if check.severity > Severity.INFO:
                async for each, progress in CheckWalk(replace(check, age=timedelta(0)), Scope()).steps():
                    assert not progress.problem, progress
                    found += each
        return found

    def call(self, method: str, *, user_id: str = "admin", key: str = "") -> Context:
        return Context(
            method=method,
            user_id=user_id,
            roles=frozenset({"admin", "service"}),
            idempotency_key=key,
            request_id="",
            deadline=time.monotonic() + self.timeout_seconds,
            traceparent="",
        )

    async def batch(
        self,
        service: str,
        method: str,
        requests: Sequence[Message],
        *,
        user_id: str = "admin",
        keys: Sequence[str] = (),
    ) -> list[Any]:
        """The outcome of each request: a response message or a ServiceError."""
        path = f"/{service}/{method}"
        all_keys = keys or [""] * len(requests)
        items = [
            Item(self.call(path, user_id=user_id, key=key), request)
            for request, key in zip(requests, all_keys, strict=True)
        ]
        handler = self.handlers[path]
        assert isinstance(handler, UnaryHandler)
        outcomes = await handler.answer(items)
        assert len(outcomes) == len(items)
        return [
            outcome if isinstance(outcome, ServiceError) else parsed(outcome, handler) for outcome in outcomes
        ]

    def watch(self, after: int = 0) -> Any:
        """The changes of licenses after a sequence number, until the reader leaves."""
        path = f"/{LICENSES}/WatchLicenses"
        handler = self.handlers[path]
        assert isinstance(handler, StreamHandler)
        request = licenses_pb2.WatchLicensesRequest(after_sequence=after)
        return handler.follow(Item(self.call(path), request))

    async def one(
        self, service: str, method: str, request: Message, *, user_id: str = "admin", key: str = ""
    ) -> Any:
        (outcome,) = await self.batch(service, method, [request], user_id=user_id, keys=[key])
        if isinstance(outcome, ServiceError):
            raise outcome
        return outcome

    async def account(self, user_id: str, **fields: Any) -> str:
        fields.setdefault("email", f"{user_id}@example.com")
        await self.one(ACCOUNTS, "PutAccount", accounts_pb2.PutAccountRequest(user_id=user_id, **fields))
        return user_id

    async def accounts(self, count: int, prefix: str = "learner") -> list[str]:
        user_ids = [f"{prefix}-{number:04d}" for number in range(count)]
        await self.batch(
            ACCOUNTS,
            "PutAccount",
            [accounts_pb2.PutAccountRequest(user_id=u, email=f"{u}@example.com") for u in user_ids],
        )
        return user_ids

    async def plan(
        self, plan_id: str, *, limit: int | None, monthly: int = 0, features: Sequence[str] = ()
    ) -> None:
        await self.one(
            PLANS,
            "PutPlan",
            accounts_pb2.PutPlanRequest(
                plan_id=plan_id,
                name=plan_id,
                daily_test_limit=limit,
                monthly_credits=monthly,
                features=features,
            ),
        )

    async def subscribe(
        self, user_id: str, plan_id: str, status: str = "ACTIVE", period_end: datetime | None = None
    ) -> Any:
        response = await self.one(
            ACCOUNTS,
            "SetSubscription",
            accounts_pb2.SetSubscriptionRequest(
                user_id=user_id,
                plan_id=plan_id,
                status=status,
                period_end=period_end,
            ),
            key=f"subscribe-{next(self._numbers)}",
        )
        return response.subscription

    async def entitlements(self, user_id: str) -> Any:
        response = await self.one(
            ACCOUNTS, "GetEntitlements", accounts_pb2.GetEntitlementsRequest(user_id=user_id)
        )
        return response.entitlements

    async def tests(self, user_id: str) -> tuple[int, int]:
        """Used and held of today."""
        tests = (await self.entitlements(user_id)).tests
        return tests.used, tests.held

    async def place(self, user_id: str, hold_id: str | None = None, **fields: Any) -> Any:
        """The hold as it is now; None when its subject is taken. Raises the refusal."""
        response = await self.one(HOLDS, "PlaceHold", placement(user_id, hold_id, **fields))
        return response.hold if response.HasField("hold") else None

    async def commit(self, hold: Any) -> Any:
        request = holds_pb2.CommitHoldRequest(user_id=hold.user_id, hold_id=hold.hold_id)
        return (await self.one(HOLDS, "CommitHold", request)).hold

    async def release(self, hold: Any) -> Any:
        request = holds_pb2.ReleaseHoldRequest(user_id=hold.user_id, hold_id=hold.hold_id)
        return (await self.one(HOLDS, "ReleaseHold", request)).hold

    async def adjust(
        self, user_id: str, amount: int, *, expires_at: datetime | None = None, key: str = ""
    ) -> Any:
        return await self.one(
            CREDITS,
            "AdjustCredits",
            credits_pb2.AdjustCreditsRequest(
                user_id=user_id, amount=amount, reason="because", expires_at=expires_at
            ),
            key=key or f"adjust-{next(self._numbers)}",
        )

    async def apply_level(self, user_id: str, specialization: str, level: int, **fields: Any) -> Any:
        fields.setdefault("max_level", 5)
        fields.setdefault("event_id", str(uuid.uuid4()))
        fields.setdefault("reason", "level up")
        request = licenses_pb2.ApplyLicenseLevelRequest(
            user_id=user_id, specialization=specialization, level=level, **fields
        )
        return (await self.one(LICENSES, "ApplyLicenseLevel", request)).license


def placement(user_id: str, hold_id: str | None = None, **fields: Any) -> holds_pb2.PlaceHoldRequest:
    """By default, a request to hold one test, with a subject of its own."""
    hold_id = hold_id or str(uuid.uuid4())
    fields.setdefault("tests", 1)
    fields.setdefault("subject", f"subject of {hold_id}")
    fields.setdefault("method", CREATE_SESSION)
    fields.setdefault("idempotency_key", f"key of {hold_id}")
    return holds_pb2.PlaceHoldRequest(user_id=user_id, hold_id=hold_id, **fields)


def parsed(reply: Reply[Any], handler: UnaryHandler) -> Any:
    message = reply.message
    return handler.method.response_type.FromString(message) if isinstance(message, bytes) else message


def refused(outcome: object, reason: Reason) -> dict[str, Any]:
    """Asserts that an outcome is this refusal and returns its metadata."""
    assert isinstance(outcome, ServiceError), outcome
    assert outcome.reason is reason, outcome
    return outcome.metadata
