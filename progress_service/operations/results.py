"""RecordSessionResult: closed sessions are counted, each once, whatever else is in their batch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from chassis import failpoints
from chassis.errors import Reason, ServiceError
from chassis.logs import get_logger
from chassis.metrics import Metrics
from chassis.postgres import DataRefused, LockTimeout, OutcomeUnknown
from progress_service.domain.statistics import Recording, SessionResult, UserId, Verdict
from progress_service.store.results import ResultStore

# Learners whose results are recorded one by one, at once: enough that a few locked ones do not hold up the
# rest, few enough to leave connections to everyone else.
LEARNERS_AT_ONCE = 4
RETRY_AFTER_SECONDS = 0.25

logger = get_logger(__name__)

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
        try:
            recordings = await self._insert(results, skip_locked=True, deadline=deadline)
        except DataRefused:  # one of them is to blame: apart from it, the others are accepted
            recordings = [None] * len(results)
        left = [place for place, recording in enumerate(recordings) if recording is None]
        by_place = await self._record_by_learner(left, results, deadline=deadline)
        outcomes = [by_place[place] if each is None else each for place, each in enumerate(recordings)]
        self._take_note(zip(results, outcomes, strict=True))
        await failpoints.hit_async("progress.after_commit")
        return outcomes

    async def _insert(
        self, results: Sequence[SessionResult], *, skip_locked: bool, deadline: float
    ) -> list[Recording | None]:
        """Insert, and once more when the answer was lost: the sessions' ids tell what was counted already."""
        learners = list({result.user_id for result in results})
        try:
            await self._store.insert_learners(learners, deadline=deadline)
            return await self._store.insert_results(results, skip_locked=skip_locked, deadline=deadline)
        except OutcomeUnknown:
            logger.warning("outcome unknown, asking again", results=len(results))
        await self._store.insert_learners(learners, deadline=deadline)
        return await self._store.insert_results(results, skip_locked=skip_locked, deadline=deadline)

    async def _record_by_learner(
        self, places: Sequence[int], results: Sequence[SessionResult], *, deadline: float
    ) -> dict[int, Outcome]:
        """Record these in one transaction per learner, several learners at once."""
        outcomes: dict[int, Outcome] = {}
        turns = asyncio.Semaphore(LEARNERS_AT_ONCE)

        async def record(places: Sequence[int]) -> None:
            async with turns:
                theirs = [results[place] for place in places]
                recorded = await self._record_theirs(theirs, deadline=deadline)
                outcomes.update(zip(places, recorded, strict=True))

        async with asyncio.TaskGroup() as learners:
            for places_of_learner in _by_learner(places, results).values():
                learners.create_task(record(places_of_learner))
        return outcomes

    async def _record_theirs(self, results: Sequence[SessionResult], *, deadline: float) -> Sequence[Outcome]:
        """Record one learner's results: together, or one by one in their order to find the refused one."""
        try:
            recordings = await self._insert(results, skip_locked=False, deadline=deadline)
        except DataRefused as refusal:
            if len(results) > 1:
                alone = [await self._record_theirs([result], deadline=deadline) for result in results]
                return [outcome for (outcome,) in alone]
            logger.warning("session result refused", session_id=results[0].session_id, refusal=str(refusal))
            return [ServiceError(Reason.INVALID_ARGUMENT, "The values of this result contradict each other")]
        except (LockTimeout, OutcomeUnknown):
            return [ServiceError(Reason.UNAVAILABLE, retry_after_seconds=RETRY_AFTER_SECONDS)] * len(results)
        except ServiceError as error:
            return [error] * len(results)
        return [recording for recording in recordings if recording is not None]  # nothing was skipped

    def _take_note(self, told: Iterable[tuple[SessionResult, Outcome]]) -> None:
        for result, outcome in told:
            if isinstance(outcome, ServiceError):
                continue
            self._verdicts.add(outcome.verdict.value)
            if outcome.verdict is Verdict.CONTRADICTED:
                logger.error(
                    "session result contradicts the recorded one, which stays",
                    user_id=result.user_id,
                    session_id=result.session_id,
                )


def _by_learner(places: Iterable[int], results: Sequence[SessionResult]) -> dict[UserId, list[int]]:
    by_learner: dict[UserId, list[int]] = {}
    for place in places:
        by_learner.setdefault(results[place].user_id, []).append(place)
    return by_learner
