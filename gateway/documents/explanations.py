"""What each reason means, and what a client does about it; the pages under `/problems` show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from chassis.errors import Reason


class Explanation(NamedTuple):
    """When a reason is given, and what the client should do."""

    when: str
    remedy: str


_RETRY = "Wait as long as `Retry-After` says, then send the same request again, with the same key."
_EXPLANATIONS: Mapping[Reason, Explanation] = {
    Reason.INVALID_ARGUMENT: Explanation(
        "A field, a parameter or a header breaks a rule, or the body is not JSON.",
        "`errors` names each field and what is wrong with it. The same request fails again.",
    ),
    Reason.IDEMPOTENCY_KEY_MISSING: Explanation(
        "The operation changes something, so it needs an `Idempotency-Key`, and the request has none.",
        "Make one key for each action of the user, such as a UUID, and send it with each try of it.",
    ),
    Reason.IDEMPOTENCY_KEY_REUSED: Explanation(
        "The caller has used this key before, for a request with other content.",
        "Use a new key for a new action. A retry must repeat the request exactly.",
    ),
    Reason.REQUEST_ABORTED: Explanation(
        "A try with this key was given up before it had an effect. The key will never have one.",
        "Send the request again with a new key.",
    ),
    Reason.INVALID_USER_REFERENCE: Explanation(
        "The user that the request or the token names has no active account.",
        "Create or activate the account first.",
    ),
    Reason.EMAIL_NOT_VERIFIED: Explanation(
        "The operation needs an account whose e-mail address is verified.",
        "Let the user verify the address.",
    ),
    Reason.INSUFFICIENT_CREDITS: Explanation(
        "The operation costs more credits than are available.",
        "Wait until credits are free, or let an administrator grant some.",
    ),
    Reason.DAILY_LIMIT_REACHED: Explanation(
        "All units of the UTC day are used or held.",
        "Try again after `resetsAt`. The same key may succeed then.",
    ),
    Reason.SUBSCRIPTION_INACTIVE: Explanation(
        "The subscription is past due, canceled or expired.",
        "Renew the subscription.",
    ),
    Reason.LESSON_LOCKED: Explanation(
        "A lesson that comes before this one is not complete.",
        "Complete the earlier lesson first.",
    ),
    Reason.ILLEGAL_TRANSITION: Explanation(
        "The thing is in a state from which this move is not possible; `from` and `to` name the states.",
        "Read the thing again, and offer what its state allows.",
    ),
    Reason.SESSION_CLOSED: Explanation("The session has ended.", "Start a new session."),
    Reason.DEADLINE_PASSED: Explanation(
        "The time limit of the session is over, by the server's clock.",
        "Show the result of the session, or start a new one.",
    ),
    Reason.ATTEMPTS_EXHAUSTED: Explanation(
        "The learner has used all attempts of this test.", "No retry helps; show the best result."
    ),
    Reason.ENGAGEMENT_TOO_LOW: Explanation(
        "The learner spent less time on it than the test demands.",
        "Let the learner work on, then complete again.",
    ),
    Reason.IDENTITY_LOCKED: Explanation(
        "The test checks the learner's identity, and `state` says what is missing: no questions are enrolled "
        "(`NOT_ENROLLED`), a check waits (`CHECK_DUE`), or too many answers were wrong or late (`LOCKED`). "
        "`IN_USE`: the questions cannot change while a session asks them.",
        "Enroll questions, or answer the check. A locked session needs an administrator to release it.",
    ),
    Reason.VERSION_MISMATCH: Explanation(
        "`If-Match` names a version, and the document has another one by now.",
        "Read the document again, decide anew, and send the new `ETag` with a new key.",
    ),
    Reason.NOT_FOUND: Explanation(
        "There is nothing at this address, or it belongs to somebody else.",
        "Check the address and the user.",
    ),
    Reason.UNAUTHENTICATED: Explanation(
        "The request has no token, or a token that is not valid here (any more).",
        "Get a new token, and send `Authorization: Bearer …`.",
    ),
    Reason.PERMISSION_DENIED: Explanation(
        "The token is valid, but none of its roles may do this.", "Use an account with one of the roles."
    ),
    Reason.METHOD_NOT_ALLOWED: Explanation(
        "The address exists, but not with this HTTP method.", "`Allow` lists the methods."
    ),
    Reason.PAYLOAD_TOO_LARGE: Explanation(
        "The body has more bytes than the operation accepts.", "Send less at once."
    ),
    Reason.UNSUPPORTED_MEDIA_TYPE: Explanation(
        "The body is not plain JSON in UTF-8.",
        "Send `Content-Type: application/json`, without compression.",
    ),
    Reason.RATE_LIMITED: Explanation(
        "The user or the address asks too often, or has too much in progress. Others are still served.",
        f"{_RETRY} `RateLimit` says what is left.",
    ),
    Reason.OVERLOADED: Explanation("The system has more to do than it can.", _RETRY),
    Reason.UNAVAILABLE: Explanation("A part of the system does not answer at the moment.", _RETRY),
    Reason.DEADLINE_EXCEEDED: Explanation(
        "The time of the request was over before the answer was there. The action may have happened.",
        "Send the same request again with the same key: it happens once, and the answer says how it ended.",
    ),
    Reason.INTERNAL: Explanation(
        "A fault of the server. The logs have the details, under `requestId`.",
        "Report the `requestId`. A keyed request may be sent again with the same key.",
    ),
}


def explanation_of(reason: Reason) -> Explanation:
    """The explanation of a reason; a general one for a reason that is too new to have its own."""
    known = _EXPLANATIONS.get(reason)
    if known is not None:
        return known
    remedy = _RETRY if reason.retryable else "The same request fails again while nothing else changes."
    return Explanation(f"{reason.title}.", remedy)
