"""Wallets in the database: read whole, and written as what changed of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from uuid import UUID

from chassis.postgres import Connection
from subscription_service.domain.credits import Grant, HeldCredits, Wallet
from subscription_service.domain.utc_calendar import month_of
from subscription_service.store.limits import read_limits


async def read_wallets(
    connection: Connection, user_ids: Collection[str], *, now: datetime
) -> dict[str, Wallet]:
    """The wallets of learners whose lock is held, with every grant of which something is left."""
    wallets = {user_id: Wallet(user_id, now, 0, 0, 0, month_of(now), 0, {}) for user_id in user_ids}
    balances = await connection.fetch(
        """
        SELECT kept.user_id, kept.balance, kept.held, kept.entries, kept.month, kept.month_granted
          FROM unnest($1::text[]) AS wanted (user_id)
         CROSS JOIN LATERAL (SELECT user_id, balance, held, entries, month, month_granted
                               FROM credit_balances
                              WHERE user_id = wanted.user_id
                              LIMIT 1) AS kept
        """,
        list(wallets),
    )
    for row in balances:
        wallet = wallets[row["user_id"]]
        wallet.balance = row["balance"]
        wallet.held = row["held"]
        wallet.entries = row["entries"]
        wallet.month = row["month"]
        wallet.month_granted = row["month_granted"]
    grants = await connection.fetch(
        """
        SELECT unspent.user_id, unspent.entry_number, unspent.remaining, unspent.expires_at
          FROM unnest($1::text[]) AS wanted (user_id)
         CROSS JOIN LATERAL (SELECT user_id, entry_number, remaining, expires_at
                               FROM credit_grants
                              WHERE user_id = wanted.user_id AND remaining > 0
                             OFFSET 0) AS unspent
        """,
        list(wallets),
    )
    for row in grants:
        grant = Grant(row["entry_number"], row["remaining"], row["expires_at"])
        wallets[row["user_id"]].grants[grant.entry_number] = grant
    return wallets


async def read_held_credits(
    connection: Connection, wallets: Mapping[str, Wallet], holds: Collection[tuple[str, UUID]]
) -> dict[UUID, list[HeldCredits]]:
    """From which grants these holds (learner, id) took their credits; the wallets get to know the grants."""
    rows = await connection.fetch(
        """
        SELECT part.user_id, part.hold_id, part.entry_number, part.amount,
               source.remaining, source.expires_at
          FROM unnest($1::text[], $2::uuid[]) AS wanted (user_id, hold_id)
         CROSS JOIN LATERAL (SELECT user_id, hold_id, entry_number, amount
                               FROM hold_credits
                              WHERE user_id = wanted.user_id AND hold_id = wanted.hold_id
                             OFFSET 0) AS part
         CROSS JOIN LATERAL (SELECT remaining, expires_at
                               FROM credit_grants
                              WHERE user_id = part.user_id AND entry_number = part.entry_number
                              LIMIT 1) AS source
         ORDER BY part.entry_number
        """,
        [user_id for user_id, _ in holds],
        [hold_id for _, hold_id in holds],
    )
    held: dict[UUID, list[HeldCredits]] = {}
    for row in rows:
        number = row["entry_number"]
        held.setdefault(row["hold_id"], []).append(HeldCredits(number, row["amount"]))
        grants = wallets[row["user_id"]].grants
        if number not in grants:
            grants[number] = Grant(number, row["remaining"], row["expires_at"])
    return held


async def read_settled_wallets(
    connection: Connection, user_ids: Collection[str], *, pinned: datetime | None
) -> dict[str, Wallet]:
    """The wallets of learners whose lock is held, with everything that the clock has brought in and out."""
    limits = await read_limits(connection, user_ids, pinned=pinned)
    if not limits:
        return {}
    wallets = await read_wallets(connection, limits, now=next(iter(limits.values())).now)
    for user_id, wallet in wallets.items():
        wallet.settle(limits[user_id].limits.monthly_credits)
    return wallets


async def write_wallets(connection: Connection, wallets: Iterable[Wallet]) -> None:
    """Write what was decided: the new lines of the ledger, what is left of the grants, the balances."""
    changed = sorted((wallet for wallet in wallets if wallet.touched), key=lambda wallet: wallet.user_id)
    if not changed:
        return
    entries = [entry for wallet in changed for entry in wallet.new_entries]
    grants = [
        (wallet.user_id, wallet.grants[number]) for wallet in changed for number in wallet.touched_grants
    ]
    await connection.execute(
        """
        WITH entered AS (
            INSERT INTO credit_entries (user_id, entry_number, operation_id, kind, amount, reason,
                                        created_at, expires_at, balance_after)
            SELECT user_id, entry_number, operation_id, kind, amount, reason,
                   created_at, expires_at, balance_after
              FROM unnest($1::text[], $2::integer[], $3::text[], $4::text[], $5::integer[], $6::text[],
                          $7::timestamptz[], $8::timestamptz[], $9::integer[])
                   AS entry (user_id, entry_number, operation_id, kind, amount, reason,
                             created_at, expires_at, balance_after)
        ),
        granted AS (
            INSERT INTO credit_grants (user_id, entry_number, remaining, expires_at)
            SELECT user_id, entry_number, remaining, expires_at
              FROM unnest($10::text[], $11::integer[], $12::integer[], $13::timestamptz[])
                   AS left_over (user_id, entry_number, remaining, expires_at)
                ON CONFLICT ON CONSTRAINT credit_grants_once DO UPDATE
                   SET remaining = excluded.remaining
        )
        INSERT INTO credit_balances (user_id, balance, held, entries, month, month_granted)
        SELECT user_id, balance, held, entries, month, month_granted
          FROM unnest($14::text[], $15::integer[], $16::integer[], $17::integer[],
                      $18::date[], $19::integer[])
               AS wallet (user_id, balance, held, entries, month, month_granted)
            ON CONFLICT ON CONSTRAINT credit_balances_one_per_account DO UPDATE
               SET balance = excluded.balance, held = excluded.held, entries = excluded.entries,
                   month = excluded.month, month_granted = excluded.month_granted
        """,
        [entry.user_id for entry in entries],
        [entry.entry_number for entry in entries],
        [entry.operation_id for entry in entries],
        [entry.kind for entry in entries],
        [entry.amount for entry in entries],
        [entry.reason for entry in entries],
        [entry.created_at for entry in entries],
        [entry.expires_at for entry in entries],
        [entry.balance_after for entry in entries],
        [user_id for user_id, _ in grants],
        [grant.entry_number for _, grant in grants],
        [grant.remaining for _, grant in grants],
        [grant.expires_at for _, grant in grants],
        [wallet.user_id for wallet in changed],
        [wallet.balance for wallet in changed],
        [wallet.held for wallet in changed],
        [wallet.entries for wallet in changed],
        [wallet.month for wallet in changed],
        [wallet.month_granted for wallet in changed],
    )


async def insert_held_credits(
    connection: Connection, held: Mapping[tuple[str, UUID], Collection[HeldCredits]]
) -> None:
    """Record from which grants new holds have taken their credits."""
    parts = [(user_id, hold_id, part) for (user_id, hold_id), taken in held.items() for part in taken]
    await connection.execute(
        """
        INSERT INTO hold_credits (user_id, hold_id, entry_number, amount)
        SELECT user_id, hold_id, entry_number, amount
          FROM unnest($1::text[], $2::uuid[], $3::integer[], $4::integer[])
               AS part (user_id, hold_id, entry_number, amount)
        """,
        [user_id for user_id, _, _ in parts],
        [hold_id for _, hold_id, _ in parts],
        [part.entry_number for _, _, part in parts],
        [part.amount for _, _, part in parts],
    )
