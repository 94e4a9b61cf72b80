"""Orders to bring learners into step: each key has one run and one answer, whatever becomes of a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from chassis.errors import Reason, ServiceError
from homeroom.embedded.provisioning import ServiceDatabase
from progress_service.operations import sync_orders
from progress_service.operations.sync_changes import SyncChanges
from protos.progress.v1 import sync_pb2 as pb
from tests.progress.two_stores import TwoStores, told, two_stores


@pytest.fixture
async def stores(
    progress_database: ServiceDatabase, subscription_database: ServiceDatabase
) -> AsyncIterator[TwoStores]:
    async with two_stores(progress_database, subscription_database) as stores:
        yield stores


def one(user_id: str = "ann", **fields: Any) -> pb.SyncUserRequest:
    return pb.SyncUserRequest(user_id=user_id, **({"direction": pb.BOTH_WAYS} | fields))


async def plant(stores: TwoStores) -> None:
    await stores.add_accounts(["ann", "bob"])
    await stores.plant_progress(
        [("ann", "COACH", 2), ("ann", "PLAYER", 3), ("ann", "same", 1), ("bob", "PLAYER", 7)], age_seconds=0.0
    )
    await stores.plant_licenses(
        [("ann", "INTERN", 2), ("ann", "PLAYER", 1), ("ann", "same", 1)], age_seconds=0.0
    )


async def test_one_learner_is_brought_into_step_and_nobody_else(stores: TwoStores) -> None:
    await plant(stores)
    answer = await stores.first.one("SyncUser", one(), key="k")
    assert told(answer.changes) == [
        ("ann", "APPLIED", (2, 0), (2, 2)),
        ("ann", "APPLIED", (0, 2), (2, 2)),
        ("ann", "APPLIED", (3, 1), (3, 3)),
    ]
    assert [change.specialization for change in answer.changes] == ["COACH", "INTERN", "PLAYER"]
    assert ("bob", "PLAYER") not in await stores.license_levels()
    assert (await stores.first.one("SyncUser", one(), key="k2")).changes == []
    run = await stores.first.run_of(answer.run_id)
    assert (run.user_id, run.ordered_by, run.state) == ("ann", "root", pb.SyncRun.FINISHED)


async def test_one_specialization_of_one_learner(stores: TwoStores) -> None:
    await plant(stores)
    request = one(specialization="PLAYER", direction=pb.LICENSE_TO_PROGRESS)
    answer = await stores.first.one("SyncUser", request, key="k")
    assert told(answer.changes) == [("ann", "NEEDS_DECISION", (3, 1), (3, 1))]


async def test_a_key_has_one_effect_and_one_answer_however_often_and_wherever_it_is_sent(
    stores: TwoStores,
) -> None:
    await plant(stores)
    replicas = [stores.first, await stores.another_replica()]
    requests = [replica.one("SyncUser", one(), key="k") for replica in replicas * 5]
    answers = await asyncio.gather(*requests)
    in_one_batch = await stores.first.batch("SyncUser", [one()] * 3, keys=["k"] * 3)
    assert len({answer.SerializeToString() for answer in (*answers, *in_one_batch)}) == 1
    assert len(answers[0].changes) == 3
    assert await stores.progress.fetchval("SELECT count(*) FROM sync_runs") == 1
    assert [change[:3] for change in await stores.license_changes()] == [("ann", 0, 2), ("ann", 1, 3)]
    with pytest.raises(ServiceError) as refused:
        await stores.first.one("SyncUser", one(specialization="PLAYER"), key="k")
    assert refused.value.reason is Reason.IDEMPOTENCY_KEY_REUSED
    # The same key for another payload before the first one is answered, also for the other kind of order.
    refusals = await stores.first.batch(
        "SyncUser", [one("bob"), one("bob", direction=pb.LICENSE_TO_PROGRESS)], keys=["k3", "k3"]
    )
    assert {getattr(each, "reason", None) for each in refusals} == {None, Reason.IDEMPOTENCY_KEY_REUSED}


async def test_an_order_that_dies_half_way_is_finished_under_its_key(
    stores: TwoStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The licenses have followed, and nobody knows: the retry tells the levels of before all the same."""
    await plant(stores)
    with monkeypatch.context() as patched:

        async def dying(*_: Any, **__: Any) -> None:
            raise ServiceError(Reason.UNAVAILABLE)

        patched.setattr(SyncChanges, "_grant", dying)
        patched.setattr("progress_service.store.sync_changes.SyncChangeStore.end", dying)
        with pytest.raises(ServiceError) as refused:
            await stores.first.one("SyncUser", one(), key="k", seconds=2.0)
        assert refused.value.reason is Reason.UNAVAILABLE
    assert (await stores.license_levels())["ann", "PLAYER"] == 3
    answer = await (await stores.another_replica()).one("SyncUser", one(), key="k")
    assert told(answer.changes) == [
        ("ann", "APPLIED", (2, 0), (2, 2)),
        ("ann", "APPLIED", (0, 2), (2, 2)),
        ("ann", "APPLIED", (3, 1), (3, 3)),
    ]


