"""A school on two real databases: session_service in this process, its two neighbours behind real gRPC."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
from google.protobuf.message import Message

from chassis.batch import Item, Reply
from chassis.context import Context
from chassis.errors import Reason, ServiceError
from chassis.postgres import Connection, Database
from chassis.rpc.client import Upstream
from chassis.rpc.methods import find_method
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import UnaryHandler
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.tracing import Tracing
from protos.progress.v1 import progress_pb2
from protos.session.v1 import presence_pb2, sessions_pb2, tests_pb2
from protos.subscription.v1 import accounts_pb2
from session_service.__main__ import Parts, assemble
from session_service.domain.identity import IdentityRules
from session_service.domain.timing import Retention, TimeRules
from session_service.operations.answer_hashing import ScryptCost
from session_service.progress_client import ProgressClient
from session_service.subscription_client import SubscriptionClient
from tests.session.neighbours import ACCOUNTS, PLANS, STATISTICS, running
from tests.support.databases import Databases
from tests.support.waiting import eventually

SESSIONS = "homeroom.session.v1.SessionService"
PRESENCE = "homeroom.session.v1.PresenceService"
TESTS = "homeroom.session.v1.TestService"
CREATE = f"/{SESSIONS}/CreateSession"
TOKEN = "a-secret-among-processes"
IDENTITY_RULES = IdentityRules()
GRACE = timedelta(seconds=3)
RETENTION = Retention(answers=timedelta(days=1826), timeline=timedelta(days=400))
TIMES = TimeRules(
    grace=GRACE,
    pause_budget=timedelta(minutes=30),
    idle_allowed=timedelta(hours=24),
    heartbeat_interval=timedelta(seconds=15),
    lease=timedelta(minutes=5),
    left_lease=timedelta(minutes=1),
)

Session = sessions_pb2.Session
numbers = itertools.count(1)


def unique(prefix: str) -> str:
    return f"{prefix}-{next(numbers)}"


@dataclass
class World:
    """What a test plays with, and the truth as a superuser sees it."""

    database: Database
    session_dsn: str
    truth: Connection
    subscription_truth: Connection
    progress_truth: Connection
    neighbours_target: str
    upstream: Upstream
    subscription: SubscriptionClient
    timeout_seconds: float = 10.0

    def __post_init__(self) -> None:
        self.parts = self.assemble()

    # --- calls ---------------------------------------------------------------------------------------

    def item(
        self,
        path: str,
        request: Message,
        *,
        user: str = "admin",
        key: str = "",
        traceparent: str = "",
        request_id: str = "",
        roles: frozenset[str] = frozenset({"learner", "admin"}),
    ) -> Item[Any]:
        context = Context(
            method=path,
            user_id=user,
            roles=roles,
            idempotency_key=key,
            request_id=request_id,
            deadline=time.monotonic() + self.timeout_seconds,
            traceparent=traceparent,
        )
        return Item(context, request)

    async def send(self, items: Sequence[Item[Any]], parts: Parts | None = None) -> list[Any]:
        """Run a batch of one method; replies keep their bytes, see `body`."""
        path = items[0].context.method
        (answer,) = [
            handler.answer
            for handler in (parts or self.parts).handlers
            if isinstance(handler, UnaryHandler) and handler.method.path == path
        ]
        outcomes = await answer(items)
        assert len(outcomes) == len(items)
        return list(outcomes)

    async def one(self, item: Item[Any], parts: Parts | None = None) -> Any:
        """The body of the single answer; raises the ServiceError that came instead."""
        (outcome,) = await self.send([item], parts)
        if isinstance(outcome, ServiceError):
            raise outcome
        return body(item, outcome)

    def start(self, user: str, test: str, key: str, **fields: Any) -> Item[Any]:
        return self.item(
            CREATE, sessions_pb2.CreateSessionRequest(test_id=test, **fields), user=user, key=key
        )

    def answer(self, user: str, session: str, key: str, question: str, choice: str) -> Item[Any]:
        request = sessions_pb2.AnswerQuestionRequest(session_id=session, question_id=question, choice=choice)
        return self.item(f"/{SESSIONS}/AnswerQuestion", request, user=user, key=key)

    def complete(self, user: str, session: str, key: str) -> Item[Any]:
        request = sessions_pb2.CompleteSessionRequest(session_id=session)
        return self.item(f"/{SESSIONS}/CompleteSession", request, user=user, key=key)

    def abandon(self, user: str, session: str, key: str) -> Item[Any]:
        request = sessions_pb2.AbandonSessionRequest(session_id=session)
        return self.item(f"/{SESSIONS}/AbandonSession", request, user=user, key=key)

    def pause(self, user: str, session: str, key: str) -> Item[Any]:
        request = sessions_pb2.PauseSessionRequest(session_id=session)
        return self.item(f"/{SESSIONS}/PauseSession", request, user=user, key=key)

    def resume(self, user: str, session: str, key: str) -> Item[Any]:
        request = sessions_pb2.ResumeSessionRequest(session_id=session)
        return self.item(f"/{SESSIONS}/ResumeSession", request, user=user, key=key)

    def beat(self, user: str, session: str, seq: int, *, visible: bool = True) -> Item[Any]:
        request = presence_pb2.RecordHeartbeatRequest(session_id=session, seq=seq, visible=visible)
        return self.item(f"/{PRESENCE}/RecordHeartbeat", request, user=user)

    def leave(self, user: str, session: str) -> Item[Any]:
        request = presence_pb2.LeaveSessionRequest(session_id=session)
        return self.item(f"/{PRESENCE}/LeaveSession", request, user=user)

    async def started(self, user: str, test: str, key: str, **fields: Any) -> Any:
        return (await self.one(self.start(user, test, key, **fields))).session

    async def get(self, user: str, session: str) -> Any:
        request = sessions_pb2.GetSessionRequest(session_id=session)
        return (await self.one(self.item(f"/{SESSIONS}/GetSession", request, user=user))).session

    # --- making things -------------------------------------------------------------------------------

    async def learner(self, *, limit: int | None = None, prefix: str = "learner") -> str:
        """A new account; with a daily limit of its own if one is given."""
        user = unique(prefix)
        await self._admin(
            f"/{ACCOUNTS}/PutAccount",
            accounts_pb2.PutAccountRequest(
                user_id=user, email=f"{user}@school.example", status=accounts_pb2.Account.ACTIVE
            ),
        )
        plan = "unlimited" if limit is None else unique("plan")
        if limit is not None:
            await self._admin(
                f"/{PLANS}/PutPlan",
                accounts_pb2.PutPlanRequest(plan_id=plan, name=plan, daily_test_limit=limit),
            )
        await self._admin(
            f"/{ACCOUNTS}/SetSubscription",
            accounts_pb2.SetSubscriptionRequest(
                user_id=user, plan_id=plan, status=accounts_pb2.Subscription.ACTIVE
            ),
        )
        return user

    async def test(self, *, questions: int = 3, test_id: str | None = None, **fields: Any) -> str:
        """A test whose question `q<n>` is answered rightly with `right <n>`."""
        test_id = test_id or unique("test")
        settings: dict[str, Any] = {
            "title": "A test",
            "kind": tests_pb2.Test.PRACTICE,
            "question_count": questions,
            "counts_toward_daily_limit": True,
        } | fields
        await self.one(self.item(f"/{TESTS}/PutTest", tests_pb2.PutTestRequest(test_id=test_id, **settings)))
        if questions:
            await self.import_questions(test_id, range(1, questions + 1))
        return test_id

    async def import_questions(self, test_id: str, which: Sequence[int], prompt: str = "Question") -> Any:
        request = tests_pb2.ImportQuestionsRequest(
            test_id=test_id,
            questions=[
                tests_pb2.ImportedQuestion(
                    question_id=f"q{n}", prompt=f"{prompt} {n}?", accepted=[f"right {n}"]
                )
                for n in which
            ],
        )
        return await self.one(self.item(f"/{TESTS}/ImportQuestions", request))

    async def _admin(self, path: str, request: Message) -> None:
        await self.upstream.call(path, request, self.item(path, request, key=unique("admin")).context)

    # --- the truth -----------------------------------------------------------------------------------

    async def sessions(self, user: str) -> list[Mapping[str, Any]]:
        rows = await self.truth.fetch("SELECT * FROM sessions WHERE user_id = $1 ORDER BY session_id", user)
        return [dict(row) for row in rows]

    async def keys(self, user: str) -> dict[str, str]:
        rows = await self.truth.fetch("SELECT key, state FROM idempotency_keys WHERE user_id = $1", user)
        return {row["key"]: row["state"] for row in rows}

    async def events(self, user: str) -> list[str]:
        rows = await self.truth.fetch("SELECT topic FROM outbox WHERE user_id = $1 ORDER BY topic", user)
        return [row["topic"] for row in rows]

    async def holds(self, user: str) -> dict[str, str]:
        """State by hold id."""
        rows = await self.subscription_truth.fetch(
            "SELECT hold_id, state FROM holds WHERE user_id = $1", user
        )
        return {str(row["hold_id"]): row["state"] for row in rows}

    async def units(self, user: str) -> tuple[int, int]:
        """Held and used, over all days."""
        row = await self.subscription_truth.fetchrow(
            "SELECT coalesce(sum(held), 0) AS held, coalesce(sum(used), 0) AS used"
            " FROM daily_usage WHERE user_id = $1",
            user,
        )
        assert row is not None
        return row["held"], row["used"]

    async def stats(self, user: str) -> Any:
        path = f"/{STATISTICS}/GetStats"
        item = self.item(path, progress_pb2.GetStatsRequest(), user=user)
        return body(item, await self.upstream.call(path, item.request, item.context)).stats

    async def updates(self) -> tuple[int, int]:
        """How many sessions this connection has updated, and how many of them within their page (HOT)."""
        row = await self.truth.fetchrow(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'sessions'"
        )
        assert row is not None
        return row["n_tup_upd"], row["n_tup_hot_upd"]

    async def overdue(self, session: str) -> None:
        """Let the session's deadline pass, without waiting for it."""
        await self.truth.execute(
            "UPDATE sessions SET started_at = now() - interval '2 hours',"
            " deadline_at = now() - interval '1 hour' WHERE session_id = $1::uuid",
            session,
        )

    async def later(self, session: str, by: timedelta) -> None:
        """Let this much time pass for the session, without waiting for it."""
        times = (
            *("started_at", "deadline_at", "last_answer_at", "paused_at", "pause_until"),
            *("seen_at", "left_at", "lease_check_at"),
        )
        moved = ", ".join(f"{time} = {time} - $2::interval" for time in times)
        change = f"UPDATE sessions SET {moved} WHERE session_id = $1::uuid"  # noqa: S608 - our own names
        await self.truth.execute(change, session, by)

    async def deliver(self) -> None:
        """Hand the outbox to those whom it is for, until it is empty.

        A process that was stopped while it delivered has left a lease, which runs out first.
        """

        async def empty() -> bool:
            for topic in relay.topics:
                await relay.deliver_due(topic)
            return not await self.truth.fetchval("SELECT count(*) FROM outbox")

        relay = self.assemble().relay
        await eventually(empty, seconds=60)

    # --- variations ----------------------------------------------------------------------------------

    def assemble(
        self,
        *,
        database: Database | None = None,
        subscription: SubscriptionClient | None = None,
        hold_age_seconds: float = 0.0,
        times: TimeRules = TIMES,
        identity_rules: IdentityRules = IDENTITY_RULES,
        retention: Retention = RETENTION,
    ) -> Parts:
        """Another replica of the service: its own caches, and what a test puts in place of its neighbours."""
        return assemble(
            database=database or self.database,
            subscription=subscription or self.subscription,
            progress=ProgressClient(upstream=self.upstream),
            metrics=Metrics(service="session_service"),
            tokens=PageTokens(secret=TOKEN),
            hold_age_seconds=hold_age_seconds,
            times=times,
            secret=TOKEN,
            identity_rules=identity_rules,
            hash_cost=ScryptCost(n=16, r=1, p=1),
            retention=retention,
        )


