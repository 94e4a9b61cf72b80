"""RecordSessionResult: each closed session is counted once, whatever else is in its batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chassis import failpoints
from chassis.batch import Item, latest_deadline
from chassis.errors import ServiceError
from chassis.postgres.isolation import Locked, run_isolated
from chassis.telemetry.logs import get_logger
from chassis.telemetry.metrics import Metrics
from progress_service.domain.statistics import Recording, SessionResult, Verdict
from progress_service.store.results import ResultStore

log = get_logger(__name__)


class ResultOperations:
    """The operations on session results."""

    def __init__(self, *, store: ResultStore, wake_relay: Callable[[], object], metrics: Metrics) -> None:
        self._store = store
        self._wake_relay = wake_relay
        self._verdicts = metrics.counter(
            "session_results",
            "Session results received; a 'contradicted' one differs from the recorded one, which is a bug.",
            ("verdict",),
        )

    async def record_session_results(
        self, items: Sequence[Item[SessionResult]]
    ) -> list[Recording | ServiceError]:
        """Count each result once, in their order; of two results for one session, the first one counts.

        Each result gets a Recording or a refusal: INVALID_ARGUMENT if the database refuses its values;
        UNAVAILABLE if its learner stays locked, or if it is unknown whether the result was counted. To send
        it again settles that.
        """
        deadline = latest_deadline(items)

        async def attempt(some: Sequence[Item[SessionResult]], wait: bool) -> list[Recording | Locked]:
            await self._store.ensure_learners(
                {item.request.user_id for item in some}, certainly=wait, deadline=deadline
            )
            counted = await self._store.insert_results(some, wait=wait, deadline=deadline)
            if counted.levels_changed:
                self._wake_relay()
            return counted.recordings

        outcomes = await run_isolated(items, attempt, owner_of=lambda item: item.request.user_id)
        for item, outcome in zip(items, outcomes, strict=True):
            if isinstance(outcome, Recording):
                self._observe(item.request, outcome.verdict)
        await failpoints.hit_async("progress.after_commit")
        return outcomes

    def _observe(self, result: SessionResult, verdict: Verdict) -> None:
        self._verdicts.add(verdict.value)
        if verdict is Verdict.CONTRADICTED:
            log.error("session_result_contradicted", user_id=result.user_id, session_id=result.session_id)
