"""The store that the bench makes is one that the service could have written, session by session."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from bench.scale.session_population import FILL, SessionPopulation, build
from chassis.postgres import Connection
from homeroom.embedded.provisioning import ServiceDatabase
from protos.session.v1 import sessions_pb2
from session_service.domain.authors import Author
from session_service.domain.moves import (
    abandon,
    close_for_administrator,
    complete,
    end_idle,
    expire,
    lose_lease,
    pause,
    resume,
)
from session_service.domain.papers import Paper, draw_paper
from session_service.domain.sessions import (
    CloseReason,
    LatestAnswer,
    Session,
    StartRequest,
    content_name,
    start,
    uses_attempt,
    with_answer,
)
from session_service.domain.tests import Edition
from session_service.store.editions import EditionCache, EditionKey
from session_service.store.session_rows import SESSION_COLUMNS, session_from
from tests.session.world import GRACE, TIMES

POPULATION = SessionPopulation(sessions=4000, answers_per_session=4)


@pytest.fixture
async def truth(session_database: ServiceDatabase) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(session_database.superuser)
    yield connection
    await connection.close()


async def test_each_session_is_what_its_history_makes_of_it(truth: Connection) -> None:
    await build(truth, POPULATION, verify=True)
    sessions = await read_sessions(truth)
    answers = by_session(await truth.fetch("SELECT * FROM answers"))
    events = by_session(await truth.fetch("SELECT * FROM session_events"))
    keys = {EditionKey(session.test_id, session.revision) for session in sessions}
    editions = await EditionCache().get(truth, keys)
    assert len(sessions) == POPULATION.sessions
    for session in sessions:
        edition = editions[EditionKey(session.test_id, session.revision)]
        history = sorted(
            [*answers[session.session_id], *events[session.session_id]], key=lambda row: row["version"]
        )
        assert replayed(session, edition, history) == session
    endings = {session.close_reason for session in sessions}
    assert endings == {None, *CloseReason} - {CloseReason.REPLACED}
    assert any(row["attempt"] == 2 for rows in answers.values() for row in rows)
    assert any(session.paused_seconds for session in sessions)
    assert any(session.passed for session in sessions)


async def test_attempts_and_keys_agree_with_the_sessions(truth: Connection) -> None:
    await build(truth, POPULATION)
    sessions = await read_sessions(truth)
    of_test: dict[tuple[str, str], list[Session]] = defaultdict(list)
    for session in sorted(sessions, key=lambda each: each.attempt):
        of_test[session.user_id, session.test_id].append(session)
    for attempts in of_test.values():
        assert [each.attempt for each in attempts] == list(range(1, len(attempts) + 1))
        used = 0
        for each in attempts:
            assert each.attempts_before == used
            used += uses_attempt(each)
    by_id = {str(session.session_id): session for session in sessions}
    stored = await truth.fetch("SELECT * FROM idempotency_keys")
    assert stored
    for row in stored:
        if row["method"].endswith("AnswerQuestion"):
            told = sessions_pb2.AnswerQuestionResponse.FromString(row["response"])
            assert told.question_id.startswith("q-")
            assert 1 <= told.answered <= told.total
        else:
            shown = sessions_pb2.CreateSessionResponse.FromString(row["response"]).session
            session = by_id[shown.session_id]
            assert (shown.user_id, shown.test_id, shown.attempt) == (
                (session.user_id, session.test_id, session.attempt)
            )
            assert row["content"] == content_name(session)


async def test_a_population_without_live_sessions_has_none(truth: Connection) -> None:
    await build(truth, SessionPopulation(sessions=2000, answers_per_session=2, live=False))
    assert await truth.fetchval("SELECT count(*) FROM sessions WHERE state IN ('active', 'paused')") == 0


async def test_new_sessions_find_no_room_in_the_old_pages(truth: Connection) -> None:
    await build(truth, POPULATION)
    pages = await truth.fetchval(
        "SELECT pg_relation_size('sessions') / current_setting('block_size')::integer"
    )
    columns = "test_id, revision, title, kind, difficulty, metadata, total, deadline_at, attempts_before"
    began = await truth.fetch(
        f"""
        INSERT INTO sessions
               (user_id, session_id, hold_id, attempt, state, started_at, start_request_id, {columns})
        SELECT user_id, gen_random_uuid(), gen_random_uuid(), 1000, 'active', started_at, 'request', {columns}
          FROM (SELECT DISTINCT ON (user_id) * FROM sessions WHERE state = 'completed') AS ended
        RETURNING (ctid::text::point)[0]::integer AS page
        """  # noqa: S608 - our own names
    )
    options = await truth.fetchval("SELECT reloptions FROM pg_class WHERE oid = 'sessions'::regclass")
    assert len(began) == POPULATION.learners
    assert min(row["page"] for row in began) >= pages - 1
    assert options == [f"fillfactor={FILL}"]


async def read_sessions(truth: Connection) -> list[Session]:
    rows = await truth.fetch(f"SELECT {SESSION_COLUMNS} FROM sessions")  # noqa: S608 - our own names
    return list(map(session_from, rows))


def by_session(rows: Sequence[asyncpg.Record]) -> Mapping[Any, list[asyncpg.Record]]:
    found: dict[Any, list[asyncpg.Record]] = defaultdict(list)
    for row in rows:
        found[row["session_id"]].append(row)
    return found


def replayed(stored: Session, edition: Edition, history: Sequence[asyncpg.Record]) -> Session:
    """What the domain makes of this history; what pages have told is taken from the stored session."""
    definition = edition.definition
    draw = draw_paper(edition, definition.difficulty or None, lambda: 1)
    session = start(
        StartRequest(stored.test_id, None, None, None, stored.metadata),
        edition=edition,
        user_id=stored.user_id,
        session_id=stored.session_id,
        hold_id=stored.hold_id,
        attempt=stored.attempt,
        attempts_before=stored.attempts_before or 0,
        author=Author(stored.user_id, stored.start_request_id or "", None),
        draw=draw,
        now=stored.started_at,
    )
    paper = Paper(edition, session.drawn)
    latest: dict[str, LatestAnswer] = {}
    for row in history:
        if "question_id" in row:
            previous = latest.get(row["question_id"])
            assert paper.asks(row["question_id"])
            assert row["attempt"] == (1 if previous is None else previous.attempt + 1)
            assert row["correct"] == edition.accepts(row["question_id"], row["choice"])
            session = with_answer(session, correct=row["correct"], previous=previous, now=row["answered_at"])
            latest[row["question_id"]] = LatestAnswer(row["attempt"], row["correct"])
        else:
            session = moved(as_pages_told(session, stored), stored, edition, row)
        assert session.version == row["version"]
    return as_pages_told(session, stored)


def as_pages_told(session: Session, stored: Session) -> Session:
    return replace(
        session,
        engaged_seconds=stored.engaged_seconds,
        heartbeat_seq=stored.heartbeat_seq,
        seen_at=stored.seen_at,
        lease_check_at=stored.lease_check_at,
    )


def moved(session: Session, stored: Session, edition: Edition, row: asyncpg.Record) -> Session:
    if row["kind"] == "paused":
        return pause(session, budget=TIMES.pause_budget, now=row["happened_at"])
    if row["kind"] == "resumed":
        return resume(session, now=row["happened_at"])
    return ended(session, stored, edition, row)


def ended(session: Session, stored: Session, edition: Edition, row: asyncpg.Record) -> Session:
    at, noticed = stored.closed_at, row["happened_at"]
    assert at is not None
    assert stored.close_reason is not None
    assert row["reason"] == stored.close_reason
    closed = {
        CloseReason.SUBMITTED: lambda: complete(session, edition.definition, now=noticed),
        CloseReason.LEARNER_LEFT: lambda: abandon(session, now=noticed),
        CloseReason.ADMINISTRATOR: lambda: close_for_administrator(session, edition.definition, now=noticed),
        CloseReason.TIMED_OUT: lambda: expire(session, edition.definition, GRACE),
        CloseReason.NEVER_USED: lambda: lose_lease(session, at=at),
        CloseReason.LEASE_LOST: lambda: end_idle(session, TIMES.idle_allowed),
    }
    return closed[stored.close_reason]()
