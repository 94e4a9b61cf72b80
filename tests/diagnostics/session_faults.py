"""Faults in the stores around sessions, planted for one learner: each is what one check looks for."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from chassis.diagnostics.checks import Check
from chassis.diagnostics.findings import Finding, Severity
from chassis.diagnostics.repairs import Repair
from chassis.postgres import Connection
from session_service.domain.holds import HoldRequest
from session_service.domain.ids import hold_id_of
from session_service.domain.timing import TimeRules
from session_service.operations.diagnosis import checks, repairs
from session_service.progress_client import RESULT_TOPIC, ProgressClient
from session_service.store.editions import EditionCache
from tests.diagnostics.operators import Operator
from tests.session.world import CREATE, RETENTION, TIMES, World, unique
from tests.support.rules import without_rules

Rows = list[dict[str, str]]
NOW = timedelta(0)


def all_checks(
    world: World, *, settled: timedelta = NOW, started: timedelta = NOW, times: TimeRules = TIMES
) -> list[Check]:
    """The checks of session_service over this world, with no patience unless it is given."""
    return checks(
        world.database,
        editions=EditionCache(),
        subscription=world.subscription,
        progress=ProgressClient(upstream=world.upstream),
        times=times,
        retention=RETENTION,
        settled=settled,
        started=started,
    )


def all_repairs() -> list[Repair]:
    return repairs(editions=EditionCache(), times=TIMES, retention=RETENTION)


def operator_of(world: World) -> Operator:
    return Operator(world.database, checks=all_checks(world), repairs=all_repairs())


async def alarms(
    world: World, *but: str, user_id: str = "", times: TimeRules = TIMES, settled: timedelta = NOW
) -> list[Finding]:
    """What the checks find, without those that are left out, and without what is only worth knowing."""
    chosen = [
        check
        for check in all_checks(world, times=times, settled=settled)
        if check.severity > Severity.INFO and check.check_id not in but
    ]
    return await Operator(world.database, checks=chosen, repairs=all_repairs()).findings(user_id=user_id)


# --- what learners do --------------------------------------------------------------------------------------


async def begun(world: World, user: str, *, answers: int = 0, test: str = "", **settings: Any) -> str:
    """A live session with this many right answers."""
    test = test or await world.test(**settings)
    session = (await world.started(user, test, unique("start"))).session_id
    for number in range(1, answers + 1):
        await world.one(world.answer(user, session, unique("answer"), f"q{number}", f"right {number}"))
    return str(session)


async def ended(world: World, user: str, *, answers: int = 2, by: str = "complete", test: str = "") -> str:
    """A session that was ended in this way, and about which everybody knows."""
    session = await begun(world, user, answers=answers, test=test)
    await world.one(getattr(world, by)(user, session, unique("end")))
    await world.deliver()
    return session


async def healthy(world: World) -> str:
    """A learner with sessions in all states, of whom nothing is wrong."""
    user = await world.learner(prefix="healthy")
    test = await world.test()
    await ended(world, user, test=test)
    await ended(world, user, answers=0, by="abandon", test=test)
    await ended(world, user, answers=1, by="abandon", test=test)
    await begun(world, user, answers=2, test=test)
    await begun(world, user)
    await begun(world, user, questions=0)
    paused = await begun(world, user, answers=1, time_limit_seconds=600)
    await world.one(world.pause(user, paused, unique("pause")))
    again = await begun(world, user, answers=1)
    await world.one(world.answer(user, again, unique("answer"), "q1", "wrong"))
    late = await begun(world, user, answers=1, time_limit_seconds=600)
    await pass_time(world, late)
    await world.parts.sweep.close_overdue()
    await world.deliver()
    return user


async def pass_time(world: World, session: str, by: timedelta = timedelta(hours=2)) -> None:
    """Let this much time pass for the session and its answers."""
    await world.later(session, by)
    await world.truth.execute(
        "UPDATE answers SET answered_at = answered_at - $2::interval WHERE session_id = $1::uuid", session, by
    )


# --- planting ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def unguarded(truth: Connection) -> AsyncIterator[None]:
    """Without foreign keys."""
    await truth.execute("SET session_replication_role = replica")
    try:
        yield
    finally:
        await truth.execute("RESET session_replication_role")


Plant = Callable[[World, str], Awaitable[Rows]]
Clean = Callable[[World, str], Awaitable[object]]


@dataclass(frozen=True)
class Fault:
    """A fault, and what is to be expected of it.

    `plant` makes it for a learner, and returns the rows that the check must name. `also` are the checks that
    see it, too. `repair` mends it; else `clean` takes it away. `is_refused` says that the rules of sessions
    refuse it. Undoing the repair plants it again, unless a foreign key refuses it for ever.
    """

    plant: Plant
    repair: str = ""
    clean: Clean | None = None
    also: frozenset[str] = frozenset()
    is_of_learner: bool = True
    comes_back: bool = True
    is_refused: bool = False


def of_session(user: str, session: str, **more: object) -> dict[str, str]:
    return {"user_id": user, "session_id": session} | {name: str(value) for name, value in more.items()}


def _changing(session_of: Callable[[World, str], Awaitable[str]], change: str) -> Plant:
    """A session with a change of its row."""

    async def plant(world: World, user: str) -> Rows:
        session = await session_of(world, user)
        statement = f"UPDATE sessions SET {change} WHERE session_id = $1::uuid"  # noqa: S608 - written below
        await world.truth.execute(statement, session)
        return [of_session(user, session)]

    return plant


async def _ghost(world: World, user: str) -> Rows:
    session = await begun(world, user, time_limit_seconds=600)
    await pass_time(world, session)
    return [of_session(user, session)]


async def _attempt_gap(world: World, user: str) -> Rows:
    test = await world.test()
    await ended(world, user, test=test)
    second = await begun(world, user, test=test)
    await world.truth.execute("UPDATE sessions SET attempt = 3 WHERE session_id = $1::uuid", second)
    return [of_session(user, second)]


async def _verdict(world: World, user: str) -> Rows:
    session = await begun(world, user, answers=2)
    await world.truth.execute(
        "UPDATE answers SET correct = false WHERE session_id = $1::uuid AND question_id = 'q2'", session
    )
    return [of_session(user, session, question_id="q2", attempt=1)]


async def _late_answer(world: World, user: str) -> Rows:
    session = await ended(world, user, answers=2)
    await pass_time(world, session)
    await world.truth.execute(
        """
        UPDATE sessions
           SET closed_at = closed_at - interval '2 hours', submitted_at = submitted_at - interval '2 hours'
         WHERE session_id = $1::uuid
        """,
        session,
    )
    await world.truth.execute(
        """
        INSERT INTO answers (user_id, session_id, question_id, attempt, choice, correct, answered_at, version)
        SELECT user_id, session_id, 'q3', 1, 'right 3', true, closed_at + interval '1 minute', version - 1
          FROM sessions
         WHERE session_id = $1::uuid
        """,
        session,
    )
    return [of_session(user, session, question_id="q3", attempt=1)]


async def _answer_gap(world: World, user: str) -> Rows:
    session = await begun(world, user, answers=1)
    await world.one(world.answer(user, session, unique("answer"), "q1", "wrong"))
    await world.truth.execute(
        "UPDATE answers SET attempt = 5 WHERE session_id = $1::uuid AND attempt = 2", session
    )
    return [of_session(user, session, question_id="q1")]


async def _orphaned_answer(world: World, user: str) -> Rows:
    session = str(uuid.uuid4())
    async with unguarded(world.truth):
        await world.truth.execute(
            """
            INSERT INTO answers (user_id, session_id, question_id, attempt, choice, correct, answered_at)
            VALUES ($1, $2::uuid, 'q1', 1, 'secret text', true, now())
            """,
            user,
            session,
        )
    return [of_session(user, session, question_id="q1", attempt=1)]


async def _orphaned_event(world: World, user: str) -> Rows:
    session = str(uuid.uuid4())
    async with unguarded(world.truth):
        await world.truth.execute(
            """
            INSERT INTO session_events (user_id, session_id, version, number, kind, happened_at, actor_id,
                                        request_id, reason, note)
            VALUES ($1, $2::uuid, 2, 1, 'paused', now(), $1, '', '', '')
            """,
            user,
            session,
        )
    return [of_session(user, session, version=2, number=1)]


async def _orphaned_identity_event(world: World, user: str) -> Rows:
    session = str(uuid.uuid4())
    async with unguarded(world.truth):
        await world.truth.execute(
            """
            INSERT INTO identity_events (user_id, session_id, check_number, step, kind, by_user, reason,
                                         request_id, recorded_at)
            VALUES ($1, $2::uuid, 1, 1, 'passed', $1, '', '', now())
            """,
            user,
            session,
        )
    return [of_session(user, session, check_number=1, step=1)]


async def _key_without_session(world: World, user: str) -> Rows:
    session = await ended(world, user, answers=0, by="abandon")
    async with unguarded(world.truth):
        for table in ("session_events", "sessions"):
            await world.truth.execute(f"DELETE FROM {table} WHERE session_id = $1::uuid", session)  # noqa: S608 - the two names
    rows = await world.truth.fetch(
        "SELECT user_id, method, key FROM idempotency_keys WHERE user_id = $1 ORDER BY method, key", user
    )
    assert len(rows) == 2
    return [dict(row) for row in rows]


async def _abort_keys(world: World, users: list[str]) -> None:
    await world.truth.executemany(
        "INSERT INTO idempotency_keys (user_id, method, key, state) VALUES ($1, $2, $3, 'aborted')",
        [(user, CREATE, unique("aborted")) for user in users],
    )


async def _aborted_starts(world: World, user: str) -> Rows:
    await _abort_keys(world, [f"{user}-{number}" for number in range(60)])
    return [{}]


async def _start_pattern(world: World, user: str) -> Rows:
    await _abort_keys(world, [user] * 25)
    return [{"user_id": user}]


async def _forget_aborted(world: World, user: str) -> None:
    await world.truth.execute("DELETE FROM idempotency_keys WHERE starts_with(user_id, $1)", user)


async def _open_hold(world: World, user: str) -> Rows:
    key = unique("lost")
    hold = HoldRequest(
        user_id=user,
        hold_id=hold_id_of(user, CREATE, key),
        tests=1,
        credits=0,
        subject=f"{unique('test')}#1",
        method=CREATE,
        key=key,
    )
    await world.subscription.place_holds([(hold, world.start(user, "test", key).context)])
    return [{"user_id": user, "hold_id": str(hold.hold_id)}]


async def _without_hold(world: World, user: str) -> Rows:
    session = await begun(world, user)
    await world.subscription_truth.execute(
        "UPDATE holds SET state = 'released', resolved_at = now() WHERE user_id = $1", user
    )
    return [of_session(user, session)]


async def _result_missing(world: World, user: str) -> Rows:
    session = await begun(world, user, answers=2)
    await world.one(world.complete(user, session, unique("end")))
    lost = await world.truth.execute(
        "DELETE FROM outbox WHERE user_id = $1 AND topic = $2", user, RESULT_TOPIC
    )
    assert lost == "DELETE 1"
    await world.deliver()
    return [of_session(user, session)]


async def _result_differs(world: World, user: str) -> Rows:
    session = await ended(world, user, answers=2)
    await world.progress_truth.execute(
        "UPDATE session_results SET correct = correct - 1 WHERE session_id = $1", session
    )
    return [of_session(user, session)]


async def _result_without_session(world: World, user: str) -> Rows:
    session = str(uuid.uuid4())
    await world.progress_truth.execute(
        """
        INSERT INTO session_results (user_id, session_id, test_id, specialization, completed, answered, total,
                                     answers, correct, score, passed, xp, closed_at)
        VALUES ($1, $2, 'test', '', true, 1, 1, 1, 1, 1, true, 0, now())
        """,
        user,
        session,
    )
    return [of_session(user, session)]


async def _forget_results(world: World, user: str) -> None:
    await world.progress_truth.execute("DELETE FROM session_results WHERE user_id = $1", user)


async def _mend_results(world: World, user: str) -> None:
    await world.progress_truth.execute(
        "UPDATE session_results SET correct = correct + 1 WHERE user_id = $1", user
    )


async def _refused_row(world: World, user: str) -> Rows:
    session = await ended(world, user)
    async with without_rules(world.truth, "session_events", validated=False):
        await world.truth.execute(
            "UPDATE session_events SET note = repeat('x', 501) WHERE session_id = $1::uuid", session
        )
    row = await world.truth.fetchrow(
        "SELECT version, number FROM session_events WHERE session_id = $1::uuid", session
    )
    assert row is not None
    return [{"table": "session_events"} | of_session(user, session, **row)]


async def _shorten(world: World, user: str) -> None:
    await world.truth.execute("UPDATE session_events SET note = '' WHERE user_id = $1", user)


def _event(change: str) -> Plant:
    async def plant(world: World, user: str) -> Rows:
        event_id = uuid.uuid4()
        await world.truth.execute(
            "INSERT INTO outbox (user_id, event_id, topic, payload) VALUES ($1, $2, 'nobody.Listens', '')",
            user,
            event_id,
        )
        statement = f"UPDATE outbox SET {change} WHERE event_id = $1"  # noqa: S608 - written below
        await world.truth.execute(statement, event_id)
        return [{"user_id": user, "event_id": str(event_id)}]

    return plant


_FOREIGN_KEY = frozenset({"session.constraint"})
FAULTS: Mapping[str, Fault] = {
    "session.ghost": Fault(_ghost, "session.close_ghosts"),
    "session.without_end": Fault(
        _changing(lambda world, user: ended(world, user, answers=1, by="abandon"), "close_reason = NULL"),
        "session.complete_end",
        is_refused=True,
    ),
    "session.without_questions": Fault(
        _changing(lambda world, user: begun(world, user, answers=1), "total = 2"),
        "session.rebuild_from_history",
    ),
    "session.attempt_gap": Fault(_attempt_gap, "session.renumber_attempts"),
    "session.counters": Fault(
        _changing(ended, "solved = solved - 1, score = 0.1"), "session.rebuild_from_history"
    ),
    "session.verdict": Fault(_verdict, "session.rebuild_from_history", also=frozenset({"session.counters"})),
    "session.late_answer": Fault(
        _late_answer, "session.remove_late_answers", also=frozenset({"session.counters"})
    ),
    "session.answer_gap": Fault(_answer_gap, "session.renumber_answers"),
    "session.orphaned_answer": Fault(
        _orphaned_answer, "session.remove_orphans", also=_FOREIGN_KEY, comes_back=False
    ),
    "session.orphaned_event": Fault(
        _orphaned_event, "session.remove_orphans", also=_FOREIGN_KEY, comes_back=False
    ),
    "session.orphaned_identity_event": Fault(
        _orphaned_identity_event, "session.remove_orphans", also=_FOREIGN_KEY, comes_back=False
    ),
    "session.key_without_session": Fault(_key_without_session, "session.remove_orphans"),
    "session.aborted_starts": Fault(_aborted_starts, clean=_forget_aborted, is_of_learner=False),
    "session.start_pattern": Fault(_start_pattern, clean=_forget_aborted),
    "session.open_hold": Fault(_open_hold, "session.resolve_hold"),
    "session.without_hold": Fault(_without_hold, "session.close_without_hold"),
    "session.result_missing": Fault(_result_missing, "session.send_result"),
    "session.result_differs": Fault(_result_differs, clean=_mend_results),
    "session.result_without_session": Fault(_result_without_session, clean=_forget_results),
    "session.constraint": Fault(_refused_row, clean=_shorten),
    "session.outbox_parked": Fault(_event("parked_at = now()"), "session.discard_event"),
    "session.outbox_old": Fault(_event("created_at = now() - interval '1 hour'"), "session.discard_event"),
    "session.outbox_lease": Fault(_event("leased_until = now() + interval '1 day'"), "session.discard_event"),
}
