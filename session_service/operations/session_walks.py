"""Checks of sessions that the domain decides: the rows are read in steps, and judged here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from chassis.diagnostics.checks import Check, Place, Scope, Step, begin_reading
from chassis.diagnostics.findings import Finding
from chassis.postgres import Connection, Database
from chassis.rpc.methods import find_method
from session_service.domain.ids import parse_session_id
from session_service.domain.papers import Paper
from session_service.domain.sessions import Session, SessionKey
from session_service.domain.timing import TimeRules
from session_service.operations.clock_ends import end_when_due
from session_service.operations.drafts import Draft
from session_service.store.checks_reads import JUDGED_ANSWERS, LIVE_SESSIONS, keys_of, known_sessions
from session_service.store.editions import EditionCache, EditionKey
from session_service.store.session_rows import session_from

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
            async with connection.transaction(readonly=True):
                await begin_reading(connection)
                rows = await LIVE_SESSIONS.fetch(connection, user_id=scope.user_id, after=after, limit=limit)
                editions = await self._editions.get(connection, set(map(_edition_key, rows)))
            found: list[Finding] = []
            for row in rows:
                edition = editions.get(_edition_key(row))
                if edition is None:  # another check finds it
                    continue
                draft = Draft(session=session_from(row), edition=edition, times=self._times)
                if end_when_due(draft, row["now"]):
                    found += _old(check, _ghost(check, draft.before, draft.session), now=row["now"])
            return Step(found, len(rows), LIVE_SESSIONS.reached(rows, limit))

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
            async with connection.transaction(readonly=True):
                await begin_reading(connection)
                rows = await JUDGED_ANSWERS.fetch(connection, user_id=scope.user_id, after=after, limit=limit)
                keys = {_edition_key(row) for row in rows if row["revision"] is not None}
                editions = await self._editions.get(connection, keys)
            found: list[Finding] = []
            for row in rows:
                # An answer without a version is of an earlier release, which kept no versions of questions.
                if row["version"] is None or row["revision"] is None or _edition_key(row) not in editions:
                    continue
                paper = Paper(editions[_edition_key(row)], row["drawn"])
                expected = verdict(paper, row["question_id"], row["choice"])
                if expected != _VERDICTS[row["correct"]]:
                    found.append(_misjudged(check, row, expected))
            return Step(found, len(rows), JUDGED_ANSWERS.reached(rows, limit))

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
            async with connection.transaction(readonly=True):
                await begin_reading(connection)
                rows = await self._keys.fetch(connection, user_id=scope.user_id, after=after, limit=limit)
                shown = {place: key for place, row in enumerate(rows) if (key := self._shown(row))}
                known = await known_sessions(connection, shown.values()) if shown else set()
            missing = [(rows[place], key) for place, key in shown.items() if key not in known]
            found = [_without_session(check, row, key) for row, key in missing]
            return Step(found, len(rows), self._keys.reached(rows, limit))

        return await self._database.read(work, deadline=deadline, name="check_keys")

    def _shown(self, row: asyncpg.Record) -> SessionKey | None:
        """The session that the stored answer shows; None for another call, and for an aborted one."""
        if row["response"] is None or row["method"] not in self._responses:
            return None
        message: Any = self._responses[row["method"]].FromString(row["response"])
        session_id = parse_session_id(message.session.session_id)
        return None if session_id is None else SessionKey(row["user_id"], session_id)


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
        observed=live.state,
        expected=f"{ended.state}, {ended.close_reason}",
        since=ended.closed_at,
        evidence=session_evidence(live),
    )


def _old(check: Check, finding: Finding, *, now: datetime) -> Iterable[Finding]:
    """The finding, unless it is younger than the check's age."""
    return [] if finding.since is not None and finding.since >= now - check.age else [finding]


def _misjudged(check: Check, row: asyncpg.Record, expected: str) -> Finding:
    return Finding(
        check=check.check_id,
        severity=check.severity,
        user_id=row["user_id"],
        row={name: str(row[name]) for name in ("user_id", "session_id", "question_id", "attempt")},
        observed=_VERDICTS[row["correct"]],
        expected=expected,
        since=row["answered_at"],
        evidence={"testId": row["test_id"], "revision": str(row["revision"]), "state": row["state"]},
    )


def _without_session(check: Check, row: asyncpg.Record, key: SessionKey) -> Finding:
    return Finding(
        check=check.check_id,
        severity=check.severity,
        user_id=row["user_id"],
        row={name: row[name] for name in ("user_id", "method", "key")},
        observed="no such session",
        expected=f"the session {key.session_id}",
        since=row["created_at"],
    )


def _edition_key(row: asyncpg.Record) -> EditionKey:
    return EditionKey(row["test_id"], row["revision"])


def found_sessions(findings: Sequence[Finding]) -> list[SessionKey]:
    """The sessions that findings name, each once, in order."""
    ids = {(finding.user_id, parse_session_id(finding.row.get("session_id", ""))) for finding in findings}
    return sorted(SessionKey(user_id, session_id) for user_id, session_id in ids if session_id is not None)
