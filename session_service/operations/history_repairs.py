"""Repairs from the history of answers: verdicts, numbers, counts and scores are made from it again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from chassis.diagnostics.checks import Scope
from chassis.diagnostics.findings import Finding
from chassis.diagnostics.repairs import Planned, RowChange, Unit
from chassis.postgres import Connection
from session_service.domain.moves import close_for_administrator, complete, expire
from session_service.domain.papers import Paper
from session_service.domain.sessions import CloseReason, LatestAnswer, Session, SessionKey, with_answer
from session_service.domain.states import SessionState
from session_service.domain.tests import Definition
from session_service.operations.session_repairs import session_change
from session_service.operations.session_walks import edition_of, found_sessions
from session_service.store.checks_reads import answers_of, kept_histories, sessions_by_key
from session_service.store.editions import EditionCache

AnswerRow = Mapping[str, Any]


class HistoryRepairs:
    """Plans what sessions would be if only their answers were known. Nothing is written here.

    Args:
        editions: what the sessions ask.
        retention: how long answers are kept; a session whose answers may have been purged is left as it is.
    """

    def __init__(self, *, editions: EditionCache, retention: timedelta) -> None:
        self._editions = editions
        self._retention = retention

    async def rebuild(self, connection: Connection, findings: Sequence[Finding], _scope: Scope) -> Planned:
        """Judge the answers again by what their session shows, and count them again."""
        return await self._rebuilt(connection, found_sessions(findings), dropped=frozenset())

    async def remove_late(
        self, connection: Connection, findings: Sequence[Finding], _scope: Scope
    ) -> Planned:
        """Remove answers that were taken after the end of their session, and count the others again."""
        dropped = frozenset(
            (finding.row["session_id"], finding.row["question_id"], int(finding.row["attempt"]))
            for finding in findings
        )
        return await self._rebuilt(connection, found_sessions(findings), dropped=dropped)

    async def renumber_answers(
        self, connection: Connection, findings: Sequence[Finding], _scope: Scope
    ) -> Planned:
        """Number the answers to each question from 1, in their order."""
        wanted = {(each.user_id, each.row["session_id"], each.row["question_id"]) for each in findings}
        answers = await answers_of(connection, found_sessions(findings))
        units = []
        for name, of_question in groupby(answers, key=_question):
            if name not in wanted:
                continue
            moved = [(row, at) for at, row in enumerate(of_question, start=1) if row["attempt"] != at]
            # The number is a part of the key, so a row goes and comes back under its new one.
            removed = [RowChange("answers", row["user_id"], row, None) for row, _ in moved]
            created = [
                RowChange("answers", row["user_id"], None, {**row, "attempt": at}) for row, at in moved
            ]
            if moved:
                units.append(Unit(removed + created))
        return Planned(units)

    async def _rebuilt(
        self, connection: Connection, keys: Sequence[SessionKey], *, dropped: Collection[tuple[str, str, int]]
    ) -> Planned:
        kept = await sessions_by_key(connection, keys)
        whole = await kept_histories(connection, keys, retention=self._retention)
        editions = await self._editions.get(connection, {edition_of(each.session) for each in kept.values()})
        histories = _by_session(await answers_of(connection, keys))
        units, left_out = [], []
        for key, each in sorted(kept.items()):
            edition = editions.get(edition_of(each.session))
            if key not in whole or edition is None:
                why = "its revision does not exist" if edition is None else "its answers may have been purged"
                left_out.append(f"Session {key.session_id} of {key.user_id}: {why}")
                continue
            paper = Paper(edition, each.session.drawn)
            changes: list[RowChange] = []
            history: list[AnswerRow] = []
            for row in histories.get(str(key.session_id), []):
                if (row["session_id"], row["question_id"], row["attempt"]) in dropped:
                    changes.append(RowChange("answers", key.user_id, row, None))
                    continue
                judged = _judged(paper, row)
                if judged is None:
                    left_out.append(f"Session {key.session_id}: it does not ask {row['question_id']}")
                elif judged != row:
                    changes.append(RowChange("answers", key.user_id, row, judged))
                history.append(judged or row)
            change = session_change(each, _recounted(each.session, history, paper))
            if change.before != change.after:
                changes.insert(0, change)
            if changes:
                units.append(Unit(changes))
        return Planned(units, left_out)


def _judged(paper: Paper, row: AnswerRow) -> AnswerRow | None:
    """The answer with the verdict of the session's own questions; None if the session does not ask it.

    An answer of an earlier release keeps its verdict: that release kept no versions of questions.
    """
    if row["version"] is None:
        return row
    if not paper.asks(row["question_id"]):
        return None
    return {**row, "correct": paper.edition.accepts(row["question_id"], row["choice"])}


def _recounted(session: Session, answers: Sequence[AnswerRow], paper: Paper) -> Session:
    """The session as these answers make it, by the domain's own counting; its version stays."""
    counted = replace(
        session,
        total=len(paper.questions),
        answered=0,
        solved=0,
        answers_given=0,
        answers_correct=0,
        last_answer_at=None,
    )
    latest: dict[str, LatestAnswer] = {}
    for row in sorted(answers, key=lambda row: (row["answered_at"], row["attempt"])):
        question = row["question_id"]
        counted = with_answer(
            counted,
            correct=row["correct"],
            previous=latest.get(question),
            now=datetime.fromisoformat(row["answered_at"]),
        )
        latest[question] = LatestAnswer(row["attempt"], row["correct"])
    counted = replace(counted, version=session.version)
    return counted if session.live else _closed_again(counted, paper.edition.definition)


def _closed_again(session: Session, definition: Definition) -> Session:
    """The score and the result that the end of the session had with these counts; its times stay."""
    if session.closed_at is None:
        return session
    live = replace(
        session,
        state=SessionState.ACTIVE,
        closed_at=None,
        close_reason=None,
        submitted_at=None,
        paused_at=None,
        pause_until=None,
    )
    if session.close_reason is CloseReason.SUBMITTED:
        again = complete(live, definition, now=session.closed_at)
    elif session.close_reason is CloseReason.TIMED_OUT and session.deadline_at is not None:
        again = expire(live, definition, session.closed_at - session.deadline_at)
    elif session.close_reason is CloseReason.ADMINISTRATOR:
        again = close_for_administrator(live, definition, now=session.closed_at)
    else:
        return replace(session, score=session.score_so_far if session.total else None, passed=False)
    return replace(session, score=again.score, passed=again.passed)


def _by_session(answers: Iterable[AnswerRow]) -> dict[str, list[AnswerRow]]:
    found: dict[str, list[AnswerRow]] = {}
    for row in answers:
        found.setdefault(row["session_id"], []).append(row)
    return found


def _question(row: AnswerRow) -> tuple[str, str, str]:
    return row["user_id"], row["session_id"], row["question_id"]
