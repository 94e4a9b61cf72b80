"""The life of a session as a pure function: whatever happens to it, in whatever order."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import Reason, ServiceError
from session_service.domain import moves, papers, sessions
from session_service.domain.authors import THE_SERVICE
from session_service.domain.holds import hold_request, subject_test
from session_service.domain.ids import HoldId, SessionId, hold_id_of, parse_session_id
from session_service.domain.sessions import LatestAnswer, Session, StartRequest
from session_service.domain.states import CLOSED_STATES, LIVE_STATES, MOVES, SessionState, require_move
from session_service.domain.tests import Definition, Edition, Kind, Question, normalized

GRACE = timedelta(seconds=3)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def definition(**changes: object) -> Definition:
    fields: dict[str, object] = {
        "title": "A test",
        "kind": Kind.PRACTICE,
        "difficulty": "",
        "question_count": 10,
        "time_limit_seconds": None,
        "max_attempts": None,
        "credit_cost": 0,
        "counts_toward_daily_limit": True,
        "pass_score": None,
        "specialization": None,
        "xp": None,
        "min_engaged_seconds": None,
        "identity_checks": None,
    }
    return Definition(**(fields | changes))


def edition(questions: int, **changes: object) -> Edition:
    return Edition(
        "t",
        1,
        definition(**changes),
        tuple(Question(f"q{n}", "?", (), (f"yes {n}",)) for n in range(questions)),
    )


def begin(of: Edition, duration_minutes: int | None = None) -> Session:
    return sessions.start(
        StartRequest("t", None, None, duration_minutes, {}),
        edition=of,
        user_id="u",
        session_id=SessionId(uuid.UUID(int=1)),
        hold_id=HoldId(uuid.UUID(int=2)),
        attempt=1,
        attempts_before=0,
        author=THE_SERVICE,
        draw=papers.AS_THEY_ARE,
        now=NOON,
    )


# What can happen: an answer (to a question, right or wrong), or an end.
answers = st.tuples(st.integers(0, 4), st.booleans())
ends = st.sampled_from(["complete", "abandon", "expire"])
stories = st.lists(st.one_of(answers, ends), max_size=30)


@dataclass
class Model:
    """The same life, told by lists."""

    given: list[tuple[int, bool]] = field(default_factory=list)
    end: str | None = None

    @property
    def latest(self) -> dict[int, bool]:
        return dict(self.given)


def happen(session: Session, of: Edition, event: Any, latest: dict[int, LatestAnswer]) -> Session:
    """One event of a story; `latest` tells how each question was last answered."""
    later = NOON + timedelta(seconds=30)
    if event == "complete":
        return moves.complete(session, of.definition, now=later)
    if event == "abandon":
        return moves.abandon(session, now=later)
    if event == "expire":
        return moves.expire(session, of.definition, GRACE)
    question, correct = event
    sessions.require_open(session)
    return sessions.with_answer(session, correct=correct, previous=latest.get(question), now=later)


@given(stories, st.integers(0, 5), st.one_of(st.none(), st.floats(0, 1)), st.integers(0, 100))
def test_every_story_leaves_the_counts_and_the_end_that_its_events_say(
    story: list[Any], questions: int, pass_score: float | None, xp: int
) -> None:
    of = edition(questions, pass_score=pass_score, xp=xp, time_limit_seconds=60)
    session, model = begin(of), Model()
    latest: dict[int, LatestAnswer] = {}
    for event in story:
        if not isinstance(event, str) and event[0] >= questions:
            continue
        if model.end is not None:
            with pytest.raises(ServiceError) as refusal:
                happen(session, of, event, latest)
            over = Reason.DEADLINE_PASSED if model.end == "expire" else Reason.SESSION_CLOSED
            assert refusal.value.reason is (Reason.ILLEGAL_TRANSITION if isinstance(event, str) else over)
            continue
        after = happen(session, of, event, latest)
        assert after.version == session.version + 1
        session = after
        if isinstance(event, str):
            model.end = event
        else:
            question, correct = event
            model.given.append(event)
            attempt = sum(asked == question for asked, _ in model.given)
            latest[question] = LatestAnswer(attempt, correct)

    assert session.live is (model.end is None)
    assert session.answers_given == len(model.given)
    assert session.answers_correct == sum(correct for _, correct in model.given)
    assert session.answered == len(model.latest) <= session.total == questions
    assert session.solved == sum(model.latest.values())
    score = session.solved / questions if questions else None
    if model.end is None:
        assert (session.score, session.passed, session.closed_at) == (None, None, None)
        return
    assert session.score == score
    counts = bool(model.given) or (questions == 0 and model.end == "complete")
    enough = pass_score is None or score is None or score >= pass_score
    passed = model.end in {"complete", "expire"} and counts and enough
    assert session.passed is passed
    assert sessions.earned_xp(session, of.definition) == (xp if passed else 0)
    assert sessions.spends_hold(session) is counts
    assert (session.submitted_at is not None) is (model.end == "complete")


def test_live_states_are_those_with_moves_and_closed_ones_are_final() -> None:
    assert {SessionState.ACTIVE, SessionState.PAUSED} == LIVE_STATES
    assert CLOSED_STATES | LIVE_STATES == set(SessionState) == set(MOVES)
    assert not CLOSED_STATES & LIVE_STATES
    assert all(MOVES[state] >= CLOSED_STATES for state in LIVE_STATES), (
        "whatever is live can end in every way"
    )


@given(st.sampled_from(SessionState), st.sampled_from(SessionState))
def test_a_move_is_legal_exactly_if_the_table_has_it(before: SessionState, after: SessionState) -> None:
    if after in MOVES[before]:
        require_move(before, after)
        return
    with pytest.raises(ServiceError) as refusal:
        require_move(before, after)
    assert refusal.value.reason is Reason.ILLEGAL_TRANSITION
    assert refusal.value.metadata == {"from": before.name, "to": after.name}


@given(st.one_of(st.none(), st.integers(1, 10_000)), st.one_of(st.none(), st.integers(1, 100)))
def test_a_learner_can_shorten_the_time_and_not_lengthen_it(
    limit_seconds: int | None, minutes: int | None
) -> None:
    session = begin(edition(1, time_limit_seconds=limit_seconds), minutes)
    limits = [limit for limit in (limit_seconds, minutes and minutes * 60) if limit is not None]
    if not limits:
        assert session.deadline_at is None
        assert not session.overdue(NOON + timedelta(days=10_000), GRACE)
        return
    assert session.deadline_at == NOON + timedelta(seconds=min(limits))
    over_at = session.deadline_at + GRACE
    early = over_at - timedelta(microseconds=1)
    assert not session.overdue(early, GRACE)
    assert session.overdue(over_at, GRACE)
    assert moves.as_of(session, definition(), now=early, grace=GRACE) is session
    expired = moves.expire(session, definition(), GRACE)
    assert moves.as_of(session, definition(), now=over_at, grace=GRACE) == expired
    assert (expired.closed_at, expired.overdue(over_at, GRACE)) == (over_at, False)


@given(st.integers(0, 100), st.integers(0, 100), st.booleans())
def test_an_untimed_session_is_idle_by_its_latest_answer(
    answered_after: int, looked_after: int, timed: bool
) -> None:
    allowed = timedelta(minutes=30)
    session = begin(edition(1, time_limit_seconds=60 if timed else None))
    answered_at = NOON + timedelta(minutes=answered_after)
    session = sessions.with_answer(session, correct=True, previous=None, now=answered_at)
    is_idle = session.idle(answered_at + timedelta(minutes=looked_after), allowed)
    assert is_idle is (not timed and looked_after >= 30)
    ended = moves.end_idle(session, allowed)
    assert (ended.state, ended.closed_at) == (SessionState.EXPIRED, answered_at + allowed)
    assert (ended.passed, sessions.counts_as_completed(ended)) == (False, False)
    with pytest.raises(ServiceError) as refusal:
        sessions.require_open(ended)
    assert refusal.value.reason is Reason.SESSION_CLOSED


@given(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", fullmatch=True),
    st.integers(1, 2**31 - 1),
    st.text(min_size=1, max_size=128),
    st.sampled_from([None, (3, 1)]),
)
def test_a_content_name_tells_its_revision_and_what_was_drawn(
    test_id: str, revision: int, user_id: str, drawn: tuple[int, ...] | None
) -> None:
    session = replace(begin(edition(1)), test_id=test_id, revision=revision, user_id=user_id, drawn=drawn)
    name = sessions.content_name(session)
    assert len(name) <= 1024, "as much as a key's row takes"
    key = None if drawn is None else session.key
    assert sessions.ContentName.parse(name) == (test_id, revision, key)


questions_of_difficulties = st.lists(st.sampled_from([None, "easy", " HARD "]), max_size=12)


@given(
    questions_of_difficulties,
    st.integers(0, 12),
    st.sampled_from([None, "Easy", "hard", "odd"]),
    st.integers(0),
)
def test_a_paper_has_as_many_fitting_questions_as_the_test_asks(
    difficulties: list[str | None], count: int, wanted: str | None, seed: int
) -> None:
    pool = tuple(Question(f"q{n}", "?", (), ("yes",), difficulty=each) for n, each in enumerate(difficulties))
    of = Edition("t", 1, definition(question_count=count), pool[:count], rest=pool[count:])
    fitting = [
        each
        for each in pool
        if wanted is None
        or set(difficulties) <= {None}
        or each.difficulty is None
        or normalized(each.difficulty) == normalized(wanted)
    ]
    if pool and not fitting:
        with pytest.raises(ServiceError) as refusal:
            papers.draw_paper(of, wanted, lambda: seed)
        assert refusal.value.reason is Reason.INVALID_ARGUMENT
        return
    draw = papers.draw_paper(of, wanted, lambda: seed)
    paper = papers.Paper(of, draw.drawn)
    asked = list(paper.questions)
    assert len(asked) == len(set(asked)) == min(count, len(fitting))
    assert set(asked) <= set(fitting)
    assert [each for each in pool if paper.asks(each.question_id)] == [each for each in pool if each in asked]
    assert not paper.asks("another")
    by_chance = count > 0 and len(fitting) > count
    assert draw.seed == (seed if by_chance else None)
    assert by_chance or asked == fitting[:count]
    assert (draw.drawn is None) is (count == 0 or len(fitting) == len(pool) <= count)
    assert papers.draw_paper(of, wanted, lambda: seed) == draw


@given(st.text(), st.sampled_from(["", " ", "\n\t", "\u00a0"]))
def test_free_text_is_compared_without_outer_space_and_case(text: str, space: str) -> None:
    assert normalized(space + text + space) == normalized(text)
    assert normalized(normalized(text)) == normalized(text)
    of = Edition("t", 1, definition(), (Question("q", "?", (), (text, "something else")),))
    assert of.accepts("q", space + text)
    assert not of.accepts("q", text + "x")


@pytest.mark.parametrize(
    ("accepted", "right"),
    [
        (["Co"], {"Co"}),
        (["Co", "NO"], {"Co", "NO"}),
        ([" no "], {"NO", "No", " no "}),  # no choice is spelled so: what it can only mean
        (["else"], {"else"}),
    ],
)
def test_a_choice_is_compared_exactly(accepted: list[str], right: set[str]) -> None:
    choices = ("CO", "Co", "NO", "No")
    of = Edition("t", 1, definition(), (Question("q", "Cobalt?", choices, tuple(accepted)),))
    given_texts = [*choices, "co", " Co", " no ", "else", "ELSE", ""]
    assert {text for text in given_texts if of.accepts("q", text)} == right


@given(st.uuids())
def test_only_our_own_spelling_names_a_session(some_id: uuid.UUID) -> None:
    assert parse_session_id(str(some_id)) == some_id
    for other in (some_id.hex, f"{{{some_id}}}", some_id.urn, f" {some_id}", str(some_id)[:-1]):
        assert parse_session_id(other) is None


ids = st.text(st.characters(codec="ascii", min_codepoint=33), min_size=1, max_size=5)


@given(st.tuples(ids, ids, ids), st.tuples(ids, ids, ids))
def test_a_hold_belongs_to_one_request(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert (hold_id_of(*one) == hold_id_of(*other)) is (one == other)


@given(st.text(min_size=1), st.integers(1, 10**6))
def test_a_holds_subject_tells_its_test(test: str, attempt: int) -> None:
    request = hold_request(
        definition(credit_cost=3), user_id="u", hold_id=HoldId(uuid.UUID(int=1)), test_id=test,
        attempt=attempt, method="m", key="k",
    )  # fmt: skip
    assert subject_test(request.subject) == test
    assert (request.tests, request.credits) == (1, 3)
