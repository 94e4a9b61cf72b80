"""CompleteLesson: the database first, then the cache, and an answer that says how far both are."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from chassis import failpoints
from chassis.batch import Item, Outcome, Reply, latest_deadline
from chassis.errors import ServiceError
from chassis.postgres import DatabaseUnavailable, DataRefused, LockTimeout, OutcomeUnknown
from chassis.postgres.isolation import Locked, run_isolated
from chassis.postgres.keyed import completed_call
from chassis.telemetry.logs import get_logger
from progress_service.account_client import AccountClient
from progress_service.domain.access import CourseAccess
from progress_service.domain.completions import Completion, CompletionRequest
from progress_service.domain.statistics import UserId
from progress_service.operations.lessons import run_in_courses
from progress_service.store.access_cache import AccessCache
from progress_service.store.completions import CompletionStore
from progress_service.store.learner_changes import Refusals
from progress_service.store.modules import ModuleStore
from progress_service.store.standings import Attendance, StandingStore
from progress_service.store.unlocked_completions import DraftedCall, UnlockedCompletionStore

Items = Sequence[Item[CompletionRequest]]

# What is committed is answered in time, however slow the cache is: a caller needs this long for its answer.
ANSWER_SECONDS = 0.25
# A caller whose time is over takes no more from the others than the time of a usual write.
CACHE_SECONDS_MIN = 0.05

log = get_logger(__name__)


class CompletionOperations:
    """What completing a lesson does."""

    def __init__(
        self,
        *,
        store: CompletionStore,
        unlocked: UnlockedCompletionStore,
        standings: StandingStore,
        modules: ModuleStore,
        accounts: AccountClient,
        cache: AccessCache,
    ) -> None:
        self._store = store
        self._unlocked = unlocked
        self._standings = standings
        self._modules = modules
        self._accounts = accounts
        self._cache = cache

    async def complete_lessons(
        self, items: Items, render: Callable[[Completion], bytes], *, cached: bytes
    ) -> list[Outcome]:
        """Complete each lesson, once per key, and write what is open now through to the cache.

        `cached` is added to each answer whose completion the cache holds then. It is not part of the stored
        answer: a replay tells what is so when it is sent.

        Refuses with INVALID_USER_REFERENCE, EMAIL_NOT_VERIFIED, NOT_FOUND, LESSON_LOCKED,
        ENGAGEMENT_TOO_LOW, or ILLEGAL_TRANSITION if the progress was reset since `occurred_at`.
        """
        return await run_in_courses(
            items, self._modules, partial(self._complete_known, render=render, cached=cached)
        )

    async def _complete_known(
        self, items: Items, *, render: Callable[[Completion], bytes], cached: bytes
    ) -> list[Outcome]:
        answers = await self._accounts.refusals_of_unverified(items)
        refusals = {
            item.request.user_id: refusal
            for item, refusal in zip(items, answers, strict=True)
            if refusal is not None
        }
        # By the identity of the bytes: what was rendered in a transaction that failed is never looked up.
        rendered: dict[int, tuple[bytes, CourseAccess]] = {}

        def rendering(completion: Completion) -> bytes:
            response = render(completion)
            rendered[id(response)] = response, completion.access
            return response

        async def attempt(some: Items, wait: bool) -> list[Outcome | Locked]:
            allowed = {item.request.user_id for item in some} - refusals.keys()
            await self._store.ensure_learners(allowed, certainly=wait, deadline=latest_deadline(some))
            return await self._store.complete(some, wait, refusals=refusals, render=rendering)

        written = await self._complete_unlocked(items, refusals, rendering)
        left = [item for item, outcome in zip(items, written, strict=True) if outcome is None]
        under_lock = iter(await run_isolated(left, attempt, owner_of=lambda item: item.request.user_id))
        outcomes = [next(under_lock) if outcome is None else outcome for outcome in written]
        await failpoints.hit_async("progress.after_commit")
        held = await self._write_through(items, outcomes, {key: each[1] for key, each in rendered.items()})
        return [
            Reply(outcome.payload() + cached, outcome.replayed, outcome.original)
            if isinstance(outcome, Reply) and _attendance(item) in held
            else outcome
            for item, outcome in zip(items, outcomes, strict=True)
        ]

    async def _complete_unlocked(
        self, items: Items, refusals: Refusals, render: Callable[[Completion], bytes]
    ) -> list[Outcome | None]:
        """Decide on what is read without locks, and write it where that is still so.

        None for each request that needs the locks: of a learner who is refused, has several requests here, or
        was changed meanwhile; one that would be refused or replayed; one that brings more than a lesson and
        its XP. Whatever goes wrong here, the way with locks finds out whose fault it is.
        """
        requests = Counter(item.request.user_id for item in items)
        alone = {
            place: item
            for place, item in enumerate(items)
            if requests[item.request.user_id] == 1 and item.request.user_id not in refusals
        }
        drafted: dict[int, DraftedCall] = {}
        written: set[UserId] = set()
        try:
            facts = await self._unlocked.read_facts(list(alone.values())) if alone else ()
            for (place, item), known in zip(alone.items(), facts, strict=True):
                if known is not None and (draft := known.draft(item.request)) is not None:
                    drafted[place] = DraftedCall(known, draft, completed_call(item, render(draft.outcome)))
            if drafted:
                written = await self._unlocked.write_unchanged(
                    list(drafted.values()), deadline=latest_deadline(items)
                )
        except (DataRefused, LockTimeout, ServiceError):
            pass
        except OutcomeUnknown:
            log.warning("outcome_unknown", requests=len(drafted))
        except Exception:
            log.exception("completions_not_drafted", requests=len(alone))
        return [
            drafted[place].call.reply() if place in drafted and item.request.user_id in written else None
            for place, item in enumerate(items)
        ]

    async def _write_through(
        self, items: Items, outcomes: Sequence[Outcome], rendered: dict[int, CourseAccess]
    ) -> set[Attendance]:
        """Write what is open to these learners now; those of whom the cache holds it."""
        values: dict[Attendance, CourseAccess] = {}
        replayed: set[Attendance] = set()
        for item, outcome in zip(items, outcomes, strict=True):
            if isinstance(outcome, Reply):
                access = None if outcome.replayed else rendered.get(id(outcome.message))
                if access is None:
                    replayed.add(_attendance(item))
                else:
                    values[_attendance(item)] = access
        values |= await self._read(replayed - values.keys(), deadline=latest_deadline(items))
        # A replay may be of an enrollment before a reset.
        kept = {each: access for each, access in values.items() if access.enrolled}
        first_deadline = min(item.deadline for item in items)
        until = max(first_deadline - ANSWER_SECONDS, time.monotonic() + CACHE_SECONDS_MIN)
        confirmed = await self._cache.write(list(kept.values()), until=until) if kept else []
        return {each for each, held in zip(kept, confirmed, strict=True) if held}

    async def _read(self, wanted: set[Attendance], *, deadline: float) -> dict[Attendance, CourseAccess]:
        """What is open to them by the database. If it cannot be read, the answers say so, and stand."""
        if not wanted:
            return {}
        try:
            return dict(await self._standings.read_access(wanted, deadline=deadline))
        except (DatabaseUnavailable, ServiceError) as error:
            log.warning("access_not_read_after_replay", problem=repr(error))
            return {}


def _attendance(item: Item[CompletionRequest]) -> Attendance:
    return Attendance(item.request.user_id, item.request.course_id)
