"""Who causes a change of a session."""

from __future__ import annotations

from typing import NamedTuple

from chassis.context import Context

REQUEST_ID_CHARACTERS_MAX = 128


class Author(NamedTuple):
    """Who causes something, by which request, and in which trace.

    `actor_id` is empty when the service acts by itself. `trace_id` is None when the trace is not recorded.
    """

    actor_id: str
    request_id: str
    trace_id: str | None

    @classmethod
    def of(cls, context: Context) -> Author:
        """The caller of a request."""
        recorded = context.recorded_trace
        return cls(
            actor_id=context.user_id,
            request_id=context.request_id[:REQUEST_ID_CHARACTERS_MAX],
            trace_id=recorded.split("-")[1] if recorded else None,
        )

    def for_the_service(self) -> Author:
        """The same request, which only noticed what the service does by itself."""
        return self._replace(actor_id="")


THE_SERVICE = Author(actor_id="", request_id="", trace_id=None)
"""A background job: no request caused it."""
