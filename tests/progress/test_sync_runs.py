"""Runs that bring progress and licenses into step: nothing is lost, nothing is done twice, nobody falls."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from chassis import failpoints
from chassis.errors import Reason, ServiceError
from homeroom.embedded.provisioning import ServiceDatabase
from protos.progress.v1 import sync_pb2 as pb
from protos.subscription.v1 import licenses_pb2
from tests.progress.results import completed
from tests.progress.specializations import put_levels
from tests.progress.two_stores import TwoStores, told, two_stores
from tests.subscription.service import LICENSES
from tests.support.service_process import serving, started

PLANTED = 10_000
NAMES = ("COACH", "PLAYER", "physics", "Ärzte")


@pytest.fixture
async def stores(
    progress_database: ServiceDatabase, subscription_database: ServiceDatabase
) -> AsyncIterator[TwoStores]:
    async with two_stores(progress_database, subscription_database) as stores:
        yield stores


async def plant(stores: TwoStores, count: int, *, seed: int = 1) -> dict[tuple[str, str], int]:
    """So many disagreements, a third of each kind, and learners who are in step; the higher level of each."""
    choices = random.Random(seed)
    progress, licenses, wanted = [], [], {}
    for number in range(count + count // 10):
        user_id, name = f"learner-{number:06d}", choices.choice(NAMES)
        low, high = sorted(choices.sample(range(1, 9), 2))
        kind = number % 3 if number < count else None
        wanted[user_id, name] = high
        if kind == 0:
            ours, theirs = choices.sample((low, high), 2)
            progress.append((user_id, name, ours))
            licenses.append((user_id, name, theirs))
        elif kind == 1:
            progress.append((user_id, name, high))
        elif kind == 2:
            licenses.append((user_id, name, high))
        else:
            progress.append((user_id, name, high))
            licenses.append((user_id, name, high))
    await stores.add_accounts(user_id for user_id, _ in wanted)
    await stores.plant_progress(progress)
    await stores.plant_licenses(licenses)
    return wanted


async def test_ten_thousand_disagreements_converge_in_one_run_and_a_second_run_writes_nothing(
    stores: TwoStores,
) -> None:
    wanted = await plant(stores, PLANTED)
    began = time.monotonic()
    run = await stores.first.run()
    seconds = time.monotonic() - began
    print(f"{PLANTED} disagreements converged in {seconds:.1f} s")
    assert run.state == pb.SyncRun.FINISHED
    assert (run.statistics.applied, run.statistics.planned, run.statistics.failed) == (PLANTED, 0, 0)
    kinds = run.statistics
    assert kinds.level_mismatches == len(range(0, PLANTED, 3))
    assert kinds.progress_without_license == len(range(1, PLANTED, 3))
    assert kinds.license_without_progress == len(range(2, PLANTED, 3))
    assert await stores.progress_levels() == wanted
    assert await stores.license_levels() == wanted
    changes = await stores.first.changes_of(run.run_id)
    assert len(changes) == PLANTED
    assert all(change.after.progress_level == change.after.license_level for change in changes)

    await stores.deliver()
    licenses = await stores.licenses.fetch("SELECT * FROM licenses ORDER BY user_id, specialization")
    progress = await stores.progress.fetch("SELECT * FROM specialization_progress ORDER BY 1, 2")
    again = await stores.first.run()
    assert again.statistics.compared == 2 * len(wanted)
    assert await stores.first.changes_of(again.run_id) == []
    assert await stores.licenses.fetch("SELECT * FROM licenses ORDER BY user_id, specialization") == licenses
    assert await stores.progress.fetch("SELECT * FROM specialization_progress ORDER BY 1, 2") == progress
    assert await stores.progress.fetchval("SELECT count(*) FROM outbox") == 0
    assert await stores.first.desyncs() == []


@pytest.mark.parametrize(
    ("direction", "levels", "outcome", "after"),
    [
        (pb.PROGRESS_TO_LICENSE, (3, 1), "APPLIED", (3, 3)),
        (pb.PROGRESS_TO_LICENSE, (1, 3), "NEEDS_DECISION", (1, 3)),
        (pb.PROGRESS_TO_LICENSE, (2, 0), "APPLIED", (2, 2)),
        (pb.PROGRESS_TO_LICENSE, (0, 2), "NEEDS_DECISION", (0, 2)),
        (pb.LICENSE_TO_PROGRESS, (3, 1), "NEEDS_DECISION", (3, 1)),
        (pb.LICENSE_TO_PROGRESS, (1, 3), "APPLIED", (3, 3)),
        (pb.LICENSE_TO_PROGRESS, (2, 0), "NEEDS_DECISION", (2, 0)),
        (pb.LICENSE_TO_PROGRESS, (0, 2), "APPLIED", (2, 2)),
        (pb.BOTH_WAYS, (3, 1), "APPLIED", (3, 3)),
        (pb.BOTH_WAYS, (1, 3), "APPLIED", (3, 3)),
    ],
)
async def test_a_direction_raises_the_side_that_follows_and_lowers_neither(
    stores: TwoStores, direction: Any, levels: tuple[int, int], outcome: str, after: tuple[int, int]
) -> None:
    progress, license_ = levels
    await stores.add_accounts(["ann"])
    if progress:
        await stores.plant_progress([("ann", "PLAYER", progress)])
    if license_:
        await stores.plant_licenses([("ann", "PLAYER", license_)])
    dry = await stores.first.run(direction, dry_run=True)
    planned = told(await stores.first.changes_of(dry.run_id))
    assert planned == [("ann", outcome.replace("APPLIED", "PLANNED"), levels, after)]
    assert dry.state == pb.SyncRun.FINISHED
    assert (await stores.progress_levels()).get(("ann", "PLAYER"), 0) == progress  # nothing was written
    assert (await stores.license_levels()).get(("ann", "PLAYER"), 0) == license_

    run = await stores.first.run(direction)
    changes = await stores.first.changes_of(run.run_id)
    assert told(changes) == [("ann", outcome, levels, after)]
    assert bool(changes[0].reason) == (outcome == "NEEDS_DECISION")
    assert (await stores.progress_levels()).get(("ann", "PLAYER"), 0) == after[0]
    assert (await stores.license_levels()).get(("ann", "PLAYER"), 0) == after[1]


async def test_a_grant_brings_the_level_without_xp_and_the_license_is_told_who_ordered_it(
    stores: TwoStores,
) -> None:
    await stores.add_accounts(["ann", "bob"])
    await put_levels(stores.progress, "PLAYER", [0, 10, 20, 30, 40])
    await stores.plant_licenses([("ann", "PLAYER", 4)])
    await stores.plant_progress([("bob", "PLAYER", 2)])
    await stores.first.run()
    row = await stores.progress.fetchrow(
        "SELECT xp, level, max_level, granted_level FROM specialization_progress WHERE user_id = 'ann'"
    )
    assert tuple(row) == (0, 4, 5, 4)
    assert await stores.progress.fetchval("SELECT count(*) FROM xp_entries") == 0
    assert await stores.license_changes() == [("bob", 0, 2, "root")]


async def test_a_license_from_before_a_reset_follows_the_reset_and_is_not_granted(stores: TwoStores) -> None:
    await stores.add_accounts(["ann", "bob"])
    await stores.plant_progress([("ann", "PLAYER", 1)], epoch=2)
    await stores.plant_licenses([("ann", "PLAYER", 5), ("bob", "PLAYER", 5)])
    await stores.progress.execute(
        """
        INSERT INTO progress_resets (user_id, epoch, scope, name, ordered_by, reason, reset_at)
        VALUES ('bob', 1, 'all', '', 'root', 'cheated', now())
        """
    )
    run = await stores.first.run(pb.LICENSE_TO_PROGRESS)
    assert told(await stores.first.changes_of(run.run_id)) == [
        ("ann", "NEEDS_DECISION", (1, 5), (1, 5)),
        ("bob", "NEEDS_DECISION", (0, 5), (0, 5)),  # the reset was found under the lock
    ]
    run = await stores.first.run(pb.BOTH_WAYS)
    assert told(await stores.first.changes_of(run.run_id))[0] == ("ann", "APPLIED", (1, 5), (1, 1))
    assert (await stores.license_levels())["ann", "PLAYER"] == 1


async def test_a_learner_without_an_account_fails_alone(stores: TwoStores) -> None:
    await stores.add_accounts(["ann", "cy"])
    await stores.plant_progress([("ann", "PLAYER", 2), ("\x01\U0001f600", "PLAYER", 2), ("cy", "PLAYER", 3)])
    run = await stores.first.run()
    assert (run.state, run.statistics.applied, run.statistics.failed) == (pb.SyncRun.FINISHED, 2, 1)
    (failed,) = [change for change in await stores.first.changes_of(run.run_id) if change.reason]
    assert failed.user_id == "\x01\U0001f600"
    assert "INVALID_USER_REFERENCE" in failed.reason
    assert await stores.license_levels() == {("ann", "PLAYER"): 2, ("cy", "PLAYER"): 3}


async def test_two_replicas_carry_out_one_run_once(stores: TwoStores) -> None:
    wanted = await plant(stores, 3000, seed=2)
    others = [stores.first, await stores.another_replica(), await stores.another_replica()]
    run_id = await stores.first.begin()

    async def work(replica: Any) -> None:
        while (await replica.run_of(run_id)).state == pb.SyncRun.RUNNING:
            await replica.runs.work()

    await asyncio.gather(*map(work, others))
    run = await stores.first.run_of(run_id)
    assert (run.statistics.applied, run.statistics.unchanged, run.statistics.planned) == (3000, 0, 0)
    assert run.statistics.compared == await rows_compared(stores, wanted)
    assert await stores.license_levels() == wanted
    changed = Counter(user_id for user_id, *_ in await stores.license_changes())
    assert max(changed.values()) == 1


async def rows_compared(stores: TwoStores, wanted: dict[tuple[str, str], int]) -> int:
    """The rows that were there before: each key had both, or one if the other was missing."""
    return 2 * len(wanted) - len(range(1, 3000, 3)) - len(range(2, 3000, 3))


async def test_a_replica_that_lost_its_lease_harms_nothing(stores: TwoStores) -> None:
    """It sleeps after it has planned; another one goes on meanwhile, and both carry out the same changes."""
    wanted = await plant(stores, 300, seed=3)
    late, other = stores.first, await stores.another_replica()
    run_id = await late.begin()
    gate, planned = asyncio.Event(), asyncio.Event()
    carry_out = late.runs._carrying_out.carry_out

    async def sleepy(order: Any, changes: Any) -> Any:
        if changes:
            planned.set()
            await gate.wait()
        return await carry_out(order, changes)

    late.runs._carrying_out.carry_out = sleepy  # type: ignore[method-assign]  # the test's own delay
    sleeping = asyncio.create_task(late.runs.work())
    await planned.wait()
    await stores.end_pauses()
    await other.work_until_idle()
    assert (await other.run_of(run_id)).state == pb.SyncRun.FINISHED
    gate.set()
    await sleeping
    run = await other.run_of(run_id)
    assert (run.state, run.statistics.applied, run.statistics.planned) == (pb.SyncRun.FINISHED, 300, 0)
    assert await stores.progress_levels() == wanted
    changed = Counter(user_id for user_id, *_ in await stores.license_changes())
    assert max(changed.values()) == 1


async def test_a_run_among_learners_who_level_up_loses_nothing(stores: TwoStores) -> None:
    await put_levels(stores.progress, "PLAYER", [10 * level for level in range(20)])
    learners = await stores.subscriptions.accounts(60)
    rounds = 8
    done = asyncio.Event()

    async def learn(user_ids: list[str], seed: int) -> None:
        for number in range(rounds):
            left = [
                completed(user_id, f"s{seed}-{number}", specialization="PLAYER", xp=10)
                for user_id in user_ids
            ]
            while left:  # as the sender's outbox does
                outcomes = await stores.service.tell(*left)
                left = [
                    result
                    for result, outcome in zip(left, outcomes, strict=True)
                    if isinstance(outcome, ServiceError)
                ]
            await stores.first.relay.deliver_due("subscription.LicenseOrder")

    async def advance(user_ids: list[str]) -> None:
        for user_id in user_ids:
            request = licenses_pb2.AdvanceLicenseRequest(
                user_id=user_id, specialization="PLAYER", to_level=15, reason="passed an interview"
            )
            while True:
                (outcome,) = await stores.subscriptions.batch(
                    LICENSES, "AdvanceLicense", [request], keys=[user_id]
                )
                if getattr(outcome, "reason", None) is not Reason.NOT_FOUND:
                    break
                await asyncio.sleep(0.01)

    async def sweep() -> None:
        other = await stores.another_replica()
        while not done.is_set():
            await other.run()

    sweeping = asyncio.create_task(sweep())
    await asyncio.gather(
        learn(learners[:30], 1), learn(learners[30:], 2), learn(learners, 3), advance(learners[:20])
    )
    done.set()
    await sweeping
    await stores.deliver()
    await stores.first.run()
    progress, licenses = await stores.progress_levels(), await stores.license_levels()
    reached = min(2 * rounds + 1, 20)
    assert progress == licenses
    assert progress == {
        (user_id, "PLAYER"): max(15, reached) if user_id in learners[:20] else reached for user_id in learners
    }
    # A grant raises the learner's version, as an earning does.
    assert {each.total for each in await stores.service.discrepancies()} <= {"version"}
    assert await stores.subscriptions.discrepancies() == []


@pytest.mark.fault
async def test_a_run_that_is_killed_goes_on_where_it_was(stores: TwoStores, tmp_path: Path) -> None:
    """Killed once between the plan and its changes, and once behind changes, it reports each change once."""
    wanted = await plant(stores, 2500, seed=5)
    settings = {
        "HOMEROOM_DATABASE_URL": stores.progress_database.service,
        "HOMEROOM_SUBSCRIPTION_TARGET": f"127.0.0.1:{stores.server.port}",
        "HOMEROOM_FAILPOINTS_DIR": str(tmp_path),
    }
    for point in ("progress.after_sync_plan", "progress.after_sync_changes"):
        failpoints.arm(tmp_path, point, "kill")
        async with started("progress_service", **settings) as process:
            assert await process.ended() == -signal.SIGKILL
        await stores.end_pauses()
    async with serving("progress_service", **settings):
        async with asyncio.timeout(30):
            while await stores.progress.fetchval("SELECT state FROM sync_runs") != "finished":
                await asyncio.sleep(0.05)
    (run,) = await stores.first.all_pages("ListSyncRuns", pb.ListSyncRunsRequest(), "runs")
    assert (run.statistics.applied, run.statistics.unchanged, run.statistics.planned) == (2500, 0, 0)
    assert len(await stores.first.changes_of(run.run_id)) == 2500
    assert await stores.progress_levels() == wanted
    assert await stores.license_levels() == wanted
    changed = Counter(user_id for user_id, *_ in await stores.license_changes())
    assert max(changed.values()) == 1


async def test_a_run_waits_while_the_licenses_are_out_of_reach(stores: TwoStores) -> None:
    wanted = await plant(stores, 30, seed=4)
    run_id = await stores.first.begin()
    await stores.server.stop(grace_seconds=0)
    for _ in range(3):
        assert await stores.first.work_until_idle() == 1  # it is set aside for a while
        await stores.end_pauses()
    assert (await stores.first.run_of(run_id)).state == pb.SyncRun.RUNNING
    await stores.serve_licenses()
    other = await stores.another_replica()  # the licenses have another port now
    await other.work_until_idle()
    assert (await other.run_of(run_id)).statistics.applied == 30
    assert await stores.license_levels() == wanted