async def test_a_level_up_between_two_sendings_of_a_change_reaches_the_license_too(
    stores: TwoStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stores.add_accounts(["ann"])
    await stores.plant_progress([("ann", "PLAYER", 3)])
    run_id = await stores.first.begin()
    with monkeypatch.context() as patched:

        async def dying(*_: Any, **__: Any) -> None:
            raise ServiceError(Reason.UNAVAILABLE)

        patched.setattr("progress_service.store.sync_changes.SyncChangeStore.end", dying)
        await stores.first.runs.work()
    assert await stores.license_levels() == {("ann", "PLAYER"): 3}
    await stores.progress.execute("UPDATE specialization_progress SET level = 4")
    await stores.end_pauses()
    await stores.first.work_until_idle()
    assert told(await stores.first.changes_of(run_id)) == [("ann", "APPLIED", (4, 3), (4, 4))]


async def test_a_locked_learner_delays_no_other_and_is_done_later(stores: TwoStores) -> None:
    await stores.add_accounts(["ann", "bob"])
    await stores.plant_licenses([("ann", "PLAYER", 2), ("bob", "PLAYER", 2)])
    await stores.progress.execute("INSERT INTO learner_statistics (user_id) VALUES ('ann'), ('bob')")
    run_id = await stores.first.begin()
    async with stores.progress.transaction():
        await stores.progress.execute("SELECT FROM learner_statistics WHERE user_id = 'ann' FOR UPDATE")
        assert await stores.first.work_until_idle() == 2  # then only the locked learner is left
        run = await stores.first.run_of(run_id)
        assert (run.state, run.statistics.applied, run.statistics.planned) == (pb.SyncRun.RUNNING, 1, 1)
    await stores.end_pauses()
    await stores.first.work_until_idle()
    run = await stores.first.run_of(run_id)
    assert (run.state, run.statistics.applied) == (pb.SyncRun.FINISHED, 2)


async def test_a_run_whose_steps_fail_delays_no_other_run(
    stores: TwoStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    await plant(stores)
    bad, good = await stores.first.begin(key="bad"), await stores.first.begin(key="good")
    carry_on = stores.first.runs._carry_on

    async def failing(lease: Any) -> None:
        if str(lease.order.run_id) == bad:
            raise RuntimeError("a bug")
        await carry_on(lease)

    monkeypatch.setattr(stores.first.runs, "_carry_on", failing)
    await stores.first.work_until_idle()
    assert (await stores.first.run_of(good)).state == pb.SyncRun.FINISHED
    assert (await stores.first.run_of(bad)).state == pb.SyncRun.RUNNING


async def test_a_run_is_dry_unless_it_is_said_and_a_dry_run_writes_only_its_report(
    stores: TwoStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_orders, "WAIT_SECONDS_MAX", 9.0)
    await plant(stores)
    await stores.progress.execute("UPDATE specialization_progress SET updated_at = now() - interval '1 hour'")
    await stores.licenses.execute("UPDATE licenses SET updated_at = now() - interval '1 hour'")
    before = await stores.progress_levels(), await stores.license_levels()
    working = asyncio.create_task(work_until_a_run_has_ended(stores))
    answer = await stores.first.one("SyncAll", pb.SyncAllRequest(direction=pb.BOTH_WAYS), key="k")
    await working
    # A small school is answered with everything.
    assert (answer.run.dry_run, answer.run.state) == (True, pb.SyncRun.FINISHED)
    assert (answer.run.statistics.planned, answer.run.statistics.compared) == (4, 7)
    assert [change.after.license_level for change in answer.changes] == [2, 2, 3, 7]
    assert (await stores.progress_levels(), await stores.license_levels()) == before
    again = await stores.first.one("SyncAll", pb.SyncAllRequest(direction=pb.BOTH_WAYS), key="k")
    assert again == answer
    request = pb.SyncAllRequest(direction=pb.BOTH_WAYS, dry_run=False)
    (outcome,) = await stores.first.batch("SyncAll", [request], keys=["k"])
    assert outcome.reason is Reason.IDEMPOTENCY_KEY_REUSED


async def work_until_a_run_has_ended(stores: TwoStores) -> None:
    while not await stores.progress.fetchval("SELECT count(*) FROM sync_runs WHERE state = 'finished'"):
        await stores.first.runs.work()


async def test_a_long_run_is_answered_as_it_is_and_the_key_repeats_that_answer(stores: TwoStores) -> None:
    await plant(stores)
    request = pb.SyncAllRequest(direction=pb.BOTH_WAYS, dry_run=False)
    answer = await stores.first.one("SyncAll", request, key="k")  # nobody works on it
    assert (answer.run.state, answer.changes) == (pb.SyncRun.RUNNING, [])
    await stores.first.work_until_idle()
    assert (await stores.first.run_of(answer.run.run_id)).statistics.applied == 4
    assert await stores.first.one("SyncAll", request, key="k") == answer
    runs = await stores.first.all_pages("ListSyncRuns", pb.ListSyncRunsRequest(page_size=1), "runs")
    assert [run.run_id for run in runs] == [answer.run.run_id]


async def test_an_unknown_run_is_not_found(stores: TwoStores) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"
    for method, request in (
        ("GetSyncRun", pb.GetSyncRunRequest(run_id=unknown)),
        ("ListSyncChanges", pb.ListSyncChangesRequest(run_id=unknown)),
    ):
        (outcome,) = await stores.first.batch(method, [request])
        assert outcome.reason is Reason.NOT_FOUND


async def test_one_replica_begins_the_scheduled_run_of_an_interval(stores: TwoStores) -> None:
    await plant(stores)
    replicas = [stores.first, await stores.another_replica(), await stores.another_replica()]
    for _ in range(3):
        await asyncio.gather(*(replica.runs.begin_due() for replica in replicas))
    (run,) = await stores.first.all_pages("ListSyncRuns", pb.ListSyncRunsRequest(), "runs")
    assert (run.direction, run.dry_run, run.ordered_by) == (pb.BOTH_WAYS, False, "")
    await stores.progress.execute("UPDATE sync_runs SET slot = slot - interval '6 hours'")
    await stores.first.runs.begin_due()  # the last one is still running
    assert await stores.progress.fetchval("SELECT count(*) FROM sync_runs") == 1
    await stores.first.work_until_idle()
    await asyncio.gather(*(replica.runs.begin_due() for replica in replicas))
    assert await stores.progress.fetchval("SELECT count(*) FROM sync_runs") == 2


async def test_a_learner_whom_no_run_can_bring_into_step_does_not_keep_the_next_run_from_beginning(
    stores: TwoStores,
) -> None:
    await stores.add_accounts(["ann", "bob", "cy"])
    await stores.plant_progress([("ann", "PLAYER", 2), ("bob", "PLAYER", 2)])
    replicas = [stores.first, await stores.another_replica()]
    async with stores.licenses.transaction():
        await stores.licenses.execute("SELECT FROM accounts WHERE user_id = 'bob' FOR UPDATE")
        await stores.first.runs.begin_due()
        await stores.first.work_until_idle()
        assert await stores.license_levels() == {("ann", "PLAYER"): 2}
        await stores.plant_progress([("cy", "PLAYER", 3)])
        await stores.progress.execute("UPDATE sync_runs SET slot = slot - interval '6 hours'")
        await asyncio.gather(*(replica.runs.begin_due() for replica in replicas))
        await stores.first.work_until_idle()
        assert await stores.license_levels() == {("ann", "PLAYER"): 2, ("cy", "PLAYER"): 3}
    new, old = await stores.first.all_pages("ListSyncRuns", pb.ListSyncRunsRequest(), "runs")
    assert (old.state, old.statistics.failed, old.statistics.planned) == (pb.SyncRun.FINISHED, 1, 0)
    assert (new.state, new.statistics.applied, new.statistics.planned) == (pb.SyncRun.RUNNING, 1, 1)
    (failed,) = [change for change in await stores.first.changes_of(old.run_id) if change.reason]
    assert (failed.user_id, failed.reason) == ("bob", "not carried out before the next run was due")
    await stores.end_pauses()
    await stores.first.work_until_idle()
    assert (await stores.first.run_of(new.run_id)).state == pb.SyncRun.FINISHED
    assert await stores.license_levels() == await stores.progress_levels()


async def test_old_runs_are_deleted_with_their_changes(stores: TwoStores) -> None:
    await plant(stores)
    old, kept = await stores.first.run(), await stores.first.run(dry_run=True)
    await stores.progress.execute(
        "UPDATE sync_runs SET started_at = started_at - $2::interval WHERE run_id = $1::text::uuid",
        old.run_id,
        timedelta(days=31),
    )
    while await stores.first.runs.purge() is not None:
        pass
    assert await stores.progress.fetchval("SELECT count(*) FROM sync_changes") == 0
    assert (await stores.first.run_of(kept.run_id)).run_id == kept.run_id
    assert await stores.progress.fetchval("SELECT count(*) FROM sync_runs") == 1


async def test_no_more_than_so_many_runs_are_under_way(
    stores: TwoStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("progress_service.store.sync_runs.RUNS_UNDER_WAY_MAX", 2)
    for number in range(2):
        await stores.first.begin(key=f"k{number}")
    with pytest.raises(ServiceError) as refused:
        await stores.first.begin(key="one too many")
    assert refused.value.reason is Reason.RATE_LIMITED
    await stores.first.work_until_idle()
    await stores.first.begin(key="one too many")
