"""Answers, uploads and endings survive the death of their process: nothing is lost, nothing counts twice."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from chassis import failpoints
from chassis.batch import Item
from chassis.errors import ServiceError
from tests.diagnostics.session_faults import alarms
from tests.session.test_process import SERVICE, send, settings_of
from tests.session.test_supervision import closing
from tests.session.test_timeline import kinds, timeline
from tests.session.test_uploads import answered, begun, completed, statuses, upload
from tests.session.world import Session, World, body, unique
from tests.support.service_process import ServiceProcess, serving

pytestmark = pytest.mark.fault

BEFORE, AFTER = "session.before_changes_committed", "session.after_changes_committed"


@pytest.fixture(scope="module", autouse=True)
async def _nothing_is_wrong_afterwards(world: World) -> AsyncIterator[None]:
    yield
    await world.truth.execute("UPDATE outbox SET leased_until = NULL")  # by a relay that was killed
    await world.deliver()
    assert not await alarms(world)


async def killed_by(world: World, folder: Path, point: str, item: Item[Any]) -> None:
    """Send a request to a process that is killed at this point."""
    async with serving(SERVICE, **settings_of(world), HOMEROOM_FAILPOINTS_DIR=str(folder)) as process:
        failpoints.arm(folder, point, "kill")
        (outcome,) = await send(process, item)
        assert isinstance(outcome, ServiceError)
        assert await process.ended() == -signal.SIGKILL


def unfinished(item: Item[Any], outcome: Any) -> bool:
    """Whether some operations of an upload have to be sent again."""
    return any(result.retryable for result in body(item, outcome).results)


@pytest.mark.parametrize(("point", "first"), [(BEFORE, "APPLIED"), (AFTER, "DUPLICATE")])
async def test_a_half_applied_upload_is_finished_by_sending_it_again(
    world: World, tmp_path: Path, point: str, first: str
) -> None:
    user, session = await begun(world)
    item = upload(
        world, user, session, [completed("c"), answered("1", "q1", "right 1"), answered("2", "q2", "x")]
    )
    await killed_by(world, tmp_path, point, item)
    results = (await world.one(item)).results
    assert statuses(results) == ["APPLIED", first, first]
    (row,) = await world.sessions(user)
    assert (row["answers_given"], row["answered"], row["state"]) == (2, 2, "completed")
    assert kinds(await timeline(world, user, session)) == ["STARTED", "ANSWERED", "ANSWERED", "COMPLETED"]
    assert statuses((await world.one(item)).results) == ["DUPLICATE"] * 3


@pytest.mark.parametrize("point", [BEFORE, AFTER])
async def test_a_close_by_an_administrator_happens_once(world: World, tmp_path: Path, point: str) -> None:
    user, session = await begun(world)
    await world.one(world.answer(user, session, "a", "q1", "right 1"))
    item = closing(world, user, session, unique("close"))
    await killed_by(world, tmp_path, point, item)
    (outcome,) = await world.send([item])
    assert outcome.replayed == (point == AFTER)
    assert body(item, outcome).session.state == Session.EXPIRED
    assert kinds(await timeline(world, user, session)) == ["STARTED", "ANSWERED", "EXPIRED"]
    await world.truth.execute("UPDATE outbox SET leased_until = NULL")  # by a relay that was killed
    await world.deliver()
    assert await world.units(user) == (0, 1)
    assert (await world.stats(user)).completed_sessions == 1


async def test_two_processes_share_uploads_and_one_of_them_is_killed(world: World) -> None:
    """Each upload goes to one process first, and to the other one if it was not answered."""
    ready = [await begun(world) for _ in range(6)]
    uploads = [
        upload(world, user, session, [answered(f"{n}-{k}", f"q{k % 3 + 1}", "right 1") for k in range(8)])
        for user, session in ready
        for n in range(6)
    ]
    async with (
        serving(SERVICE, **settings_of(world)) as doomed,
        serving(SERVICE, **settings_of(world)) as survivor,
    ):

        async def sent(place: int, item: Item[Any]) -> Any:
            first: ServiceProcess = (doomed, survivor)[place % 2]
            (outcome,) = await send(first, item)
            while isinstance(outcome, ServiceError) or unfinished(item, outcome):
                (outcome,) = await send(survivor, item)
            return outcome

        async def kill_soon() -> None:
            async with asyncio.timeout(30):
                while not await world.truth.fetchval("SELECT count(*) FROM answers"):
                    await asyncio.sleep(0)
            doomed.child.send_signal(signal.SIGKILL)

        *outcomes, _ = await asyncio.gather(
            *(sent(place, item) for place, item in enumerate(uploads)), kill_soon()
        )
        assert await doomed.ended() == -signal.SIGKILL
        again = [(await send(survivor, item))[0] for item in uploads]
    for item, outcome, replay in zip(uploads, outcomes, again, strict=True):
        assert set(statuses(body(item, outcome).results)) <= {"APPLIED", "DUPLICATE"}
        assert set(statuses(body(item, replay).results)) == {"DUPLICATE"}
    for user, session in ready:
        (row,) = await world.sessions(user)
        assert (row["answers_given"], row["answered"], row["version"]) == (48, 3, 49)
        assert kinds(await timeline(world, user, session)) == ["STARTED", *["ANSWERED"] * 48]
