"""Identity checks: enrolled, asked at random moments, counted three times at most, locked, and released."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from chassis.batch import Reply
from chassis.errors import Reason, ServiceError
from chassis.rpc.servicing import fingerprint
from protos.session.v1 import identity_pb2 as pb
from tests.session.world import GRACE, IDENTITY_RULES, Session, World, body, reasons, unique

IDENTITY = "homeroom.session.v1.IdentityService"
QUESTIONS = [("First pet?", "Rex  the\tDog"), ("Street?", "Straße 5"), ("Teacher?", "\uff2d\uff53 Noether")]
RIGHT = {"First pet?": " rex the dog", "Street?": "STRASSE 5 ", "Teacher?": "ms noether"}


def enrolling(world: World, user: str, questions: list[tuple[str, str]] = QUESTIONS) -> Any:
    request = pb.PutIdentityQuestionsRequest(
        questions=[pb.EnrolledQuestion(prompt=prompt, answer=answer) for prompt, answer in questions]
    )
    return world.item(f"/{IDENTITY}/PutIdentityQuestions", request, user=user)


def asking(world: World, user: str, session: str) -> Any:
    request = pb.GetIdentityChecksRequest(session_id=session)
    return world.item(f"/{IDENTITY}/GetIdentityChecks", request, user=user)


def trying(  # noqa: PLR0917 - as short at its many calls as it can be
    world: World, user: str, session: str, key: str, answer: str, check: str = "1"
) -> Any:
    request = pb.AnswerIdentityCheckRequest(session_id=session, check_id=check, answer=answer)
    return traced(world.item(f"/{IDENTITY}/AnswerIdentityCheck", request, user=user, key=key))


def releasing(world: World, user: str, session: str, key: str, reason: str = "seen on video") -> Any:
    request = pb.ReleaseSessionRequest(user_id=user, session_id=session, reason=reason)
    return world.item(f"/{IDENTITY}/ReleaseSession", request, user="admin", key=key)


def traced(item: Any) -> Any:
    return item._replace(context=item.context._replace(request_id="request-7"))


async def checks(world: World, user: str, session: str) -> Any:
    return (await world.one(asking(world, user, session))).checks


async def begun(world: World, *, enrolled: bool = True, **test: Any) -> tuple[str, str]:
    user = await world.learner()
    if enrolled:
        await world.one(enrolling(world, user))
    test_id = await world.test(**({"identity_checks": 2} | test))
    return user, (await world.started(user, test_id, "start")).session_id


async def let_it_come(world: World, session: str, *, lapsed: bool = False) -> None:
    """The check is due now; or its time is over already."""
    await world.truth.execute(
        "UPDATE sessions SET identity_due_seconds = 0, identity_lapse_seconds = $2"
        " WHERE session_id = $1::uuid",
        session,
        1e-6 if lapsed else 1e6,
    )


async def history(world: World, user: str) -> list[tuple[int, int, str]]:
    rows = await world.truth.fetch(
        "SELECT check_number, step, kind FROM identity_events WHERE user_id = $1"
        " ORDER BY session_id, check_number, step",
        user,
    )
    return [tuple(row) for row in rows]


# --- enrolling -------------------------------------------------------------------------------------------


async def test_answers_are_stored_as_salted_hashes_only(world: World) -> None:
    user = await world.learner()
    enrolled = (
        await world.one(enrolling(world, user, [(f"Same {n}?", "secret") for n in range(3)]))
    ).enrollment
    assert (list(enrolled.prompts), enrolled.version) == (["Same 0?", "Same 1?", "Same 2?"], 1)
    rows = await world.truth.fetch("SELECT * FROM identity_questions WHERE user_id = $1", user)
    assert len({row["salt"] for row in rows}) == len({row["digest"] for row in rows}) == 3
    assert not any("secret" in str(value) or value == b"secret" for row in rows for value in row.values())
    read = await world.one(
        world.item(f"/{IDENTITY}/GetIdentityQuestions", pb.GetIdentityQuestionsRequest(), user=user)
    )
    assert read.enrollment == enrolled


async def test_enrolling_again_replaces_all_questions(world: World) -> None:
    user = await world.learner()
    await world.one(enrolling(world, user, [*QUESTIONS, ("One more?", "yes")]))
    second = (await world.one(enrolling(world, user, [(f"New {n}?", "x") for n in range(3)]))).enrollment
    assert (list(second.prompts), second.version) == (["New 0?", "New 1?", "New 2?"], 2)


async def test_forty_enrollments_at_once_leave_one_of_them_whole(world: World) -> None:
    user = await world.learner()
    batches = [
        [enrolling(world, user, [(f"{n} {k}?", "x") for k in range(3 + n % 4)])] * 2 for n in range(20)
    ]
    outcomes = [o for found in await asyncio.gather(*map(world.send, batches)) for o in found]
    assert set(reasons(outcomes)) <= {None, Reason.OVERLOADED, Reason.UNAVAILABLE}
    rows = await world.truth.fetch("SELECT prompt FROM identity_questions WHERE user_id = $1", user)
    numbers = {row["prompt"].split()[0] for row in rows}
    assert len(numbers) == 1
    assert len(rows) == 3 + int(numbers.pop()) % 4


@pytest.mark.parametrize(
    ("questions", "field"),
    [
        ([*QUESTIONS[:2], ("  first   PET? ", "x")], "questions[2].prompt"),
        ([*QUESTIONS[:2], ("Empty?", " \t ")], "questions[2].answer"),
        ([*QUESTIONS[:2], ("Nul?", "a\0b")], "questions[2]"),
    ],
)
async def test_what_cannot_be_asked_is_refused_alone(world: World, questions: Any, field: str) -> None:
    rude, polite = await world.learner(), await world.learner()
    outcomes = await world.send([enrolling(world, rude, questions), enrolling(world, polite)])
    assert reasons(outcomes) == [Reason.INVALID_ARGUMENT, None]
    assert outcomes[0].violations[0].field == field


async def test_questions_cannot_change_while_a_session_still_asks_them(world: World) -> None:
    user, session = await begun(world)
    refusal = (await world.send([enrolling(world, user)]))[0]
    assert refusal.reason is Reason.IDENTITY_LOCKED
    assert refusal.metadata == {"state": "IN_USE", "sessionId": session}
    await world.one(world.abandon(user, session, "a"))
    assert reasons(await world.send([enrolling(world, user)])) == [None]


async def test_questions_cannot_change_in_the_grace_after_the_deadline(world: World) -> None:
    user, session = await begun(world, time_limit_seconds=60)
    await world.later(session, timedelta(seconds=60))
    assert reasons(await world.send([enrolling(world, user)])) == [Reason.IDENTITY_LOCKED]
    await world.later(session, GRACE)
    assert reasons(await world.send([enrolling(world, user)])) == [None]


async def test_a_learner_with_too_many_answers_at_once_is_refused_and_others_are_not(world: World) -> None:
    rude, polite = await world.learner(), await world.learner()
    ten = [(f"{n}?", "x") for n in range(10)]
    items = [*(enrolling(world, rude, ten) for _ in range(6)), enrolling(world, polite)]
    outcomes = await world.send(items)
    assert reasons(outcomes) == [None, *[Reason.OVERLOADED] * 5, None]
    assert outcomes[1].retry_after_seconds is not None


# --- starting --------------------------------------------------------------------------------------------


async def test_a_start_without_enrollment_is_refused_before_it_takes_a_unit(world: World) -> None:
    user, other = await world.learner(limit=1), await world.learner(limit=1)
    test_id = await world.test(identity_checks=1)
    await world.one(enrolling(world, other))
    outcomes = await world.send([world.start(user, test_id, "s"), world.start(other, test_id, "s")])
    assert reasons(outcomes) == [Reason.IDENTITY_LOCKED, None]
    assert outcomes[0].metadata == {"state": "NOT_ENROLLED", "identityChecks": 1}
    assert await world.holds(user) == {}
    await world.one(enrolling(world, user))
    assert reasons(await world.send([world.start(user, test_id, "s")])) == [None]


async def test_the_first_check_comes_at_a_random_moment_in_its_part_of_the_time(world: World) -> None:
    moments = set()
    for _ in range(5):
        _, session = await begun(world, identity_checks=4, min_engaged_seconds=400, time_limit_seconds=3600)
        row = await world.truth.fetchrow(
            "SELECT identity_due_seconds AS due, identity_lapse_seconds - identity_due_seconds AS allowed"
            " FROM sessions WHERE session_id = $1::uuid",
            session,
        )
        assert row is not None
        assert 0 <= row["due"] < 100
        assert row["allowed"] == pytest.approx(IDENTITY_RULES.answer_seconds)
        moments.add(row["due"])
    assert len(moments) == 5


async def test_a_test_without_checks_asks_none(world: World) -> None:
    user, session = await begun(world, enrolled=False, identity_checks=0)
    seen = await checks(world, user, session)
    assert (seen.total, seen.locked, seen.HasField("check")) == (0, False, False)
    assert reasons(await world.send([trying(world, user, session, "t", "x")])) == [Reason.NOT_FOUND]
    await world.one(world.complete(user, session, "c"))


# --- answering -------------------------------------------------------------------------------------------


async def test_a_session_asks_all_its_checks_and_is_completed_between_them(world: World) -> None:
    user, session = await begun(world)
    for number in ("1", "2"):
        seen = await checks(world, user, session)
        assert (seen.passed, seen.HasField("check"), seen.locked) == (int(number) - 1, False, False)
        await let_it_come(world, session)
        seen = await checks(world, user, session)
        assert (seen.check.check_id, seen.check.attempts_left, seen.total) == (number, 3, 2)
        (refusal,) = await world.send([world.complete(user, session, f"early {number}")])
        assert (refusal.reason, refusal.metadata) == (Reason.IDENTITY_LOCKED, {"state": "CHECK_DUE"})
        assert reasons(await world.send([world.answer(user, session, f"a{number}", "q1", "right 1")])) == [
            None
        ]
        answer = RIGHT[seen.check.prompt]
        judged = await world.one(trying(world, user, session, f"t{number}", answer, number))
        assert (judged.passed, judged.attempts_left, judged.state, judged.locked) == (
            True, 0, Session.ACTIVE, False,
        )  # fmt: skip
    assert (await checks(world, user, session)).passed == 2
    completed = (await world.one(world.complete(user, session, "c"))).session
    assert completed.state == Session.COMPLETED
    assert await history(world, user) == [(1, 1, "passed"), (2, 1, "passed")]


async def test_the_third_wrong_answer_locks_the_session(world: World) -> None:
    user, session = await begun(world)
    await let_it_come(world, session)
    left = []
    for n in range(3):
        judged = await world.one(trying(world, user, session, f"t{n}", "wrong"))
        left.append((judged.passed, judged.attempts_left, judged.locked))
    assert left == [(False, 2, False), (False, 1, False), (False, 0, True)]
    for item in (
        trying(world, user, session, "t9", "wrong"),
        world.answer(user, session, "a", "q1", "right 1"),
        world.complete(user, session, "c"),
    ):
        (refusal,) = await world.send([item])
        assert (refusal.reason, refusal.metadata) == (Reason.IDENTITY_LOCKED, {"state": "LOCKED"})
    seen = await checks(world, user, session)
    assert (seen.locked, seen.HasField("check")) == (True, False)
    rows = await world.truth.fetch("SELECT * FROM identity_events WHERE user_id = $1 ORDER BY step", user)
    assert [(row["step"], row["by_user"], row["request_id"]) for row in rows] == [
        (n, user, "request-7") for n in (1, 2, 3)
    ]
    assert not any("wrong" in str(value) for row in rows for value in row.values())


async def test_a_locked_session_can_still_be_abandoned(world: World) -> None:
    user, session = await begun(world)
    await let_it_come(world, session, lapsed=True)
    assert (await world.one(world.abandon(user, session, "a"))).session.state == Session.ABANDONED


async def test_sixty_tries_at_once_count_three(world: World) -> None:
    user, session = await begun(world)
    await let_it_come(world, session)
    replicas = [world.assemble() for _ in range(3)]
    found = await asyncio.gather(
        *(
            world.send(
                [trying(world, user, session, f"t{n}-{k}", "wrong") for k in range(5)], replicas[n % 3]
            )
            for n in range(12)
        )
    )
    outcomes = [outcome for batch in found for outcome in batch]
    counted = [outcome for outcome in outcomes if isinstance(outcome, Reply)]
    assert len(counted) == 3
    assert set(reasons(outcomes)) <= {None, Reason.IDENTITY_LOCKED, Reason.OVERLOADED, Reason.UNAVAILABLE}
    assert await history(world, user) == [(1, 1, "failed"), (1, 2, "failed"), (1, 3, "failed")]
    assert (await checks(world, user, session)).locked


async def test_a_right_answer_beside_wrong_ones_behaves_as_in_some_order(world: World) -> None:
    user, session = await begun(world)
    await let_it_come(world, session)
    right = RIGHT[(await checks(world, user, session)).check.prompt]
    items = [trying(world, user, session, f"t{n}", right if n == 1 else "wrong") for n in range(4)]
    outcomes = await world.send(items)
    assert reasons(outcomes) == [None, None, Reason.NOT_FOUND, Reason.NOT_FOUND]
    assert [body(i, o).passed for i, o in zip(items[:2], outcomes[:2], strict=True)] == [False, True]
    assert await history(world, user) == [(1, 1, "failed"), (1, 2, "passed")]


async def test_a_try_sent_again_is_a_replay_and_counts_once(world: World) -> None:
    user, session = await begun(world)
    await let_it_come(world, session)
    item = trying(world, user, session, "t", "wrong")
    found = await asyncio.gather(*(world.send([item] * 2) for _ in range(4)))
    outcomes = [outcome for batch in found for outcome in batch]
    assert reasons(outcomes) == [None] * 8
    assert len({outcome.payload() for outcome in outcomes}) == 1
    assert sum(not outcome.replayed for outcome in outcomes) == 1
    (other,) = await world.send([trying(world, user, session, "t", "another")])
    assert other.reason is Reason.IDEMPOTENCY_KEY_REUSED
    assert await history(world, user) == [(1, 1, "failed")]


async def test_the_stored_key_is_no_fast_hash_of_the_answer(world: World) -> None:
    """Whoever reads the table cannot try answers against it: the fingerprint needs a secret."""
    user, session = await begun(world)
    await let_it_come(world, session)
    item = trying(world, user, session, "t", "wrong")
    await world.one(item)
    stored = await world.truth.fetchval(
        "SELECT fingerprint FROM idempotency_keys WHERE user_id = $1 AND key = 't'", user
    )
    assert stored != fingerprint(item.context.method, item.request)


async def test_a_cancelled_try_counts_once_with_its_key(world: World) -> None:
    user, session = await begun(world)
    await let_it_come(world, session)
    for delay in (0.0, 0.002, 0.004, 0.008, 0.016):
        item = trying(world, user, session, "t", "wrong")
        task = asyncio.create_task(world.send([item]))
        await asyncio.wait({task}, timeout=delay)
        task.cancel()
        await asyncio.wait({task})
    assert reasons(await world.send([trying(world, user, session, "t", "wrong")])) == [None]
    assert await history(world, user) == [(1, 1, "failed")]


async def test_a_check_that_nobody_answers_locks_the_session_by_itself(world: World) -> None:
    user, session = await begun(world)
    await let_it_come(world, session, lapsed=True)
    assert reasons(await world.send([world.answer(user, session, "a", "q1", "right 1")])) == [
        Reason.IDENTITY_LOCKED
    ]
    assert (await checks(world, user, session)).locked
    assert await history(world, user) == []
    (refusal,) = await world.send([trying(world, user, session, "t", "too late")])
    assert refusal.reason is Reason.IDENTITY_LOCKED
    assert await history(world, user) == [(1, 1, "lapsed")]
    assert reasons(await world.send([trying(world, user, session, "t", "too late")])) == [
        Reason.IDENTITY_LOCKED
    ]
    assert await history(world, user) == [(1, 1, "lapsed")]


async def test_a_late_answer_does_not_count_for_the_next_check(world: World) -> None:
    user, session = await begun(world)
    await let_it_come(world, session)
    right = RIGHT[(await checks(world, user, session)).check.prompt]
    await world.one(trying(world, user, session, "t", right))
    await let_it_come(world, session)
    assert reasons(await world.send([trying(world, user, session, "u", "late", "1")])) == [Reason.NOT_FOUND]
    assert await history(world, user) == [(1, 1, "passed")]


@pytest.mark.parametrize("check", ["0", "-1", "x", "9" * 20, "²"])
async def test_a_check_that_cannot_be_is_refused_alone(world: World, check: str) -> None:
    user, session = await begun(world)
    await let_it_come(world, session)
    outcomes = await world.send(
        [trying(world, user, session, "t", "wrong", check), trying(world, user, session, "u", "wrong")]
    )
    assert reasons(outcomes) == [Reason.NOT_FOUND, None]


async def test_nobody_sees_or_answers_the_checks_of_another_learner(world: World) -> None:
    _, session = await begun(world)
    await let_it_come(world, session)
    stranger = await world.learner()
    assert reasons(await world.send([asking(world, stranger, session)])) == [Reason.NOT_FOUND]
    assert reasons(await world.send([trying(world, stranger, session, "t", "x")])) == [Reason.NOT_FOUND]


async def test_wrong_answers_of_a_day_are_bounded_over_all_sessions(world: World) -> None:
    user = await world.learner()
    await world.one(enrolling(world, user))
    sessions = []
    for n in range(3):
        test_id = await world.test(identity_checks=1)
        sessions.append((await world.started(user, test_id, f"s{n}")).session_id)
        await let_it_come(world, sessions[-1])
    parts = world.assemble(identity_rules=replace(IDENTITY_RULES, failures_per_day_max=5))
    found = await asyncio.gather(
        *(
            world.send([trying(world, user, session, f"{session}{n}", "wrong") for n in range(3)], parts)
            for session in sessions
        )
    )
    outcomes = [outcome for batch in found for outcome in batch]
    assert len([outcome for outcome in outcomes if isinstance(outcome, Reply)]) == 5
    assert set(reasons(outcomes)) == {None, Reason.RATE_LIMITED}
    assert len(await history(world, user)) == 5


async def test_after_the_deadline_a_try_is_refused_and_not_counted(world: World) -> None:
    user, session = await begun(world, time_limit_seconds=60)
    await let_it_come(world, session)
    await world.overdue(session)
    assert reasons(await world.send([trying(world, user, session, "t", "wrong")])) == [Reason.DEADLINE_PASSED]
    assert await history(world, user) == []


async def test_a_learner_who_is_locked_elsewhere_delays_only_their_own_tries(world: World) -> None:
    begun_ones = [await begun(world) for _ in range(3)]
    for _, session in begun_ones:
        await let_it_come(world, session)
    items = [trying(world, user, session, "t", "wrong") for user, session in begun_ones]
    locking = world.truth.transaction()
    await locking.start()
    await world.truth.execute(
        "SELECT 1 FROM identity_enrollments WHERE user_id = $1 FOR UPDATE", begun_ones[1][0]
    )
    try:
        outcomes = await world.send(items)
    finally:
        await locking.rollback()
    assert reasons(outcomes) == [None, Reason.UNAVAILABLE, None]
    assert reasons(await world.send([items[1]])) == [None]


async def test_a_session_with_a_check_that_is_due_cannot_be_paused(world: World) -> None:
    user, session = await begun(world)
    await let_it_come(world, session)
    (refusal,) = await world.send([world.pause(user, session, "p")])
    assert (refusal.reason, refusal.metadata) == (Reason.IDENTITY_LOCKED, {"state": "CHECK_DUE"})


async def test_a_pause_lets_no_check_come_and_none_lapse(world: World) -> None:
    user, session = await begun(world)
    await world.one(world.pause(user, session, "p"))
    await world.truth.execute(
        "UPDATE sessions SET started_at = now() - interval '20 minutes',"
        " paused_at = now() - interval '19 minutes', identity_due_seconds = 70,"
        " identity_lapse_seconds = 190 WHERE session_id = $1::uuid",
        session,
    )
    assert not (await checks(world, user, session)).HasField("check")
    await world.one(world.resume(user, session, "r"))
    seen = await checks(world, user, session)
    assert (seen.HasField("check"), seen.locked) == (False, False)
    await world.truth.execute(
        "UPDATE sessions SET started_at = started_at - interval '1 minute' WHERE session_id = $1::uuid",
        session,
    )
    assert (await checks(world, user, session)).check.check_id == "1"


@pytest.mark.parametrize("lapsed", [False, True])
async def test_a_session_that_times_out_with_an_open_check_does_not_pass(world: World, lapsed: bool) -> None:
    user, session = await begun(world, time_limit_seconds=60)
    await world.one(world.answer(user, session, "a", "q1", "right 1"))
    await let_it_come(world, session, lapsed=lapsed)
    await world.overdue(session)
    assert (await world.get(user, session)).passed is False


# --- engaged time ----------------------------------------------------------------------------------------


async def engaged(world: World, session: str, seconds: float) -> None:
    await world.truth.execute(
        "UPDATE sessions SET engaged_seconds = $2 WHERE session_id = $1::uuid", session, seconds
    )


async def test_completing_needs_the_engaged_time_of_the_test(world: World) -> None:
    user, session = await begun(world, identity_checks=0, min_engaged_seconds=300)
    polite_user, polite = await begun(world, identity_checks=0)
    await engaged(world, session, 299.5)
    item = world.complete(user, session, "c")
    outcomes = await world.send([item, world.complete(polite_user, polite, "c")])
    assert reasons(outcomes) == [Reason.ENGAGEMENT_TOO_LOW, None]
    assert outcomes[0].metadata == {"neededSeconds": 300, "engagedSeconds": 299.5}
    await engaged(world, session, 300.0)
    assert (await world.one(item)).session.state == Session.COMPLETED
    await engaged(world, session, 0.0)
    (again,) = await world.send([world.complete(user, session, "d")])
    assert isinstance(again, Reply)


@pytest.mark.parametrize(("seconds", "passed"), [(10.0, False), (400.0, True)])
async def test_a_session_that_times_out_passes_only_with_its_engaged_time(
    world: World, seconds: float, passed: bool
) -> None:
    test = {"identity_checks": 0, "min_engaged_seconds": 300, "time_limit_seconds": 600}
    user, session = await begun(world, **test)
    await world.one(world.answer(user, session, "a", "q1", "right 1"))
    await engaged(world, session, seconds)
    await world.overdue(session)
    assert (await world.get(user, session)).passed is passed


# --- releasing -------------------------------------------------------------------------------------------


async def test_an_administrator_releases_a_locked_session_and_another_check_comes(world: World) -> None:
    user, session = await begun(world)
    await let_it_come(world, session)
    for n in range(3):
        await world.one(trying(world, user, session, f"t{n}", "wrong"))
    item = releasing(world, user, session, unique("r"))
    released = (await world.one(item)).checks
    assert (released.locked, released.passed, released.HasField("check")) == (False, 0, False)
    (replay,) = await world.send([item])
    assert replay.replayed
    assert reasons(await world.send([releasing(world, user, session, unique("r"))])) == [
        Reason.ILLEGAL_TRANSITION
    ]
    assert reasons(await world.send([world.answer(user, session, "a", "q1", "right 1")])) == [None]
    await let_it_come(world, session)
    seen = (await checks(world, user, session)).check
    assert (seen.check_id, seen.attempts_left) == ("2", 3)
    await world.one(trying(world, user, session, "u", RIGHT[seen.prompt], "2"))
    assert await history(world, user) == [
        (1, 1, "failed"), (1, 2, "failed"), (1, 3, "failed"), (1, 4, "released"), (2, 1, "passed"),
    ]  # fmt: skip
    request = pb.ListIdentityEventsRequest(user_id=user, session_id=session, page_size=4)
    page = await world.one(world.item(f"/{IDENTITY}/ListIdentityEvents", request, user="admin"))
    last = page.events[3]
    assert (last.kind, last.by, last.reason) == (pb.IdentityEvent.RELEASED, "admin", "seen on video")
    request.page_token = page.next_page_token
    page = await world.one(world.item(f"/{IDENTITY}/ListIdentityEvents", request, user="admin"))
    assert [(event.check_id, event.step) for event in page.events] == [("2", 1)]


async def test_a_release_of_a_lapsed_check_notes_the_lapse(world: World) -> None:
    user, session = await begun(world)
    await let_it_come(world, session, lapsed=True)
    found = await asyncio.gather(
        *(world.send([releasing(world, user, session, unique("r"))]) for n in range(4))
    )
    outcomes = [outcome for batch in found for outcome in batch]
    assert sorted(map(str, reasons(outcomes))) == sorted(map(str, [None, *[Reason.ILLEGAL_TRANSITION] * 3]))
    assert await history(world, user) == [(1, 1, "lapsed"), (1, 2, "released")]


async def test_only_a_live_session_can_be_released(world: World) -> None:
    user, session = await begun(world)
    await let_it_come(world, session, lapsed=True)
    await world.one(world.abandon(user, session, "a"))
    assert reasons(await world.send([releasing(world, user, session, unique("r"))])) == [
        Reason.SESSION_CLOSED
    ]
    nobody = releasing(world, unique("nobody"), session, unique("r"))
    assert reasons(await world.send([nobody])) == [Reason.NOT_FOUND]


# --- the tables ------------------------------------------------------------------------------------------

EVENT = (
    "INSERT INTO identity_events (user_id, session_id, check_number, step, kind, by_user, reason, request_id,"
    " recorded_at) VALUES ($1, $2::uuid, 1, $3, $4, '', $5, '', now())"
)


@pytest.mark.parametrize(
    ("constraint", "step", "kind", "reason"),
    [
        ("identity_events_three_tries", 4, "failed", ""),
        ("identity_events_three_tries", 4, "passed", ""),
        ("identity_events_three_tries", 5, "released", "why"),
        ("identity_events_release_has_a_reason", 1, "released", ""),
        ("identity_events_kind_known", 1, "guessed", ""),
    ],
)
async def test_the_table_counts_three_tries_at_most(
    world: World, constraint: str, step: int, kind: str, reason: str
) -> None:
    user, session = await begun(world)
    with pytest.raises(asyncpg.CheckViolationError) as refusal:
        await world.truth.execute(EVENT, user, session, step, kind, reason)
    assert refusal.value.constraint_name == constraint


async def test_one_try_cannot_be_counted_twice(world: World) -> None:
    user, session = await begun(world)
    await world.truth.execute(EVENT, user, session, 1, "failed", "")
    with pytest.raises(asyncpg.UniqueViolationError):
        await world.truth.execute(EVENT, user, session, 1, "failed", "")


async def test_a_refusal_is_a_refusal_of_the_contract(world: World) -> None:
    with pytest.raises(ServiceError) as refusal:
        await world.one(asking(world, await world.learner(), "no-uuid"))
    assert refusal.value.reason is Reason.NOT_FOUND
