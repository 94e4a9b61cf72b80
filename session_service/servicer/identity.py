"""IdentityService."""

from __future__ import annotations

from typing import Any

from chassis.batch import Item
from chassis.errors import Reason, ServiceError, invalid_field
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler, PagedOperation, keyed, paged, plain
from chassis.rpc.timestamps import timestamp
from protos.session.v1 import identity_pb2 as pb
from session_service.domain.identity import Enrollment, IdentityEvent, IdentityEventKind, normalized_answer
from session_service.domain.ids import SessionId
from session_service.domain.missing import no_such_session
from session_service.domain.sessions import SessionKey
from session_service.operations.check_drafts import CheckView, JudgedCheck
from session_service.operations.check_identity import (
    CheckAnswer,
    EnrollRequest,
    IdentityChecks,
    ReleaseRequest,
)
from session_service.servicer.session_messages import STATES
from session_service.servicer.session_requests import NUL, named_session_id

SERVICE = "/homeroom.session.v1.IdentityService"
CHECK_NUMBER_DIGITS_MAX = 9

KINDS = {
    IdentityEventKind.PASSED: pb.IdentityEvent.PASSED,
    IdentityEventKind.FAILED: pb.IdentityEvent.FAILED,
    IdentityEventKind.LAPSED: pb.IdentityEvent.LAPSED,
    IdentityEventKind.RELEASED: pb.IdentityEvent.RELEASED,
}


def handlers(
    *,
    checks: IdentityChecks,
    list_events: PagedOperation[SessionKey, IdentityEvent],
    tokens: PageTokens,
) -> list[Handler]:
    """Enrolled questions, and the checks of sessions."""
    return [
        plain(
            f"{SERVICE}/PutIdentityQuestions",
            _enroll,
            checks.put_questions,
            lambda enrollment: pb.PutIdentityQuestionsResponse(enrollment=_enrollment(enrollment)),
        ),
        plain(
            f"{SERVICE}/GetIdentityQuestions",
            lambda _: None,
            checks.get_questions,
            lambda enrollment: pb.GetIdentityQuestionsResponse(enrollment=_enrollment(enrollment)),
        ),
        plain(
            f"{SERVICE}/GetIdentityChecks",
            _wanted_session,
            checks.get_checks,
            lambda view: pb.GetIdentityChecksResponse(checks=_checks(view)),
        ),
        keyed(f"{SERVICE}/AnswerIdentityCheck", _answer, checks.answer_checks, _judged),
        keyed(
            f"{SERVICE}/ReleaseSession",
            _release,
            checks.release_sessions,
            lambda view: pb.ReleaseSessionResponse(checks=_checks(view)),
        ),
        paged(
            f"{SERVICE}/ListIdentityEvents",
            _session_key,
            list_events,
            _event,
            position=lambda event: (event.check_number, event.step),
            tokens=tokens,
        ),
    ]


def _enroll(item: Item[pb.PutIdentityQuestionsRequest]) -> EnrollRequest:
    """The questions; raises ServiceError for an empty answer, and for a question that comes twice."""
    seen: set[str] = set()
    for place, question in enumerate(item.request.questions):
        field = f"questions[{place}]"
        if "\0" in question.prompt + question.answer:
            raise invalid_field(field, NUL)
        if not normalized_answer(question.answer):
            raise invalid_field(f"{field}.answer", "has only white space")
        prompt = normalized_answer(question.prompt)
        if not prompt or prompt in seen:
            raise invalid_field(f"{field}.prompt", "comes twice" if prompt else "has only white space")
        seen.add(prompt)
    return EnrollRequest([(question.prompt, question.answer) for question in item.request.questions])


def _answer(item: Item[pb.AnswerIdentityCheckRequest]) -> CheckAnswer:
    message = item.request
    digits = message.check_id.isascii() and message.check_id.isdigit()
    if not digits or len(message.check_id) > CHECK_NUMBER_DIGITS_MAX:
        raise ServiceError(Reason.NOT_FOUND, "There is no such identity check")
    return CheckAnswer(
        user_id=item.user_id,
        session_id=named_session_id(message.session_id),
        check_number=int(message.check_id),
        answer=message.answer,
    )


def _release(item: Item[pb.ReleaseSessionRequest]) -> ReleaseRequest:
    message = item.request
    user_id, session_id = _session_key(item)
    if "\0" in message.reason:
        raise invalid_field("reason", NUL)
    return ReleaseRequest(user_id, session_id, message.reason)


def _session_key(item: Item[Any]) -> SessionKey:
    """The session that a path names; raises ServiceError with NOT_FOUND for a text that no session has."""
    if "\0" in item.request.user_id:
        raise no_such_session()
    return SessionKey(item.request.user_id, named_session_id(item.request.session_id))


def _wanted_session(item: Item[pb.GetIdentityChecksRequest]) -> SessionId:
    return named_session_id(item.request.session_id)


def _enrollment(enrollment: Enrollment) -> pb.IdentityEnrollment:
    return pb.IdentityEnrollment(
        prompts=[question.prompt for question in enrollment.questions],
        enrolled_at=timestamp(enrollment.enrolled_at),
        version=enrollment.version,
    )


def _checks(view: CheckView) -> pb.IdentityChecks:
    message = pb.IdentityChecks(
        session_id=str(view.session.session_id),
        state=STATES[view.session.state],
        locked=view.locked,
        total=view.total,
        passed=view.passed,
    )
    if view.due is not None:
        message.check.CopyFrom(
            pb.IdentityChecks.Check(
                check_id=str(view.due.check_number),
                prompt=view.due.prompt,
                answer_by=timestamp(view.due.answer_by),
                attempts_left=view.due.tries_left,
            )
        )
    return message


def _judged(judged: JudgedCheck) -> pb.AnswerIdentityCheckResponse:
    return pb.AnswerIdentityCheckResponse(
        check_id=str(judged.check_number),
        passed=judged.passed,
        attempts_left=judged.tries_left,
        state=STATES[judged.session.state],
        locked=judged.locked,
    )


def _event(event: IdentityEvent) -> pb.IdentityEvent:
    return pb.IdentityEvent(
        check_id=str(event.check_number),
        step=event.step,
        kind=KINDS[event.kind],
        by=event.by_user,
        reason=event.reason,
        request_id=event.request_id,
        recorded_at=timestamp(event.recorded_at),
    )
