"""Accounts in the database, and the catalog that keeps their e-mail addresses apart."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from chassis.batch import Item, latest_deadline
from chassis.errors import ServiceError
from chassis.postgres import Connection, Database
from chassis.postgres.isolation import Locked
from chassis.postgres.rows import as_rows, from_row, names
from subscription_service.domain.accounts import (
    Account,
    AccountDetails,
    AccountStanding,
    AccountStatus,
    Directory,
)
from subscription_service.domain.subscriptions import (
    SubscriptionOrder,
    SubscriptionRecord,
    SubscriptionStatus,
)
from subscription_service.store.clock import PinnedTime, database_time
from subscription_service.store.locks import lock_learners
from subscription_service.store.subscriptions import write_subscriptions

EMAIL_CONSTRAINT = "account_emails_one_account_per_email"
ACCOUNT = """user_id text, email text, display_name text, email_verified boolean, status text,
             created_at timestamptz, updated_at timestamptz"""
ACCOUNT_COLUMNS = names(ACCOUNT)

# One probe of the primary key for each account; the subquery is that of `RowType.unnest`.
_CHECK_ACCOUNTS = """
    SELECT account.user_id, account.email_verified
      FROM unnest((SELECT $1::text[])) AS wanted (user_id)
     CROSS JOIN LATERAL (SELECT user_id, email_verified
                           FROM accounts
                          WHERE user_id = wanted.user_id AND status = 'active'
                          LIMIT 1) AS account
