"""The reasons that a route may refuse with, by HTTP status: those of the gateway, and those of the domain."""

from __future__ import annotations

from collections.abc import Iterable

from chassis.errors import Reason
from chassis.rpc.reasons import CODES
from gateway.contract import ContractError
from gateway.routes import Route

_ALWAYS = (
    Reason.INVALID_ARGUMENT,
    Reason.UNAUTHENTICATED,
    Reason.PERMISSION_DENIED,
    Reason.NOT_FOUND,
    Reason.RATE_LIMITED,
    Reason.OVERLOADED,
    Reason.UNAVAILABLE,
    Reason.DEADLINE_EXCEEDED,
    Reason.INTERNAL,
)
_WITH_BODY = (Reason.PAYLOAD_TOO_LARGE, Reason.UNSUPPORTED_MEDIA_TYPE)
_WITH_KEY = (Reason.IDEMPOTENCY_KEY_MISSING, Reason.IDEMPOTENCY_KEY_REUSED, Reason.REQUEST_ABORTED)
_WITH_VERSION = (Reason.VERSION_MISMATCH,)
_OF_HTTP = frozenset({*_ALWAYS, *_WITH_BODY, *_WITH_KEY, *_WITH_VERSION, Reason.METHOD_NOT_ALLOWED})
# What the domain may refuse, where a method does not say it.
DOMAIN = tuple(reason for reason in Reason if reason not in _OF_HTTP)
_OF_READS = (Reason.INVALID_USER_REFERENCE,)


def refusals_of(route: Route) -> dict[int, tuple[Reason, ...]]:
    """The reasons by status, both in order.

    Raises:
        ContractError: the method's policy names a reason that does not exist.
    """
    method = route.method
    reasons = [*_ALWAYS, *_declared(route)]
    if route.request.takes_body:
        reasons += _WITH_BODY
    if method.key_required:
        reasons += _WITH_KEY
    if method.if_match:
        reasons += _WITH_VERSION
    return _by_status(reasons)


def _declared(route: Route) -> Iterable[Reason]:
    method = route.method
    if not method.refusals:
        return _OF_READS if method.safe else DOMAIN
    try:
        return [Reason[name] for name in method.refusals]
    except KeyError as error:
        raise ContractError(f"{method.path}: {error.args[0]} is not a reason of chassis/errors.py") from None


def _by_status(reasons: Iterable[Reason]) -> dict[int, tuple[Reason, ...]]:
    statuses: dict[int, list[Reason]] = {}
    for reason in sorted(set(reasons), key=list(Reason).index):
        statuses.setdefault(CODES[reason].http, []).append(reason)
    return {status: tuple(statuses[status]) for status in sorted(statuses)}
