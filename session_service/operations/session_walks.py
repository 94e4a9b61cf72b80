"""Checks of sessions that the domain decides: the rows are read in steps, and judged here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from chassis.diagnostics.checks import Check, Place, Scope, Step, reading
from chassis.diagnostics.findings import Finding
from chassis.postgres import Connection, Database
from chassis.rpc.methods import find_method
from session_service.domain.ids import parse_session_id
from session_service.domain.papers import Paper
from session_service.domain.sessions import Session, SessionKey
from session_service.domain.timing import TimeRules
from session_service.operations.clock_ends import end_when_due
from session_service.operations.drafts import Draft
from session_service.store.checks_reads import (
    JUDGED_ANSWERS,
    LIVE_SESSIONS,
    StoredAnswer,
    StoredKey,
    keys_of,
    known_sessions,
)
from session_service.store.editions import EditionCache, EditionKey

_SERVICE = "/homeroom.session.v1.SessionService"
CREATE_SESSION = f"{_SERVICE}/CreateSession"
# The calls whose stored answer shows a session of the caller.
_SHOWING = frozenset(
    f"{_SERVICE}/{name}"
    for name in ("CreateSession", "PauseSession", "ResumeSession", "CompleteSession", "AbandonSession")
)


class GhostWalk:
    """Live sessions that a sweep should have ended: their deadline, lease or idle time is over."""

    def __init__(self, database: Database, *, editions: EditionCache, times: TimeRules) -> None:
        self._database = database
        self._editions = editions
        self._times = times

    async def step(
        self, check: Check, scope: Scope, after: Place | None, *, limit: int, deadline: float
    ) -> Step:
        """See `Walk`."""

        async def work(connection: Connection) -> Step:
            async with reading(connection):
                live = await LIVE_SESSIONS.fetch(connection, user_id=scope.user_id, after=after, limit=limit)
                wanted = {edition_of(each.session) for each in live.rows}
                editions = await self._editions.get(connection, wanted)
            found: list[Finding] = []
            for each in live.rows:
                edition = editions.get(edition_of(each.session))
                if edition is None:  # another check finds it
                    continue
                draft = Draft(session=each.session, edition=edition, times=self._times)
                if end_when_due(draft, each.now):
                    found += _old(check, _ghost(check, draft.before, draft.session), now=each.now)
            return Step(found, len(live.rows), live.reached)

        return await self._database.read(work, deadline=deadline, name="check_ghosts")


class VerdictWalk:
    """Answers whose verdict is not that of the questions which their session began with."""

    def __init__(self, database: Database, *, editions: EditionCache) -> None:
        self._database = database
        self._editions = editions

    async def step(
        self, check: Check, scope: Scope, after: Place | None, *, limit: int, deadline: float
    ) -> Step:
        """See `Walk`."""

        async def work(connection: Connection) -> Step:
            async with reading(connection):
                answers = await JUDGED_ANSWERS.fetch(
                    connection, user_id=scope.user_id, after=after, limit=limit
                )
                wanted = {each.edition for each in answers.rows if each.edition is not None}
                editions = await self._editions.get(connection, wanted)
            found: list[Finding] = []
            for each in answers.rows:
                edition = None if each.edition is None else editions.get(each.edition)
                # An answer without a version is of an earlier release, which kept no versions of questions.
                if edition is None or each.version is None:
                    continue
                expected = verdict(Paper(edition, each.drawn), each.question_id, each.choice)
                if expected != _VERDICTS[each.correct]:
                    found.append(_misjudged(check, each, expected))
            return Step(found, len(answers.rows), answers.reached)

        return await self._database.read(work, deadline=deadline, name="check_verdicts")


class KeyWalk:
    """Stored answers that show a session which does not exist."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._keys = keys_of(_SHOWING)
        self._responses = {method: find_method(method).response_type for method in _SHOWING}

    async def step(
        self, check: Check, scope: Scope, after: Place | None, *, limit: int, deadline: float
    ) -> Step:
        """See `Walk`. A key and its session are written together, so the session is looked for later."""

        async def work(connection: Connection) -> Step:
            async with reading(connection):
                stored = await self._keys.fetch(connection, user_id=scope.user_id, after=after, limit=limit)
                shown = [(each, key) for each in stored.rows if (key := self._shown(each))]
                known = await known_sessions(connection, [key for _, key in shown]) if shown else set()
            found = [_without_session(check, each, key) for each, key in shown if key not in known]
            return Step(found, len(stored.rows), stored.reached)

        return await self._database.read(work, deadline=deadline, name="check_keys")

    def _shown(self, stored: StoredKey) -> SessionKey | None:
        """The session that the stored answer shows; None for another call, and for an aborted one."""
        if stored.response is None:
            return None
        message: Any = self._responses[stored.method].FromString(stored.response)
        session_id = parse_session_id(message.session.session_id)
        return None if session_id is None else SessionKey(stored.user_id, session_id)


