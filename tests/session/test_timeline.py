"""The timeline of a session: everything that happened in it, in order, for those who may see it."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import asyncpg
import pytest

from chassis.batch import Item
from chassis.errors import Reason, ServiceError
from protos.session.v1 import sessions_pb2, supervision_pb2
from session_service.domain.timeline import EVENTS_PER_VERSION_MAX, REFUSALS_TOLD, EventKind
from tests.session.world import SESSIONS, Session, World, reasons

SUPERVISION = "homeroom.session.v1.SupervisionService"
LEARNER = frozenset({"learner"})
SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"

Kind = supervision_pb2.TimelineEvent.Kind


def read(
    world: World, caller: str, session: str, *, roles: frozenset[str] = LEARNER, **fields: Any
) -> Item[Any]:
    request = supervision_pb2.GetTimelineRequest(session_id=session, **fields)
    return world.item(f"/{SUPERVISION}/GetTimeline", request, user=caller, roles=roles)


async def timeline(world: World, user: str, session: str, *, page_size: int = 0) -> list[Any]:
    """All entries, read page by page."""
    events: list[Any] = []
    token = ""
    while True:
        page = await world.one(read(world, user, session, page_size=page_size, page_token=token))
        events += page.events
        token = page.next_page_token
        if not token:
            return events


def kinds(events: list[Any]) -> list[str]:
    return [Kind.Name(event.kind) for event in events]


async def begun(world: World, **test: Any) -> tuple[str, str]:
    user = await world.learner()
    return user, (await world.started(user, await world.test(**test), "start")).session_id


def by(item: Item[Any], request_id: str, traceparent: str = "") -> Item[Any]:
    """The item, as the request with this id."""
    return item._replace(context=item.context._replace(request_id=request_id, traceparent=traceparent))


async def test_a_timeline_tells_what_happened_by_which_request_and_in_which_trace(world: World) -> None:
    user, test = await world.learner(), await world.test()
    start = by(world.start(user, test, "s"), "r1", SAMPLED)
    session = (await world.one(start)).session.session_id
    await world.one(by(world.answer(user, session, "a1", "q1", "wrong"), "r2", UNSAMPLED))
    await world.one(by(world.answer(user, session, "a2", "q1", "right 1"), "r3", SAMPLED))
    await world.one(by(world.complete(user, session, "c"), "r4", SAMPLED))
    await world.send([by(world.answer(user, session, "a3", "q2", "late"), "r5")])
    await world.send([by(world.abandon(user, session, "x"), "r6")])

    events = await timeline(world, user, session)
    assert kinds(events) == ["STARTED", "ANSWERED", "ANSWERED", "COMPLETED", "REFUSED", "REFUSED"]
    assert [event.request_id for event in events] == ["r1", "r2", "r3", "r4", "r5", "r6"]
    trace = SAMPLED.split("-")[1]
    assert [event.trace_id for event in events] == [trace, "", trace, trace, "", ""]
    assert not events[1].HasField("trace_id")
    assert [event.version for event in events] == [1, 2, 3, 4, 4, 4]
    assert {event.actor_id for event in events} == {user}
    assert [event.reason for event in events[3:]] == ["submitted", "SESSION_CLOSED", "ILLEGAL_TRANSITION"]
    answers = [
        (e.answer.question_id, e.answer.attempt, e.answer.choice, e.answer.correct) for e in events[1:3]
    ]
    assert answers == [("q1", 1, "wrong", False), ("q1", 2, "right 1", True)]
    assert [event.at.ToMicroseconds() for event in events] == sorted(
        event.at.ToMicroseconds() for event in events
    )


async def test_a_clamped_time_is_marked(world: World) -> None:
    user, session = await begun(world)
    for n, seconds in enumerate((1_000_000_000, 0)):
        request = sessions_pb2.AnswerQuestionRequest(session_id=session, question_id="q1", choice="x")
        if seconds:
            request.occurred_at.seconds = seconds
        await world.one(world.item(f"/{SESSIONS}/AnswerQuestion", request, user=user, key=f"a{n}"))
    told = [event.answer for event in (await timeline(world, user, session))[1:]]
    assert [(answer.occurred_at_clamped, answer.HasField("occurred_at")) for answer in told] == [
        (True, True),
        (False, False),
    ]


async def test_pauses_and_what_ends_them_are_told(world: World) -> None:
    user, session = await begun(world)
    await world.one(by(world.pause(user, session, "p1"), "r1"))
    await world.one(by(world.resume(user, session, "p2"), "r2"))
    await world.one(by(world.pause(user, session, "p3"), "r3"))
    await world.truth.execute(
        "UPDATE sessions SET paused_at = paused_at - interval '2 hours',"
        " pause_until = pause_until - interval '2 hours' WHERE session_id = $1::uuid",
        session,
    )
    await world.one(by(world.answer(user, session, "a", "q1", "x"), "r4"))
    events = await timeline(world, user, session)
    assert kinds(events) == ["STARTED", "PAUSED", "RESUMED", "PAUSED", "RESUMED", "ANSWERED"]
    assert [event.request_id for event in events[1:]] == ["r1", "r2", "r3", "r4", "r4"]
    assert [event.actor_id for event in events] == [user, user, user, user, "", user]
    assert [event.version for event in events] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("answers", "kind", "reason"), [(0, "ABANDONED", "never_used"), (1, "EXPIRED", "lease_lost")]
)
async def test_an_idle_end_is_told(world: World, answers: int, kind: str, reason: str) -> None:
    user, session = await begun(world)
    for n in range(answers):
        await world.one(world.answer(user, session, f"a{n}", "q1", "x"))
    await world.truth.execute(
        "UPDATE sessions SET started_at = started_at - interval '3 days',"
        " last_answer_at = last_answer_at - interval '3 days', seen_at = seen_at - interval '3 days'"
        " WHERE session_id = $1::uuid",
        session,
    )
    await world.parts.sweep.close_idle()
    end = (await timeline(world, user, session))[-1]
    assert (kinds([end]), end.reason, end.actor_id) == ([kind], reason, "")


async def test_a_replay_is_no_event(world: World) -> None:
    user, session = await begun(world)
    items = [world.answer(user, session, "a", "q1", "x"), world.complete(user, session, "c")]
    for item in [*items, *items]:
        await world.send([item])
    assert kinds(await timeline(world, user, session)) == ["STARTED", "ANSWERED", "COMPLETED"]


@pytest.mark.parametrize("noticed_by", ["sweep", "request"])
async def test_what_the_service_does_by_itself_has_no_actor(world: World, noticed_by: str) -> None:
    user, session = await begun(world, time_limit_seconds=60)
    await world.overdue(session)
    if noticed_by == "sweep":
        await world.parts.sweep.close_overdue()
    else:
        late = by(world.answer(user, session, "a", "q1", "x"), "r9")
        assert reasons(await world.send([late])) == [Reason.DEADLINE_PASSED]
    events = await timeline(world, user, session)
    end = events[1]
    assert (kinds([end]), end.actor_id) == (["EXPIRED"], "")
    assert end.request_id == ("" if noticed_by == "sweep" else "r9")
    assert kinds(events[2:]) == ([] if noticed_by == "sweep" else ["REFUSED"])


async def test_a_learner_sees_only_their_own_timelines_and_supervisors_all(world: World) -> None:
    user, session = await begun(world)
    other = await world.learner()
    for caller, roles, fields in (
        (other, LEARNER, {}),
        (other, LEARNER, {"user_id": user}),
        (other, frozenset({"instructor"}), {}),
        ("boss", frozenset({"admin"}), {"user_id": other}),
        (user, LEARNER, {"user_id": other}),
    ):
        outcomes = await world.send([read(world, caller, session, roles=roles, **fields)])
        assert reasons(outcomes) == [Reason.NOT_FOUND], (caller, fields)
    malformed = await world.send([read(world, user, "no-session"), read(world, user, session.upper())])
    assert reasons(malformed) == [Reason.NOT_FOUND] * 2
    for caller, roles in (
        (user, LEARNER),
        ("teacher", frozenset({"instructor"})),
        ("boss", frozenset({"admin"})),
    ):
        page = await world.one(read(world, caller, session, roles=roles, user_id=user))
        assert kinds(list(page.events)) == ["STARTED"]


async def test_the_accepted_answers_of_a_live_session_are_not_in_its_timeline(world: World) -> None:
    user, session = await begun(world)
    await world.one(world.answer(user, session, "a", "q1", "wrong"))
    page = await world.one(read(world, user, session))
    assert b"right" not in page.SerializeToString()


async def test_pages_are_stable_while_the_session_goes_on(world: World) -> None:
    user, session = await begun(world)
    for n in range(4):
        await world.one(world.answer(user, session, f"a{n}", f"q{n % 3 + 1}", "x"))
    first = await world.one(read(world, user, session, page_size=3))
    for n in range(4, 8):
        await world.one(world.answer(user, session, f"a{n}", "q1", "y"))
    second = await world.one(read(world, user, session, page_size=100, page_token=first.next_page_token))
    assert [event.version for event in [*first.events, *second.events]] == list(range(1, 10))
    assert await timeline(world, user, session, page_size=2) == [*first.events, *second.events]


async def test_repeated_refusals_fill_no_table(world: World) -> None:
    user, session = await begun(world)
    await world.one(world.complete(user, session, "c"))
    late = [world.answer(user, session, f"a{n}", "q1", "x") for n in range(EVENTS_PER_VERSION_MAX // 2 + 7)]
    for _ in range(2):
        assert set(reasons(await world.send(late))) == {Reason.SESSION_CLOSED}
    events = await timeline(world, user, session)
    assert kinds(events).count("REFUSED") + kinds(events).count("COMPLETED") <= EVENTS_PER_VERSION_MAX
    assert kinds(events)[1] == "COMPLETED"


async def test_a_timeline_from_before_its_tables_is_told_by_what_there_is(world: World) -> None:
    user, session = await begun(world)
    for n in range(3):
        await world.one(world.answer(user, session, f"a{n}", "q1", f"choice {n}"))
    await world.one(world.abandon(user, session, "x"))
    await world.truth.execute("DELETE FROM session_events WHERE user_id = $1", user)
    await world.truth.execute(
        "UPDATE answers SET version = NULL, request_id = NULL, trace_id = NULL WHERE user_id = $1", user
    )
    await world.truth.execute(
        "UPDATE sessions SET start_request_id = NULL, start_trace_id = NULL WHERE user_id = $1", user
    )
    events = await timeline(world, user, session, page_size=2)
    assert kinds(events) == ["STARTED", "ANSWERED", "ANSWERED", "ANSWERED", "ABANDONED"]
    assert [event.answer.choice for event in events[1:4]] == ["choice 0", "choice 1", "choice 2"]
    assert {event.request_id for event in events} == {""}


async def test_timeline_and_state_agree_whatever_tabs_do_at_once(world: World) -> None:
    chance = random.Random(f"timeline {random.random()}")
    user, session = await begun(world)
    items = [world.answer(user, session, f"a{n}", f"q{n % 3 + 1}", f"right {n % 3 + 1}") for n in range(24)]
    items += [world.complete(user, session, "c"), world.abandon(user, session, "x")]
    chance.shuffle(items)
    found = await asyncio.gather(*(world.send([item]) for item in items))
    (row,) = await world.sessions(user)
    events = await timeline(world, user, session, page_size=7)
    told = kinds(events)
    assert told.count("ANSWERED") == row["answers_given"]
    ends = [kind for kind in told if kind in {"COMPLETED", "ABANDONED", "EXPIRED"}]
    assert ends == [row["state"].upper()]
    changes = [event for event in events if event.kind != Kind.REFUSED]
    assert [event.version for event in changes] == list(range(1, row["version"] + 1))
    refused = [reason for (outcome,) in found for reason in reasons([outcome]) if reason in REFUSALS_TOLD]
    assert told.count("REFUSED") == len(refused)


async def test_a_refusal_that_cannot_be_told_hurts_nobody_in_its_batch(world: World) -> None:
    user, session = await begun(world)
    polite = [await begun(world) for _ in range(3)]
    await world.one(world.complete(user, session, "c"))
    rude = by(world.answer(user, session, "a", "q1", "x"), "nul\0")
    outcomes = await world.send([rude, *(world.answer(u, s, "a", "q1", "right 1") for u, s in polite)])
    assert reasons(outcomes[1:]) == [None] * 3
    assert isinstance(outcomes[0], ServiceError)
    assert (await world.get(user, session)).state == Session.COMPLETED


def test_the_table_knows_each_kind_that_has_a_row_of_its_own() -> None:
    told_elsewhere = {EventKind.STARTED, EventKind.ANSWERED}
    assert {kind.value for kind in set(EventKind) - told_elsewhere} == {
        "paused",
        "resumed",
        "completed",
        "abandoned",
        "expired",
        "refused",
    }


@pytest.mark.parametrize(
    ("constraint", "values"),
    [
        ("session_events_kind_known", ("bored", 1, 1, "")),
        ("session_events_numbers_bounded", ("paused", 0, 1, "")),
        ("session_events_numbers_bounded", ("paused", 1, 1001, "")),
        ("session_events_texts_bounded", ("paused", 1, 1, "é" * 501)),
    ],
)
async def test_the_table_bounds_an_event(world: World, constraint: str, values: tuple[Any, ...]) -> None:
    user, session = await begun(world)
    with pytest.raises(asyncpg.CheckViolationError) as refusal:
        await world.truth.execute(
            "INSERT INTO session_events (user_id, session_id, version, number, kind, happened_at, actor_id,"
            " request_id, reason, note) VALUES ($1, $2::uuid, $4, $5, $3, now(), '', '', '', $6)",
            user,
            session,
            *values,
        )
    assert refusal.value.constraint_name == constraint
