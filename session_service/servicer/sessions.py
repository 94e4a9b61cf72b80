"""SessionService."""

from __future__ import annotations

from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler, PagedOperation, keyed, paged, plain
from protos.session.v1 import sessions_pb2 as pb
from session_service.domain.sessions import ListRequest, Session
from session_service.operations.change_sessions import SessionActions
from session_service.operations.create_sessions import SessionStarts
from session_service.operations.read_sessions import SessionReads
from session_service.servicer.session_messages import (
    QuestionContents,
    judged,
    session_message,
)
from session_service.servicer.session_requests import (
    answer_request,
    close_request,
    list_request,
    session_id_of,
    start_request,
)

SERVICE = "/homeroom.session.v1.SessionService"
CREATE_SESSION = f"{SERVICE}/CreateSession"
ANSWER_QUESTION = f"{SERVICE}/AnswerQuestion"
COMPLETE_SESSION = f"{SERVICE}/CompleteSession"


def handlers(
    *,
    starts: SessionStarts,
    actions: SessionActions,
    reads: SessionReads,
    list_sessions: PagedOperation[ListRequest, Session],
    contents: QuestionContents,
    tokens: PageTokens,
) -> list[Handler]:
    """A learner's sessions. The answers that are stored with their keys show no questions; see `contents`."""
    return [
        keyed(
            CREATE_SESSION,
            start_request,
            starts.create_sessions,
            lambda started: pb.CreateSessionResponse(
                session=session_message(started.session, resumed=started.resumed)
            ),
            contents=contents,
        ),
        plain(
            f"{SERVICE}/GetSession",
            session_id_of,
            reads.get_sessions,
            lambda found: pb.GetSessionResponse(session=session_message(*found)),
        ),
        paged(
            f"{SERVICE}/ListSessions",
            list_request,
            list_sessions,
            session_message,
            position=lambda session: (str(session.session_id),),
            tokens=tokens,
        ),
        keyed(ANSWER_QUESTION, answer_request, actions.answer_questions, judged),
        keyed(
            f"{SERVICE}/PauseSession",
            close_request,
            actions.pause_sessions,
            lambda session: pb.PauseSessionResponse(session=session_message(session)),
            contents=contents,
        ),
        keyed(
            f"{SERVICE}/ResumeSession",
            close_request,
            actions.resume_sessions,
            lambda session: pb.ResumeSessionResponse(session=session_message(session)),
            contents=contents,
        ),
        keyed(
            COMPLETE_SESSION,
            close_request,
            actions.complete_sessions,
            lambda session: pb.CompleteSessionResponse(session=session_message(session)),
            contents=contents,
        ),
        keyed(
            f"{SERVICE}/AbandonSession",
            close_request,
            actions.abandon_sessions,
            lambda session: pb.AbandonSessionResponse(session=session_message(session)),
            contents=contents,
        ),
    ]
