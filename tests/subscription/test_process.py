"""`python -m subscription_service` as a process, over real gRPC: migrate, serve, die and come back, end."""

from __future__ import annotations

import asyncio
import signal
import uuid
from pathlib import Path
from typing import Any

import orjson
import pytest

from chassis import failpoints
from chassis.batch import Reply
from chassis.context import Context, service_context
from chassis.errors import Reason, ServiceError
from chassis.rpc.client import Upstream
from homeroom.embedded.provisioning import ServiceDatabase
from protos.subscription.v1 import accounts_pb2, credits_pb2, holds_pb2, licenses_pb2
from tests.subscription.service import ACCOUNTS, CREDITS, HOLDS, LICENSES, placement
from tests.support.service_process import SECONDS_MAX, ServiceProcess, serving, started

SERVICE = "subscription_service"


def call_of(path: str, *, user_id: str, role: str, key: str = "") -> Context:
    call = service_context(path, timeout_seconds=10.0)
    return Context(call.method, user_id, frozenset({role}), key, "", call.deadline, "")


async def ask(upstream: Upstream, path: str, request: Any, **caller: str) -> Any:
    """The response, as another process asks for it, or as the gateway does for an end user."""
    call = call_of(path, **caller) if caller else service_context(path, timeout_seconds=10.0)
    reply = await upstream.call(path, request, call)
    return reply.message


async def put_account(upstream: Upstream, user_id: str) -> None:
    request = accounts_pb2.PutAccountRequest(user_id=user_id, email=f"{user_id}@example.com")
    await ask(upstream, f"/{ACCOUNTS}/PutAccount", request, user_id="root", role="admin")


def reached(user_id: str, level: int) -> licenses_pb2.ApplyLicenseLevelRequest:
    return licenses_pb2.ApplyLicenseLevelRequest(
        user_id=user_id,
        specialization="physics",
        level=level,
        max_level=5,
        event_id=str(uuid.uuid4()),
        reason="level up",
    )


async def test_a_migrated_database_is_served_and_the_process_ends_although_somebody_watches(
    empty_database: ServiceDatabase,
) -> None:
    async with started(SERVICE, "migrate", HOMEROOM_MIGRATION_DATABASE_URL=empty_database.owner) as migration:
        assert await migration.ended() == 0
    async with serving(SERVICE, HOMEROOM_DATABASE_URL=empty_database.service) as process:
        assert (await process.page("/livez"))[0] == 200
        status, page = await process.page("/readyz")
        assert (status, orjson.loads(page)["checks"][0]["name"]) == (200, "database")
        async with process.upstream() as upstream:
            await put_account(upstream, "ann")
            watch_path = f"/{LICENSES}/WatchLicenses"
            watch = upstream.stream(
                watch_path,
                licenses_pb2.WatchLicensesRequest(),
                service_context(watch_path, timeout_seconds=60.0),
            )
            for level in (1, 2):
                await ask(upstream, f"/{LICENSES}/ApplyLicenseLevel", reached("ann", level))
                async with asyncio.timeout(SECONDS_MAX):
                    assert (await anext(watch)).license.level == level
            process.child.send_signal(signal.SIGTERM)
            async with asyncio.timeout(SECONDS_MAX):
                with pytest.raises((StopAsyncIteration, ServiceError)):
                    await anext(watch)
            assert await process.ended() == 0


async def test_a_database_without_tables_is_not_served(empty_database: ServiceDatabase) -> None:
    async with started(SERVICE, HOMEROOM_DATABASE_URL=empty_database.service) as process:
        assert await process.ended() != 0
        assert "migrate" in process.log


async def test_roles_and_keys_are_demanded_as_the_contract_says(
    subscription_database: ServiceDatabase,
) -> None:
    async with (
        serving(SERVICE, HOMEROOM_DATABASE_URL=subscription_database.service) as process,
        process.upstream() as upstream,
    ):
        await put_account(upstream, "ann")

        async def refusal(path: str, request: Any, **caller: str) -> Reason:
            with pytest.raises(ServiceError) as refused:
                await ask(upstream, path, request, **caller)
            return refused.value.reason

        adjust = f"/{CREDITS}/AdjustCredits"
        grant = credits_pb2.AdjustCreditsRequest(user_id="ann", amount=5, reason="r")
        place = f"/{HOLDS}/PlaceHold"
        assert await refusal(adjust, grant, user_id="ann", role="learner") is Reason.PERMISSION_DENIED
        assert await refusal(adjust, grant, user_id="root", role="admin") is (Reason.IDEMPOTENCY_KEY_MISSING)
        assert await refusal(place, placement("ann"), user_id="root", role="admin") is (
            Reason.PERMISSION_DENIED
        )
        assert await refusal(place, placement("ann", "not-a-uuid")) is Reason.INVALID_ARGUMENT
        first = await upstream.call(adjust, grant, call_of(adjust, user_id="root", role="admin", key="k"))
        again = await upstream.call(adjust, grant, call_of(adjust, user_id="root", role="admin", key="k"))
        assert (first.replayed, again.replayed) == (False, True)
        assert first.message == again.message
        mine = f"/{ACCOUNTS}/GetMyEntitlements"
        response = await ask(
            upstream, mine, accounts_pb2.GetMyEntitlementsRequest(), user_id="ann", role="learner"
        )
        assert response.entitlements.credits.balance == 5


@pytest.mark.fault
async def test_a_hold_is_taken_once_though_the_process_dies_before_it_answers(
    subscription_database: ServiceDatabase, tmp_path: Path
) -> None:
    settings = {
        "HOMEROOM_DATABASE_URL": subscription_database.service,
        "HOMEROOM_FAILPOINTS_DIR": str(tmp_path),
    }
    place, commit = f"/{HOLDS}/PlaceHold", f"/{HOLDS}/CommitHold"
    request = placement("ann")
    end = holds_pb2.CommitHoldRequest(user_id="ann", hold_id=request.hold_id)
    held = f"/{ACCOUNTS}/GetEntitlements"
    entitlements = accounts_pb2.GetEntitlementsRequest(user_id="ann")
    async with serving(SERVICE, **settings) as process, process.upstream() as upstream:
        await put_account(upstream, "ann")
        await dies_answering(process, upstream, tmp_path, place, request)
    async with serving(SERVICE, **settings) as process, process.upstream() as upstream:
        assert (await ask(upstream, place, request)).hold.state == holds_pb2.Hold.OPEN
        assert (await ask(upstream, held, entitlements)).entitlements.tests.held == 1
        await dies_answering(process, upstream, tmp_path, commit, end)
    async with serving(SERVICE, **settings) as process, process.upstream() as upstream:
        assert (await ask(upstream, commit, end)).hold.state == holds_pb2.Hold.COMMITTED
        tests = (await ask(upstream, held, entitlements)).entitlements.tests
        assert (tests.used, tests.held) == (1, 0)


async def dies_answering(
    process: ServiceProcess, upstream: Upstream, directory: Path, path: str, request: Any
) -> None:
    failpoints.arm(directory, "subscription.after_commit", "kill")
    (outcome,) = await upstream.call_many(path, [(request, service_context(path, timeout_seconds=2.0))])
    assert not isinstance(outcome, Reply)
    assert await process.ended() == -signal.SIGKILL
