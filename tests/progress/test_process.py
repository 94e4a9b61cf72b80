"""`python -m progress_service` as a process: migrate, serve, die at the worst moment, end in order."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import orjson
import pytest

from chassis import failpoints
from chassis.batch import Reply
from chassis.context import service_context
from chassis.errors import ServiceError
from homeroom.embedded.provisioning import ServiceDatabase
from protos.progress.v1 import progress_pb2, resets_pb2
from tests.progress.results import learner
from tests.progress.serving import Client
from tests.progress.test_rpc import RECORD, result, stats, tell
from tests.support.service_process import serving, started

SERVICE = "progress_service"
RESET = "ResetService/ResetProgress"
NOBODY = {"HOMEROOM_SUBSCRIPTION_TARGET": "127.0.0.1:9"}


async def test_a_migrated_database_is_served_and_the_process_ends_in_order(
    empty_database: ServiceDatabase,
) -> None:
    async with started(SERVICE, "migrate", HOMEROOM_MIGRATION_DATABASE_URL=empty_database.owner) as migration:
        assert await migration.ended() == 0
    async with serving(SERVICE, **NOBODY, HOMEROOM_DATABASE_URL=empty_database.service) as process:
        assert (await process.page("/livez"))[0] == 200
        status, page = await process.page("/readyz")
        assert (status, orjson.loads(page)["checks"][0]["name"]) == (200, "database")
        async with process.upstream() as upstream:
            ada = learner("ada")
            await tell(upstream, result(ada, "s1"))
            assert (await stats(upstream, ada)).version == 1
        status, page = await process.page("/metrics")
        assert re.search(r'homeroom_session_results_total\{verdict="recorded"\} 1\.0', page)
        process.child.send_signal(signal.SIGTERM)
        assert await process.ended() == 0


async def test_a_database_without_tables_is_not_served(empty_database: ServiceDatabase) -> None:
    async with started(SERVICE, **NOBODY, HOMEROOM_DATABASE_URL=empty_database.service) as process:
        assert await process.ended() != 0
        assert "migrate" in process.log


async def test_what_is_missing_in_the_environment_is_named(empty_database: ServiceDatabase) -> None:
    async with started(SERVICE, HOMEROOM_OPS_BIND="") as process:
        assert await process.ended() == 78
        assert "HOMEROOM_DATABASE_URL" in process.log
        assert "HOMEROOM_OPS_BIND" in process.log
        assert "HOMEROOM_SUBSCRIPTION_TARGET" in process.log


@pytest.mark.fault
async def test_a_result_is_counted_once_though_the_process_dies_before_it_answers(
    progress_database: ServiceDatabase, tmp_path: Path
) -> None:
    ada = learner("ada")
    settings = {
        **NOBODY,
        "HOMEROOM_DATABASE_URL": progress_database.service,
        "HOMEROOM_FAILPOINTS_DIR": str(tmp_path),
    }
    async with serving(SERVICE, **settings) as process:
        failpoints.arm(tmp_path, "progress.after_commit", "kill")
        async with process.upstream() as upstream:
            (outcome,) = await upstream.call_many(
                RECORD, [(result(ada, "s1"), service_context(RECORD, timeout_seconds=2))]
            )
            assert not isinstance(outcome, Reply)
        assert await process.ended() == -signal.SIGKILL
    async with serving(SERVICE, **settings) as process, process.upstream() as upstream:
        (outcome,) = await tell(upstream, result(ada, "s1"))
        assert isinstance(outcome, Reply), outcome
        response = progress_pb2.RecordSessionResultResponse.FromString(outcome.payload())
        assert response == progress_pb2.RecordSessionResultResponse(recorded=False, version=1)
        read = await stats(upstream, ada)
        assert (read.completed_sessions, read.xp, read.version) == (1, 10, 1)


@pytest.mark.fault
async def test_a_key_resets_once_though_the_process_dies_before_it_answers(
    progress_database: ServiceDatabase, tmp_path: Path
) -> None:
    ada = learner("ada")
    request = resets_pb2.ResetProgressRequest(
        user_id=ada, scope=resets_pb2.ResetScope(all=True), reason="a new season"
    )
    settings = {
        **NOBODY,
        "HOMEROOM_DATABASE_URL": progress_database.service,
        "HOMEROOM_FAILPOINTS_DIR": str(tmp_path),
    }
    async with serving(SERVICE, **settings) as process:
        failpoints.arm(tmp_path, "progress.after_commit", "kill")
        async with process.upstream(attempts=1) as upstream:
            with pytest.raises(ServiceError):
                await Client(upstream).ask(RESET, request, "root", role="admin", key="k")
        assert await process.ended() == -signal.SIGKILL
    async with serving(SERVICE, **settings) as process, process.upstream() as upstream:
        for _ in range(2):
            response = await Client(upstream).ask(RESET, request, "root", role="admin", key="k")
            assert (response.epoch, response.version) == (1, 1)
