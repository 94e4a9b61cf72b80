"""A database is lost and restored to an older point: what the three then disagree about, by learner."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from homeroom.supervisor import Stack
from tests.support.command_line import Finished, run
from tests.support.http_client import HttpClient, unique
from tests.support.waiting import eventually

WRITERS = 4
PAUSE_SECONDS_MAX = 0.1
LEARNERS_BEFORE = 12
LEARNERS_AFTER = 12
SETTLE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, order=True)
class Disagreement:
    """One learner's thing, about which two databases say different things.

    Attributes:
        kind: what is wrong, such as `open_hold_without_live_session`.
        about: the hold, the session or the specialization.
    """

    user_id: str
    kind: str
    about: str


@dataclass(slots=True)
class Confirmed:
    """What answers with 2xx have named: the learner of each session, and which of them are completed."""

    started: dict[str, str] = field(default_factory=dict)
    completed: set[str] = field(default_factory=set)


class Writers:
    """Learners who start, answer and complete, each confirmed, until they are told to stop."""

    def __init__(self, http: HttpClient) -> None:
        self.confirmed = Confirmed()
        self._http = http
        self._test = unique("rehearsal")
        self._stopping = False

    async def prepare(self) -> None:
        await self._http.put_test(self._test, questions=2, xp=10)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        self._stopping = False
        async with asyncio.TaskGroup() as group:
            for _ in range(WRITERS):
                group.create_task(self._work())
            try:
                yield
            finally:
                self._stopping = True

    async def until(self, learners: int) -> None:
        """Return when so many more sessions are confirmed."""
        enough = len(self.confirmed.started) + learners
        await eventually(lambda: len(self.confirmed.started) >= enough, seconds=60)

    async def finish_live(self) -> None:
        """Complete what is live: these sessions were live in the backup, and will be live again."""
        for session, user in list(self.confirmed.started.items()):
            if session not in self.confirmed.completed:
                await self._complete(user, session)

    async def _work(self) -> None:
        while not self._stopping:
            await asyncio.sleep(random.uniform(0, PAUSE_SECONDS_MAX))
            user = unique("writer")
            await self._http.put_account(user)
            started = await self._http.start_until_answered(user, self._test, key="start")
            if started.status not in {200, 201}:
                continue  # the key was aborted: the start had come too late
            session = started.body["sessionId"]
            self.confirmed.started[session] = user
            if random.random() < 0.5:
                await self._complete(user, session)

    async def _complete(self, user: str, session: str) -> None:
        path = f"/v1/sessions/{session}"
        await self._http.send_until_answered(
            "POST",
            f"{path}/answers",
            user=user,
            json={"questionId": "q1", "choice": "2"},
            key=f"{session}-answer",
        )
        done = await self._http.send_until_answered(
            "POST", f"{path}:complete", user=user, json={}, key=f"{session}-complete"
        )
        if done.status == 200:
            self.confirmed.completed.add(session)


async def rehearse(
    stack: Stack, http: HttpClient, folder: Path, *, lost: str = "session"
) -> list[Disagreement]:
    """Back up under load, go on, lose a database, restore it, and return what the three disagree about then.

    What the services repair by themselves is waited for: the result is what stays.

    Args:
        folder: for the backup; it is made.
        lost: the database that is dropped and restored.
    """
    writers = Writers(http)
    await writers.prepare()
    async with writers.at_work():
        await writers.until(LEARNERS_BEFORE)
        await command("backup", str(folder), stack)
        await writers.until(LEARNERS_AFTER)
    await writers.finish_live()
    await eventually(lambda: outboxes_are_empty(stack), seconds=SETTLE_SECONDS)
    await pass_all_holds(stack)
    await lose(stack, lost)
    await command("restore", str(folder), stack, "--service", lost)
    await stack.wait_ready()
    return await settled_disagreements(stack)


async def command(name: str, folder: str, stack: Stack, *more: str) -> Finished:
    """Run `homeroom backup` or `homeroom restore`, which must succeed."""
    finished = await run(name, folder, "--data", str(stack.data_dir), "--json", *more)
    assert finished.code == 0, finished.stderr
    return finished


async def pass_all_holds(stack: Stack) -> None:
    """The janitor has looked at all open holds, as it has some time later; it looks at none of them again."""
    (hold,) = await _fetch(stack, "subscription", "SELECT method FROM holds WHERE subject <> '' LIMIT 1")
    connection = await asyncpg.connect(stack.dsn("session"))
    try:
        await connection.execute(
            """
            INSERT INTO hold_watermarks (method, placed_at, user_id, hold_id)
            VALUES ($1, now(), '', '00000000-0000-0000-0000-000000000000')
                ON CONFLICT ON CONSTRAINT hold_watermarks_once DO UPDATE SET placed_at = excluded.placed_at
            """,
            hold["method"],
        )
    finally:
        await connection.close()


async def lose(stack: Stack, database: str) -> None:
    """Drop a database under the feet of its service."""
    admin = await asyncpg.connect(stack.dsn("postgres"))
    try:
        await admin.execute(f'DROP DATABASE "{database}" WITH (FORCE)')
    finally:
        await admin.close()


async def settled_disagreements(stack: Stack) -> list[Disagreement]:
    """The disagreements that stay: they have not changed for a while, and nothing is under way."""
    before: list[Disagreement] = []
    unchanged = 0
    async with asyncio.timeout(SETTLE_SECONDS):
        while unchanged < 3:
            await asyncio.sleep(1)  # the pace at which it is asked; how often it has to be the same decides
            now = await read_disagreements(stack)
            unchanged = unchanged + 1 if now == before and await outboxes_are_empty(stack) else 0
            before = now
    return before


async def outboxes_are_empty(stack: Stack) -> bool:
    """Whether nothing waits to be delivered; a parked event waits for a person."""
    counts = [
        (await _fetch(stack, database, "SELECT count(*) AS waiting FROM outbox WHERE parked_at IS NULL"))[0]
        for database in ("session", "progress", "subscription")
    ]
    return not any(row["waiting"] for row in counts)


async def read_disagreements(stack: Stack) -> list[Disagreement]:
    """Compare the three databases by plain SQL, and list what disagrees, by learner."""
    sessions = {
        (row["user_id"], str(row["session_id"])): row
        for row in await _fetch(
            stack, "session", "SELECT user_id, session_id, hold_id, state, answered, total FROM sessions"
        )
    }
    holds = {
        (row["user_id"], str(row["hold_id"])): row["state"]
        for row in await _fetch(
            stack, "subscription", "SELECT user_id, hold_id, state FROM holds WHERE subject <> ''"
        )
    }
    accounts = {row["user_id"] for row in await _fetch(stack, "subscription", "SELECT user_id FROM accounts")}
    results = {
        (row["user_id"], row["session_id"])
        for row in await _fetch(stack, "progress", "SELECT user_id, session_id FROM session_results")
    }
    return sorted(
        [
            *_of_sessions(sessions, holds, results, accounts),
            *_of_holds(sessions, holds),
            *(
                Disagreement(user, "result_without_session", session)
                for user, session in results
                if (user, session) not in sessions
            ),
            *await _of_licenses(stack),
        ]
    )


def _of_sessions(
    sessions: dict[tuple[str, str], Any],
    holds: dict[tuple[str, str], str],
    results: set[tuple[str, str]],
    accounts: set[str],
) -> list[Disagreement]:
    found = []
    for (user, session), row in sessions.items():
        hold = holds.get((user, str(row["hold_id"])))
        live = row["state"] in {"active", "paused"}
        spends = row["answered"] > 0 or (row["total"] == 0 and row["state"] == "completed")
        if user not in accounts:
            found.append(Disagreement(user, "session_without_account", session))
        if live and hold != "open":
            found.append(Disagreement(user, "live_session_without_open_hold", session))
        if not live and spends and hold != "committed":
            found.append(Disagreement(user, "spent_session_without_committed_hold", session))
        if not live and spends and (user, session) not in results:
            found.append(Disagreement(user, "result_not_counted", session))
    return found


def _of_holds(sessions: dict[tuple[str, str], Any], holds: dict[tuple[str, str], str]) -> list[Disagreement]:
    of_hold = {(user, str(row["hold_id"])): row for (user, _), row in sessions.items()}
    found = []
    for (user, hold), state in holds.items():
        session = of_hold.get((user, hold))
        if state == "open" and (session is None or session["state"] not in {"active", "paused"}):
            found.append(Disagreement(user, "open_hold_without_live_session", hold))
        if state == "committed" and session is None:
            found.append(Disagreement(user, "committed_hold_without_session", hold))
    return found


async def _of_licenses(stack: Stack) -> list[Disagreement]:
    levels = {
        (row["user_id"], row["specialization"]): row["level"]
        for row in await _fetch(
            stack, "progress", "SELECT user_id, specialization, level FROM specialization_progress"
        )
        if row["level"] > 0
    }
    licenses = {
        (row["user_id"], row["specialization"]): row["level"]
        for row in await _fetch(stack, "subscription", "SELECT user_id, specialization, level FROM licenses")
    }
    return [
        Disagreement(user, "level_and_license_differ", specialization)
        for user, specialization in levels.keys() | licenses.keys()
        if levels.get((user, specialization)) != licenses.get((user, specialization))
    ]


async def _fetch(stack: Stack, database: str, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(stack.dsn(database))
    try:
        return list(await connection.fetch(query))
    finally:
        await connection.close()


async def eventually_serves(http: HttpClient) -> None:
    """Return when a learner can start and complete a session; connections may still be lost before."""
    writers = Writers(http)
    await writers.prepare()

    async def one() -> bool:
        try:
            async with writers.at_work():
                await writers.until(1)
        except (aiohttp.ClientError, TimeoutError):
            return False
        return True

    await eventually(one, seconds=60)
