"""Changing licenses, as progress or an instructor orders, and showing them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from chassis.batch import Item, Outcome
from chassis.errors import ServiceError
from chassis.postgres.isolation import run_isolated
from chassis.rpc.paging import Page
from subscription_service.domain.accounts import AccountStatus, ListOwner, invalid_user_reference
from subscription_service.domain.licenses import (
    LevelAdvance,
    LevelMirror,
    LevelReached,
    LevelReset,
    License,
    MirroredLicense,
    SequencedProgression,
)
from subscription_service.operations.license_feed import LicenseFeed
from subscription_service.store.accounts import AccountStore
from subscription_service.store.license_reads import LicenseReader
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
        self, items: Sequence[Item[LevelReached | LevelReset]]
    ) -> list[License | ServiceError]:
        """Apply levels and resets, each once per event."""
        outcomes = await run_isolated(
            items, self._store.change_licenses, owner_of=lambda item: item.request.user_id
        )
        self._feed.wake()
        return outcomes

    async def mirror_levels(self, items: Sequence[Item[LevelMirror]]) -> list[MirroredLicense | ServiceError]:
        """Let licenses follow the progress that they disagree with, each once per event."""
        outcomes = await run_isolated(
            items, self._store.mirror_levels, owner_of=lambda item: item.request.user_id
        )
        self._feed.wake()
        return outcomes

    async def advance_licenses(
        self, items: Sequence[Item[LevelAdvance]], render: Callable[[License], bytes]
    ) -> list[Outcome]:
        """Raise licenses by hand, each once per key."""
        attempt = partial(self._store.advance_licenses, render=render)
        outcomes = await run_isolated(items, attempt, owner_of=lambda item: item.request.user_id)
        self._feed.wake()
        return outcomes

    async def list_licenses(self, item: Item[ListOwner], page: Page) -> list[License]:
        """A learner's licenses by specialization.

        Raises:
            ServiceError: INVALID_USER_REFERENCE.
        """
        owner = item.request
        await self._check_account(owner.user_id, also_inactive=owner.also_inactive, deadline=item.deadline)
        return await self._reader.list_licenses(item, page)

    async def list_history(self, item: Item[str], page: Page) -> list[SequencedProgression]:
        """The changes of the caller's license in a specialization, newest first.

        Raises:
            ServiceError: INVALID_USER_REFERENCE.
        """
        await self._check_account(item.user_id, also_inactive=False, deadline=item.deadline)
        return await self._reader.list_history(item, page)

    async def _check_account(self, user_id: str, *, also_inactive: bool, deadline: float) -> None:
        account = (await self._accounts.get_accounts([user_id], deadline=deadline)).get(user_id)
        if account is None or not (also_inactive or account.status is AccountStatus.ACTIVE):
            raise invalid_user_reference()
