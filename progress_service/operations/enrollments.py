"""Enroll: a learner begins a course."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chassis.batch import Item, Outcome, latest_deadline
from chassis.postgres.isolation import Locked, run_isolated
from progress_service.account_client import AccountClient
from progress_service.domain.enrollments import Enrollment, EnrollRequest
from progress_service.store.enrollments import EnrollmentStore


class EnrollmentOperations:
    """What a learner does with enrollments."""

    def __init__(self, *, store: EnrollmentStore, accounts: AccountClient) -> None:
        self._store = store
        self._accounts = accounts

    async def enroll(
        self, items: Sequence[Item[EnrollRequest]], render: Callable[[Enrollment], bytes]
    ) -> list[Outcome]:
        """Enroll each, once per key. To enroll again, under another key, shows the enrollment.

        Refuses with INVALID_USER_REFERENCE an account that is unknown or inactive, and with NOT_FOUND a
        course that does not exist.
        """
        answers = await self._accounts.refusals_of_inactive(items)
        refusals = {
            item.request.user_id: refusal
            for item, refusal in zip(items, answers, strict=True)
            if refusal is not None
        }
        allowed = {item.request.user_id for item in items} - refusals.keys()

        async def attempt(some: Sequence[Item[EnrollRequest]], wait: bool) -> list[Outcome | Locked]:
            await self._store.ensure_learners(
                allowed & {item.request.user_id for item in some},
                certainly=wait,
                deadline=latest_deadline(some),
            )
            return await self._store.enroll(some, wait, refusals=refusals, render=render)

        return await run_isolated(items, attempt, owner_of=lambda item: item.request.user_id)