def body(item: Item[Any], outcome: Any) -> Any:
    """The response message of a reply."""
    assert isinstance(outcome, Reply), outcome
    return find_method(item.context.method).response_type.FromString(outcome.payload())


def reasons(outcomes: Sequence[Any]) -> list[Reason | None]:
    """Why each was refused, or None."""
    return [outcome.reason if isinstance(outcome, ServiceError) else None for outcome in outcomes]


@asynccontextmanager
async def new_world(databases: Databases) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(databases.fresh("session"))
        subscription = await stack.enter_async_context(databases.fresh("subscription"))
        progress = await stack.enter_async_context(databases.fresh("progress"))

        async def connect(dsn: str) -> Database:
            connected = await Database.connect(dsn, maximum=8)
            stack.push_async_callback(connected.close)
            return connected

        target = await stack.enter_async_context(
            running(subscription=subscription.service, progress=progress.service, service_token=TOKEN)
        )
        tracing = Tracing(service="test", version="0", sample_ratio=0.0)
        upstream = Upstream(
            name="neighbours",
            target=target,
            service_token=TOKEN,
            tracing=tracing,
            metrics=Metrics(service="session_service"),
        )
        stack.push_async_callback(upstream.close)
        truths = []
        for dsn in (session.superuser, subscription.superuser, progress.superuser):
            truths.append(await asyncpg.connect(dsn))
            stack.push_async_callback(truths[-1].close)
        yield World(
            database=await connect(session.service),
            session_dsn=session.service,
            truth=truths[0],
            subscription_truth=truths[1],
            progress_truth=truths[2],
            neighbours_target=target,
            upstream=upstream,
            subscription=SubscriptionClient(upstream=upstream),
        )
