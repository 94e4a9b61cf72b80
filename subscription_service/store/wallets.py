"""Wallets in the database: each is read as a whole, and only its changes are written."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from uuid import UUID

from chassis.postgres import Connection
from chassis.postgres.rows import as_rows, names
from subscription_service.domain.credits import Grant, HeldCredits, Wallet
from subscription_service.domain.holds import HoldReference
from subscription_service.domain.utc_calendar import month_of
from subscription_service.store.limits import read_limits

ENTRY = """user_id text, entry_number integer, operation_id text, kind text, amount integer, reason text,
           created_at timestamptz, expires_at timestamptz, balance_after integer"""
ENTRY_COLUMNS = names(ENTRY)
BALANCE = "user_id text, balance integer, held integer, entries integer, month date, month_granted integer"
GRANT = "user_id text, entry_number integer, remaining integer, expires_at timestamptz"
HELD_CREDITS = "user_id text, hold_id uuid, entry_number integer, amount integer"


async def read_wallets(
    connection: Connection, user_ids: Collection[str], *, now: datetime
) -> dict[str, Wallet]:
    """The wallets of learners whose lock is held, with every grant of which something is left."""
    wallets = {user_id: Wallet(user_id, now, 0, 0, 0, month_of(now), 0, {}) for user_id in user_ids}
    balances = await connection.fetch(
        f"""
        SELECT {names(BALANCE, of="kept")}
          FROM unnest($1::text[]) AS wanted (user_id)
         CROSS JOIN LATERAL (SELECT {names(BALANCE)}
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
        f"""
        SELECT {names(GRANT, of="unspent")}
          FROM unnest($1::text[]) AS wanted (user_id)
         CROSS JOIN LATERAL (SELECT {names(GRANT)}
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
    connection: Connection, wallets: Mapping[str, Wallet], holds: Collection[HoldReference]
) -> dict[UUID, list[HeldCredits]]:
    """The grants that the credits of these holds come from. Adds those grants to the wallets."""
    rows = await connection.fetch(
        f"""
        SELECT {names(HELD_CREDITS, of="part")}, source.remaining, source.expires_at,
               expiry.operation_id IS NOT NULL AS expired
          FROM json_to_recordset($1) AS wanted (user_id text, hold_id uuid)
         CROSS JOIN LATERAL (SELECT {names(HELD_CREDITS)}
                               FROM hold_credits
                              WHERE user_id = wanted.user_id AND hold_id = wanted.hold_id
                             OFFSET 0) AS part
         CROSS JOIN LATERAL (SELECT remaining, expires_at
                               FROM credit_grants
                              WHERE user_id = part.user_id AND entry_number = part.entry_number
                              LIMIT 1) AS source
          LEFT JOIN LATERAL (SELECT operation_id
                               FROM credit_entries
                              WHERE user_id = part.user_id
                                AND operation_id = 'expiry:' || part.entry_number
                              LIMIT 1) AS expiry ON true
         ORDER BY part.entry_number
        """,
        as_rows(list(holds)),
    )
    held: dict[UUID, list[HeldCredits]] = {}
    for row in rows:
        number = row["entry_number"]
        held.setdefault(row["hold_id"], []).append(HeldCredits(number, row["amount"]))
        wallet = wallets[row["user_id"]]
        wallet.grants.setdefault(number, Grant(number, row["remaining"], row["expires_at"]))
        if row["expired"]:
            wallet.expired.add(number)
    return held


async def read_settled_wallets(
    connection: Connection, user_ids: Collection[str], *, pinned: datetime | None
) -> dict[str, Wallet]:
    """The wallets of learners whose lock is held, with all entries that the time has made necessary."""
    limits = await read_limits(connection, user_ids, pinned=pinned)
    if not limits:
        return {}
    wallets = await read_wallets(connection, limits, now=next(iter(limits.values())).now)
    for user_id, wallet in wallets.items():
        wallet.settle(limits[user_id].limits.monthly_credits)
    return wallets


async def write_wallets(connection: Connection, wallets: Iterable[Wallet]) -> None:
    """Write the decisions: the new lines of the ledger, what remains of the grants, the balances."""
    changed = sorted((wallet for wallet in wallets if wallet.touched), key=lambda wallet: wallet.user_id)
    if not changed:
        return
    entries = [entry for wallet in changed for entry in wallet.new_entries]
    grants = [
        {"user_id": wallet.user_id, **asdict(wallet.grants[number])}
        for wallet in changed
        for number in wallet.touched_grants
    ]
    balances = [{name: getattr(wallet, name) for name in _BALANCE_NAMES} for wallet in changed]
    await connection.execute(_WRITE_WALLETS, as_rows(entries), as_rows(grants), as_rows(balances))


_BALANCE_NAMES = names(BALANCE).split(", ")
_WRITE_WALLETS = f"""
    WITH entered AS (
        INSERT INTO credit_entries ({ENTRY_COLUMNS})
        SELECT {ENTRY_COLUMNS}
          FROM json_to_recordset($1) AS entry ({ENTRY})
    ),
    granted AS (
        INSERT INTO credit_grants ({names(GRANT)})
        SELECT {names(GRANT)}
          FROM json_to_recordset($2) AS left_over ({GRANT})
            ON CONFLICT ON CONSTRAINT credit_grants_once DO UPDATE
               SET remaining = excluded.remaining
    )
    INSERT INTO credit_balances ({names(BALANCE)})
    SELECT {names(BALANCE)}
      FROM json_to_recordset($3) AS wallet ({BALANCE})
        ON CONFLICT ON CONSTRAINT credit_balances_one_per_account DO UPDATE
           SET balance = excluded.balance, held = excluded.held, entries = excluded.entries,
               month = excluded.month, month_granted = excluded.month_granted
"""


async def insert_held_credits(
    connection: Connection, held: Mapping[tuple[str, UUID], Collection[HeldCredits]]
) -> None:
    """Record the grants that new holds have taken their credits from."""
    parts = [
        {"user_id": user_id, "hold_id": hold_id, **part._asdict()}
        for (user_id, hold_id), taken in held.items()
        for part in taken
    ]
    await connection.execute(
        f"""
        INSERT INTO hold_credits ({names(HELD_CREDITS)})
        SELECT {names(HELD_CREDITS)}
          FROM json_to_recordset($1) AS part ({HELD_CREDITS})
        """,
        as_rows(parts),
    )
