"""RecordSessionResult: closed sessions are counted, each once, whatever else is in their batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chassis import failpoints
from chassis.errors import Reason, ServiceError
from chassis.postgres.isolation import Locked, run_isolated
from chassis.telemetry.logs import get_logger
from chassis.telemetry.metrics import Metrics
from chassis.postgres import DataRefused
from progress_service.domain.statistics import Recording, SessionResult, Verdict
from progress_service.store.results import ResultStore

log = get_logger(__name__)

Outcome = Recording | ServiceError


class ResultOperations:
    """Everything that happens to session results."""

    def __init__(self, *, store: ResultStore, metrics: Metrics) -> None:
        self._store = store
        self._verdicts = metrics.counter(
            "homeroom_session_results",
            "Session results told to us; 'contradicted' ones had other values before, and must not happen.",
            ("verdict",),
        )

    async def record_session_results(
        self, results: Sequence[SessionResult], *, deadline: float
    ) -> list[Outcome]:
        """Count each result once, in their order; of two for one session the first counts.

        Each gets a Recording, or INVALID_ARGUMENT (the database refuses its values), UNAVAILABLE (its learner
        stays locked, or nobody knows whether it was counted: telling it again settles it) or what else the
        database says.
        """

        async def attempt(some: Sequence[SessionResult], wait: bool) -> list[Recording | Locked]:
            learners = list({result.user_id for result in some})
            await self._store.insert_learners(learners, deadline=deadline)
            return await self._store.insert_results(some, wait=wait, deadline=deadline)

        outcomes = await run_isolated(
            results, attempt, owner_of=lambda result: result.user_id, refusal_of=_refusal_of
        )
        self._take_note(zip(results, outcomes, strict=True))
        await failpoints.hit_async("progress.after_commit")
        return outcomes

    def _take_note(self, told: Iterable[tuple[SessionResult, Outcome]]) -> None:
        for result, outcome in told:
            if isinstance(outcome, ServiceError):
                continue
            self._verdicts.add(outcome.verdict.value)
            if outcome.verdict is Verdict.CONTRADICTED:
                log.error(
                    "session result contradicts the recorded one, which stays",
                    user_id=result.user_id,
                    session_id=result.session_id,
                )


def _refusal_of(result: SessionResult, error: DataRefused) -> ServiceError:
    log.warning("session result refused", session_id=result.session_id, refusal=str(error))
    return ServiceError(Reason.INVALID_ARGUMENT, "The values of this result contradict each other")
