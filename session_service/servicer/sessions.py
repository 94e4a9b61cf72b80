"""SessionService."""

from __future__ import annotations

from chassis.batch import Item
from protos.session.v1 import sessions_pb2
from session_service.domain.sessions import Session
from session_service.domain.tests import Edition
from session_service.operations.change_sessions import SessionActions
from session_service.operations.create_sessions import SessionStarts
from session_service.operations.read_sessions import SessionPage, SessionReads
from session_service.servicer.batches import Outcome, keyed, plain
from session_service.servicer.messages import session_message
from session_service.servicer.requests import (
    answer_request,
    close_request,
    list_request,
    session_id_of,
    start_request,
)

NAME = "homeroom.session.v1.SessionService"
CREATE_SESSION = f"/{NAME}/CreateSession"


class SessionServicer:
    """A learner's sessions."""

    def __init__(self, *, starts: SessionStarts, actions: SessionActions, reads: SessionReads) -> None:
        self._starts = starts
        self._actions = actions
        self._reads = reads

    async def CreateSession(self, batch: list[Item[sessions_pb2.CreateSessionRequest]]) -> list[Outcome]:
        return await keyed(batch, start_request, self._starts.create_sessions)

    async def GetSession(self, batch: list[Item[sessions_pb2.GetSessionRequest]]) -> list[Outcome]:
        return await plain(
            batch, lambda message: session_id_of(message.session_id), self._reads.get_sessions, _got
        )

    async def ListSessions(self, batch: list[Item[sessions_pb2.ListSessionsRequest]]) -> list[Outcome]:
        return await plain(batch, list_request, self._reads.list_sessions, _listed)

    async def AnswerQuestion(self, batch: list[Item[sessions_pb2.AnswerQuestionRequest]]) -> list[Outcome]:
        return await keyed(batch, answer_request, self._actions.answer_questions)

    async def CompleteSession(self, batch: list[Item[sessions_pb2.CompleteSessionRequest]]) -> list[Outcome]:
        return await keyed(batch, close_request, self._actions.complete_sessions)

    async def AbandonSession(self, batch: list[Item[sessions_pb2.AbandonSessionRequest]]) -> list[Outcome]:
        return await keyed(batch, close_request, self._actions.abandon_sessions)


def _got(found: tuple[Session, Edition]) -> sessions_pb2.GetSessionResponse:
    session, edition = found
    return sessions_pb2.GetSessionResponse(session=session_message(session, edition))


def _listed(page: SessionPage) -> sessions_pb2.ListSessionsResponse:
    return sessions_pb2.ListSessionsResponse(
        sessions=[session_message(session) for session in page.sessions],
        next_page_token="" if page.next_before is None else str(page.next_before),
    )
