"""AttemptService."""

from __future__ import annotations

from chassis.batch import Item
from chassis.errors import invalid_field
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler, PagedOperation, paged
from chassis.rpc.timestamps import timestamp
from protos.session.v1 import attempts_pb2 as pb
from session_service.domain.attempts import AttemptSummary
from session_service.domain.sessions import Session
from session_service.operations.read_attempts import AttemptReads
from session_service.servicer.session_messages import STATES
from session_service.servicer.session_requests import NUL

SERVICE = "/homeroom.session.v1.AttemptService"


def handlers(
    *, reads: AttemptReads, list_attempts: PagedOperation[str, Session], tokens: PageTokens
) -> list[Handler]:
    """A learner's attempts."""
    return [
        paged(
            f"{SERVICE}/ListAttempts",
            _test_id,
            list_attempts,
            _attempt,
            position=lambda session: (session.attempt,),
            tokens=tokens,
            head=(reads.get_summary, _summary),
        ),
    ]


def _test_id(item: Item[pb.ListAttemptsRequest]) -> str:
    test_id = item.request.test_id
    if "\0" in test_id:
        raise invalid_field("testId", NUL)
    return test_id


def _attempt(session: Session) -> pb.Attempt:
    return pb.Attempt(
        session_id=str(session.session_id),
        attempt=session.attempt_number,
        state=STATES[session.state],
        started_at=timestamp(session.started_at),
        closed_at=timestamp(session.closed_at),
        score=session.score,
        passed=session.passed,
    )


def _summary(summary: AttemptSummary) -> pb.ListAttemptsResponse:
    return pb.ListAttemptsResponse(
        test_id=summary.test_id,
        used=summary.used,
        max_attempts=summary.max_attempts,
        left=summary.left,
        best_score=summary.best_score,
    )