"""


class AccountsAppeared(Exception):  # noqa: N818 — named for what happened
    """Another request created an account after we had looked for it. Nothing was written; look again."""


class AccountStore:
    def __init__(self, *, database: Database, pinned_time: PinnedTime = database_time) -> None:
        self._database = database
        self._pinned_time = pinned_time

    async def put_accounts(
        self, items: Sequence[Item[AccountDetails]], wait: bool
    ) -> list[Account | ServiceError | Locked]:
        """Create or replace these in their order. A new account is subscribed to the default plan.

        Raises AccountsAppeared.
        """
        accounts = [item.request for item in items]

        async def work(connection: Connection) -> list[Account | ServiceError | Locked]:
            learners = await lock_learners(connection, [a.user_id for a in accounts], wait=wait)
            ours = [a for a in accounts if a.user_id not in learners.held_by_another]
            directory = await self._read(connection, ours)
            outcomes: list[Account | ServiceError | Locked] = [
                Locked.HELD_BY_ANOTHER if a.user_id in learners.held_by_another else directory.put(a)
                for a in accounts
            ]
            creators = {item.request.user_id: item.user_id for item in items}
            await _write(connection, directory, creators)
            return outcomes

        return await self._database.write(work, deadline=latest_deadline(items), name="put_accounts")

    async def get_accounts(self, user_ids: Collection[str], *, deadline: float) -> dict[str, Account]:
        """The accounts that exist."""

        async def work(connection: Connection) -> dict[str, Account]:
            return await _accounts(connection, user_ids)

        return await self._database.read(work, deadline=deadline, name="get_accounts")

    async def check_accounts(
        self, user_ids: Collection[str], *, deadline: float
    ) -> dict[str, AccountStanding]:
        """What each of these accounts may do; those that are unknown or inactive are absent."""

        async def work(connection: Connection) -> dict[str, AccountStanding]:
            return {
                user_id: AccountStanding.VERIFIED if verified else AccountStanding.UNVERIFIED
                for user_id, verified in await connection.fetch(_CHECK_ACCOUNTS, list(user_ids))
            }

        return await self._database.read(work, deadline=deadline, name="check_accounts")

    async def _read(self, connection: Connection, accounts: Sequence[AccountDetails]) -> Directory:
        existing = await _accounts(connection, {a.user_id for a in accounts})
        owners = await connection.fetch(
            """
            SELECT owned.email_key, owned.user_id
              FROM unnest($1::text[]) AS wanted (email_key)
             CROSS JOIN LATERAL (SELECT email_key, user_id
                                   FROM account_emails
                                  WHERE email_key = wanted.email_key
                                  LIMIT 1) AS owned
            """,
            list({a.email_key for a in accounts} | {a.email_key for a in existing.values()}),
        )
        now = await connection.fetchval(
            "SELECT coalesce($1::timestamptz, statement_timestamp())", self._pinned_time()
        )
        return Directory(now, existing, {row["email_key"]: row["user_id"] for row in owners})


async def _accounts(connection: Connection, user_ids: Collection[str]) -> dict[str, Account]:
    rows = await connection.fetch(
        f"""
        SELECT {names(ACCOUNT, of="account")}
          FROM unnest($1::text[]) AS wanted (user_id)
         CROSS JOIN LATERAL (SELECT {ACCOUNT_COLUMNS}
                               FROM accounts
                              WHERE user_id = wanted.user_id
                              LIMIT 1) AS account
        """,
        list(user_ids),
    )
    return {row["user_id"]: from_row(Account, row, status=AccountStatus(row["status"])) for row in rows}


async def _write(connection: Connection, directory: Directory, creators: dict[str, str]) -> None:
    changed = [directory.accounts[user_id] for user_id in sorted(directory.changed)]
    if not changed:
        return
    await _insert_accounts(connection, [a for a in changed if a.user_id in directory.created])
    await _update_accounts(connection, [a for a in changed if a.user_id not in directory.created])
    by_email = sorted(changed, key=lambda account: account.email_key)
    await connection.execute(
        """
        INSERT INTO account_emails (email_key, user_id)
        SELECT email_key, user_id
          FROM json_to_recordset($1) AS owned (email_key text, user_id text)
            ON CONFLICT ON CONSTRAINT account_emails_one_email_per_account DO UPDATE
               SET email_key = excluded.email_key
             WHERE account_emails.email_key <> excluded.email_key
        """,
        as_rows([{"email_key": account.email_key, "user_id": account.user_id} for account in by_email]),
    )
    if directory.created:
        await _subscribe_to_default(connection, directory, creators)


async def _insert_accounts(connection: Connection, accounts: Sequence[Account]) -> None:
    if not accounts:
        return
    inserted = await connection.fetch(
        f"""
        INSERT INTO accounts ({ACCOUNT_COLUMNS})
        SELECT {ACCOUNT_COLUMNS}
          FROM json_to_recordset($1) AS account ({ACCOUNT})
            ON CONFLICT ON CONSTRAINT accounts_once DO NOTHING
        RETURNING user_id
        """,
        as_rows(accounts),
    )
    if len(inserted) != len(accounts):
        raise AccountsAppeared


async def _update_accounts(connection: Connection, accounts: Sequence[Account]) -> None:
    if not accounts:
        return
    await connection.execute(
        f"""
        INSERT INTO accounts ({ACCOUNT_COLUMNS})
        SELECT {ACCOUNT_COLUMNS}
          FROM json_to_recordset($1) AS changed ({ACCOUNT})
            ON CONFLICT ON CONSTRAINT accounts_once DO UPDATE
               SET email = excluded.email, display_name = excluded.display_name,
                   email_verified = excluded.email_verified, status = excluded.status,
                   updated_at = excluded.updated_at
        """,
        as_rows(accounts),
    )


async def _subscribe_to_default(
    connection: Connection, directory: Directory, creators: dict[str, str]
) -> None:
    plan_id = await connection.fetchval("SELECT plan_id FROM plans WHERE is_default")
    if plan_id is None:
        raise LookupError("no plan is the default plan")
    records = []
    for user_id in sorted(directory.created):
        record = SubscriptionRecord(user_id, directory.now)
        order = SubscriptionOrder(user_id, plan_id, SubscriptionStatus.ACTIVE, None, creators[user_id])
        record.order(order, frozenset({plan_id}))
        records.append(record)
    await write_subscriptions(connection, records)
