"""The refusals of requests about something that does not exist, or is somebody else's."""

from __future__ import annotations

from chassis.errors import Reason, ServiceError


def no_such_session() -> ServiceError:
    return ServiceError(Reason.NOT_FOUND, "There is no such session")


def no_such_test(test_id: str) -> ServiceError:
    return ServiceError(Reason.NOT_FOUND, "There is no such test", metadata={"testId": test_id})
