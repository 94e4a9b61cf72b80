"""Comparing all progress with all licenses, in stretches: both stores are read in the order of their keys."""

from __future__ import annotations

import time
from dataclasses import dataclass

from chassis.batch import Item
from chassis.rpc.paging import Page, Stretch
from progress_service.domain.desyncs import Comparison, Desync, Key, compare
from progress_service.domain.statistics import UserId
from progress_service.store.level_reads import LevelReader
from progress_service.subscription_client import LEVELS_PER_PAGE_MAX, SubscriptionClient

ROWS_PER_STRETCH = LEVELS_PER_PAGE_MAX
STRETCHES_PER_PAGE_MAX = 5
# A page of desyncs searches no further when its request has less time left.
SEARCH_SECONDS_MIN = 2.0


@dataclass(frozen=True, slots=True)
class Scope:
    """What is compared: one specialization or one learner, unless these are empty."""

    specialization: str = ""
    user_id: str = ""


class StoreComparison:
    """Reads both stores, a slice of each at a time, so that the memory does not depend on their sizes."""

    def __init__(self, *, levels: LevelReader, licenses: SubscriptionClient, age_seconds_min: float) -> None:
        self._levels = levels
        self._licenses = licenses
        self._age_seconds_min = age_seconds_min

    async def compare_next(
        self, scope: Scope, *, after: Key | None, deadline: float, limit: int = 0
    ) -> Comparison:
        """Compare the stretch behind this key, of at most `limit` rows of each side; 0: of the usual number.

        Raises ServiceError, and what `Database` raises.
        """
        limit = min(limit, ROWS_PER_STRETCH) or ROWS_PER_STRETCH
        licenses = await self._licenses.list_license_levels(
            after=after,
            specialization=scope.specialization,
            user_id=scope.user_id,
            limit=limit,
            deadline=deadline,
        )
        progress = await self._levels.list_levels(
            after=after,
            specialization=scope.specialization,
            user_id=scope.user_id,
            limit=limit,
            deadline=deadline,
        )
        return compare(progress, licenses)

    async def list_desyncs(self, item: Item[Scope], page: Page) -> Stretch[Desync]:
        """The disagreements behind a key that have lasted for `age_seconds_min`, from a bounded search."""
        name, learner = map(str, page.after or ("", ""))
        after = Key(name, UserId(learner)) if page.after else None
        found: list[Desync] = []
        for _ in range(STRETCHES_PER_PAGE_MAX):
            stretch = await self.compare_next(item.request, after=after, deadline=item.deadline)
            found += [each for each in stretch.desyncs if each.is_settled(self._age_seconds_min)]
            after = stretch.reached
            short_of_time = item.deadline - time.monotonic() < SEARCH_SECONDS_MIN
            if after is None or len(found) >= page.limit or short_of_time:
                break
        return Stretch(found[: page.limit], searched_to=None if after is None else tuple(after))