_VERDICTS: Mapping[bool, str] = {True: "right", False: "wrong"}


def verdict(paper: Paper, question_id: str, choice: str) -> str:
    """What the session's own questions say of an answer."""
    if not paper.asks(question_id):
        return "no answer: the session does not ask this question"
    return _VERDICTS[paper.edition.accepts(question_id, choice)]


def session_row(key: SessionKey) -> dict[str, str]:
    """What names a session in a finding."""
    return {"user_id": key.user_id, "session_id": str(key.session_id)}


def session_evidence(session: Session) -> dict[str, str]:
    """What an operator wants to know of a session beside what is wrong."""
    return {
        "testId": session.test_id,
        "attempt": str(session.attempt),
        "startedAt": session.started_at.isoformat(),
        "answered": str(session.answered),
        "total": str(session.total),
        "lastActivityAt": session.last_activity_at.isoformat(),
        "deadlineAt": "" if session.deadline_at is None else session.deadline_at.isoformat(),
    }


def _ghost(check: Check, live: Session, ended: Session) -> Finding:
    return Finding(
        check=check.check_id,
        severity=check.severity,
        user_id=live.user_id,
        row=session_row(live.key),
        observed=str(live.state),
        expected=f"{ended.state}, {ended.close_reason}",
        since=ended.closed_at,
        evidence=session_evidence(live),
    )


def _old(check: Check, finding: Finding, *, now: datetime) -> Iterable[Finding]:
    """The finding, unless it is younger than the check's age."""
    return [] if finding.since is not None and finding.since >= now - check.age else [finding]


def _misjudged(check: Check, answer: StoredAnswer, expected: str) -> Finding:
    edition = answer.edition
    return Finding(
        check=check.check_id,
        severity=check.severity,
        user_id=answer.user_id,
        row={
            "user_id": answer.user_id,
            "session_id": str(answer.session_id),
            "question_id": answer.question_id,
            "attempt": str(answer.attempt),
        },
        observed=_VERDICTS[answer.correct],
        expected=expected,
        since=answer.answered_at,
        evidence={"edition": "" if edition is None else f"{edition.test_id}@{edition.revision}"},
    )


def _without_session(check: Check, stored: StoredKey, key: SessionKey) -> Finding:
    return Finding(
        check=check.check_id,
        severity=check.severity,
        user_id=stored.user_id,
        row={"user_id": stored.user_id, "method": stored.method, "key": stored.key},
        observed="no such session",
        expected=f"the session {key.session_id}",
        since=stored.created_at,
    )


def edition_of(session: Session) -> EditionKey:
    """Names what the session asks."""
    return EditionKey(session.test_id, session.revision)


def found_sessions(findings: Sequence[Finding]) -> list[SessionKey]:
    """The sessions that findings name, each once, in order."""
    ids = {(finding.user_id, parse_session_id(finding.row.get("session_id", ""))) for finding in findings}
    return sorted(SessionKey(user_id, session_id) for user_id, session_id in ids if session_id is not None)
