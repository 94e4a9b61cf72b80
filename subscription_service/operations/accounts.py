"""Creating, replacing and reading accounts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from chassis.errors import Reason, ServiceError
from chassis.postgres.isolation import RETRY_AFTER_SECONDS, Locked, run_isolated
from subscription_service.domain.accounts import Account, AccountDetails, email_taken
from subscription_service.operations.refusals import refusal_of
from subscription_service.store.accounts import EMAIL_CONSTRAINT, AccountsAppeared, AccountStore

LOOKS_MAX = 4


class AccountOperations:
    def __init__(self, *, store: AccountStore) -> None:
        self._store = store

    async def put_accounts(
        self, accounts: Sequence[tuple[AccountDetails, str]], *, deadline: float
    ) -> list[Account | ServiceError]:
        """Create or replace each; with each comes who asks. An e-mail address belongs to one account."""

        async def attempt(
            some: Sequence[tuple[AccountDetails, str]], wait: bool
        ) -> list[Account | ServiceError | Locked]:
            for _ in range(LOOKS_MAX):
                try:
                    return await self._store.put_accounts(
                        [details for details, _ in some],
                        by=[caller for _, caller in some],
                        wait=wait,
                        deadline=deadline,
                    )
                except AccountsAppeared:
                    continue
            raise ServiceError(
                Reason.UNAVAILABLE,
                "The account is being created by someone else",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )

        return await run_isolated(
            accounts,
            attempt,
            owner_of=lambda account: account[0].user_id,
            refusal_of=partial(refusal_of, meanings={EMAIL_CONSTRAINT: email_taken}),
        )

    async def get_accounts(self, user_ids: Sequence[str], *, deadline: float) -> list[Account | ServiceError]:
        found = await self._store.get_accounts(set(user_ids), deadline=deadline)
        return [
            found.get(user_id) or ServiceError(Reason.NOT_FOUND, "There is no such account")
            for user_id in user_ids
        ]
