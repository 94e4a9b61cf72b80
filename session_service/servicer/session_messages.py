"""Sessions and answers as protobuf messages."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from weakref import WeakKeyDictionary

from chassis.rpc.timestamps import timestamp
from protos.session.v1 import sessions_pb2
from session_service.domain.papers import Paper
from session_service.domain.sessions import JudgedAnswer, Session
from session_service.domain.states import SessionState
from session_service.domain.tests import Edition
from session_service.servicer.catalog_messages import KINDS

CONTENT_BYTES_MAX = 64 * 1024 * 1024

STATES = {
    SessionState.ACTIVE: sessions_pb2.Session.ACTIVE,
    SessionState.PAUSED: sessions_pb2.Session.PAUSED,
    SessionState.COMPLETED: sessions_pb2.Session.COMPLETED,
    SessionState.ABANDONED: sessions_pb2.Session.ABANDONED,
    SessionState.EXPIRED: sessions_pb2.Session.EXPIRED,
}

# The questions of an edition never change, and its sessions show them again and again: converted once.
_questions: WeakKeyDictionary[Edition, list[sessions_pb2.Session.Question]] = WeakKeyDictionary()


def session_message(
    session: Session, paper: Paper | None = None, *, resumed: bool = False
) -> sessions_pb2.Session:
    """A session; with its questions if the paper is given."""
    return sessions_pb2.Session(
        session_id=str(session.session_id),
        user_id=session.user_id,
        test_id=session.test_id,
        title=session.title,
        kind=KINDS[session.kind],
        difficulty=session.difficulty,
        state=STATES[session.state],
        resumed=resumed,
        started_at=timestamp(session.started_at),
        deadline_at=timestamp(session.deadline_at),
        last_answer_at=timestamp(session.last_answer_at),
        submitted_at=timestamp(session.submitted_at),
        closed_at=timestamp(session.closed_at),
        close_reason=session.close_reason,
        attempt=session.attempt_number,
        questions=None if paper is None else question_messages(paper),
        answered=session.answered,
        total=session.total,
        score=session.score,
        passed=session.passed,
        engaged_seconds=session.engaged_seconds,
        metadata=session.metadata or None,
        version=session.version,
        pause_ends_at=timestamp(session.pause_until),
    )


def question_messages(paper: Paper) -> Sequence[sessions_pb2.Session.Question]:
    """The questions of a paper as a learner may see them."""
    messages = _questions.get(paper.edition)
    if messages is None:
        messages = _questions[paper.edition] = [
            sessions_pb2.Session.Question(
                question_id=question.question_id, prompt=question.prompt, choices=question.choices
            )
            for question in paper.edition.pool
        ]
    if paper.drawn is None:
        return messages[: paper.edition.total]
    return [messages[place] for place in paper.drawn]


def judged(judged: JudgedAnswer) -> sessions_pb2.AnswerQuestionResponse:
    """The answer to an answer."""
    return sessions_pb2.AnswerQuestionResponse(
        question_id=judged.answer.question_id,
        correct=judged.answer.correct,
        attempts=judged.answer.attempt,
        answered=judged.session.answered,
        total=judged.session.total,
        score_so_far=judged.session.score_so_far,
    )


class QuestionContents:
    """The serialized questions that complete the stored answers, by their content names; see `content_name`.

    All answers with a session have it as field 1, so the same bytes complete each of them. What a name
    stands for never changes: the cache is only bounded.

    Args:
        papers: finds what the names stand for; unknown names are absent.
    """

    def __init__(self, papers: Callable[[Collection[str]], Awaitable[Mapping[str, Paper]]]) -> None:
        self._papers = papers
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._kept_bytes = 0

    async def __call__(self, names: Collection[str]) -> Mapping[str, bytes]:
        """The bytes to append for each of these names."""
        found: dict[str, bytes] = {}
        for name in names:
            content = self._kept.get(name)
            if content is not None:
                self._kept.move_to_end(name)
                found[name] = content
        missing = [name for name in names if name not in found]
        if missing:
            for name, paper in (await self._papers(missing)).items():
                found[name] = _content(paper)
                if paper.drawn is None:  # what one session has drawn is hardly shown again
                    self._keep(name, found[name])
        return found

    def _keep(self, name: str, content: bytes) -> None:
        if name in self._kept:  # another batch has found it at the same time
            return
        self._kept[name] = content
        self._kept_bytes += len(content)
        while self._kept_bytes > CONTENT_BYTES_MAX and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= len(dropped)


def _content(paper: Paper) -> bytes:
    return sessions_pb2.CreateSessionResponse(
        session=sessions_pb2.Session(questions=question_messages(paper))
    ).SerializeToString(deterministic=True)
