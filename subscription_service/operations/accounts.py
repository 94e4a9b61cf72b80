"""Creating, replacing and reading accounts."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.batch import Item, latest_deadline
from chassis.errors import Reason, ServiceError
from chassis.postgres.isolation import Locked, run_isolated
from chassis.postgres.refusals import busy
from subscription_service.domain.accounts import (
    Account,
    AccountDetails,
    AccountStanding,
    email_taken,
    invalid_user_reference,
)
from subscription_service.store.accounts import EMAIL_CONSTRAINT, AccountsAppeared, AccountStore

LOOKS_MAX = 4


class AccountOperations:
    def __init__(self, *, store: AccountStore) -> None:
        self._store = store

    async def put_accounts(self, items: Sequence[Item[AccountDetails]]) -> list[Account | ServiceError]:
        """Create or replace each. An e-mail address belongs to one account."""

        async def attempt(
            some: Sequence[Item[AccountDetails]], wait: bool
        ) -> list[Account | ServiceError | Locked]:
            for _ in range(LOOKS_MAX):
                try:
                    return await self._store.put_accounts(some, wait)
                except AccountsAppeared:
                    continue
            raise busy("Another request is creating the account")

        return await run_isolated(
            items,
            attempt,
            owner_of=lambda item: item.request.user_id,
            meanings={EMAIL_CONSTRAINT: email_taken},
        )

    async def get_accounts(self, items: Sequence[Item[str]]) -> list[Account | ServiceError]:
        """The accounts with these ids."""
        found = await self._found(items)
        missing = ServiceError(Reason.NOT_FOUND, "There is no such account")
        return [found.get(item.request, missing) for item in items]

    async def get_own_accounts(self, items: Sequence[Item[str]]) -> list[Account | ServiceError]:
        """The accounts of the callers. A caller without an account is refused; it is not NOT_FOUND."""
        found = await self._found(items)
        return [found.get(item.request) or invalid_user_reference() for item in items]

    async def check_accounts(
        self, items: Sequence[Item[Sequence[str]]]
    ) -> list[list[AccountStanding] | ServiceError]:
        """For each request what its accounts may do now, from one read."""
        user_ids = {user_id for item in items for user_id in item.request}
        found = await self._store.check_accounts(user_ids, deadline=latest_deadline(items))
        return [
            [found.get(user_id, AccountStanding.NOT_ACTIVE) for user_id in item.request] for item in items
        ]

    async def _found(self, items: Sequence[Item[str]]) -> dict[str, Account]:
        user_ids = {item.request for item in items}
        return await self._store.get_accounts(user_ids, deadline=latest_deadline(items))
