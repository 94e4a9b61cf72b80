"""Changing licenses, as progress or an instructor says, and showing them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chassis.batch import Reply
from chassis.errors import ServiceError
from chassis.postgres.isolation import Locked, run_isolated
from subscription_service.domain.accounts import AccountStatus, invalid_user_reference
from subscription_service.domain.licenses import LevelAdvance, LevelReached, LevelReset, License
from subscription_service.operations.license_feed import LicenseFeed
from subscription_service.operations.refusals import refusal_of
from subscription_service.store.accounts import AccountStore
from subscription_service.store.keyed import Keyed, KeyedOutcome
from subscription_service.store.license_reads import LicenseReader, SequencedProgression
from subscription_service.store.licenses import LicenseStore


class LicenseOperations:
    def __init__(
        self, *, store: LicenseStore, reader: LicenseReader, accounts: AccountStore, feed: LicenseFeed
    ) -> None:
        self._store = store
        self._reader = reader
        self._accounts = accounts
        self._feed = feed

    async def change_licenses(
        self, orders: Sequence[LevelReached | LevelReset], *, deadline: float
    ) -> list[License | ServiceError]:
        """Apply levels and resets, each once per event."""

        async def attempt(
            some: Sequence[LevelReached | LevelReset], wait: bool
        ) -> list[License | ServiceError | Locked]:
            return await self._store.change_licenses(some, wait=wait, deadline=deadline)

        outcomes = await run_isolated(
            orders, attempt, owner_of=lambda order: order.user_id, refusal_of=refusal_of
        )
        self._feed.hasten()
        return outcomes

    async def advance_licenses(
        self,
        orders: Sequence[Keyed[LevelAdvance]],
        *,
        render: Callable[[License], bytes],
        deadline: float,
    ) -> list[Reply[Any] | ServiceError]:
        """Raise licenses by hand, each once per key."""

        async def attempt(some: Sequence[Keyed[LevelAdvance]], wait: bool) -> list[KeyedOutcome]:
            return await self._store.advance_licenses(some, render=render, wait=wait, deadline=deadline)

        outcomes = await run_isolated(
            orders, attempt, owner_of=lambda keyed: keyed.order.user_id, refusal_of=refusal_of
        )
        self._feed.hasten()
        return outcomes

    async def list_licenses(
        self, *, user_id: str, after: str, limit: int, of_inactive: bool, deadline: float
    ) -> list[License]:
        """A learner's licenses by specialization.

        Raises:
            ServiceError: INVALID_USER_REFERENCE.
        """
        await self._check_account(user_id, of_inactive=of_inactive, deadline=deadline)
        return await self._reader.list_licenses(user_id=user_id, after=after, limit=limit, deadline=deadline)

    async def list_history(
        self, *, user_id: str, specialization: str, before: int | None, limit: int, deadline: float
    ) -> list[SequencedProgression]:
        """How a license came to be, newest first.

        Raises:
            ServiceError: INVALID_USER_REFERENCE.
        """
        await self._check_account(user_id, of_inactive=False, deadline=deadline)
        return await self._reader.list_history(
            user_id=user_id, specialization=specialization, before=before, limit=limit, deadline=deadline
        )

    async def _check_account(self, user_id: str, *, of_inactive: bool, deadline: float) -> None:
        account = (await self._accounts.get_accounts([user_id], deadline=deadline)).get(user_id)
        if account is None or not (of_inactive or account.status is AccountStatus.ACTIVE):
            raise invalid_user_reference()
