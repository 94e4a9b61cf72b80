"""Compares each stored total with the sum of its parts."""

from __future__ import annotations

from typing import NamedTuple

from chassis.postgres import Connection, Database


class Discrepancy(NamedTuple):
    """A total that differs from the sum of its parts: `kept` is stored, `counted` is that sum."""

    what: str
    user_id: str
    about: str
    kept: int
    counted: int


class DiagnosticStore:
    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def select_discrepancies(self, *, limit: int = 100, deadline: float) -> list[Discrepancy]:
        """Up to `limit` discrepancies. It reads all tables from end to end."""

        async def work(connection: Connection) -> list[Discrepancy]:
            return await read_discrepancies(connection, limit=limit)

        return await self._database.read(work, deadline=deadline, name="select_discrepancies")


async def read_discrepancies(connection: Connection, *, limit: int = 100) -> list[Discrepancy]:
    """The same, over a connection that the caller has."""
    rows = await connection.fetch(_DISCREPANCIES, limit)
    return [
        Discrepancy(row["what"], row["user_id"], row["about"], row["kept"], row["counted"]) for row in rows
    ]


_DISCREPANCIES = """
    WITH day AS (
        SELECT user_id, day,
               coalesce(sum(tests) FILTER (WHERE state = 'open'), 0) AS held,
               coalesce(sum(tests) FILTER (WHERE state = 'committed'), 0) AS used
          FROM holds
         GROUP BY user_id, day
    ),
    usage AS (
        SELECT coalesce(kept.user_id, day.user_id) AS user_id, coalesce(kept.day, day.day) AS day,
               coalesce(kept.held, 0) AS kept_held, coalesce(day.held, 0) AS held,
               coalesce(kept.used, 0) AS kept_used, coalesce(day.used, 0) AS used
          FROM daily_usage AS kept
          FULL JOIN day ON day.user_id = kept.user_id AND day.day = kept.day
    ),
    ledger AS (
        SELECT user_id, sum(amount) AS balance, count(*) AS entries, max(entry_number) AS last_number
          FROM credit_entries
         GROUP BY user_id
    ),
    granted AS (
        SELECT user_id, sum(remaining) AS remaining
          FROM credit_grants
         GROUP BY user_id
    ),
    reserved AS (
        SELECT user_id, sum(credits) AS held
          FROM holds
         WHERE state = 'open' AND credits > 0
         GROUP BY user_id
    ),
    wallet AS (
        SELECT coalesce(kept.user_id, ledger.user_id) AS user_id,
               coalesce(kept.balance, 0) AS kept_balance, coalesce(ledger.balance, 0) AS balance,
               coalesce(kept.held, 0) AS kept_held, coalesce(reserved.held, 0) AS held,
               coalesce(granted.remaining, 0) AS remaining,
               coalesce(kept.entries, 0) AS kept_entries, coalesce(ledger.entries, 0) AS entries,
               coalesce(ledger.last_number, 0) AS last_number
          FROM credit_balances AS kept
          FULL JOIN ledger ON ledger.user_id = kept.user_id
          LEFT JOIN granted ON granted.user_id = kept.user_id
          LEFT JOIN reserved ON reserved.user_id = kept.user_id
    ),
    taken AS (
        SELECT hold.user_id, hold.hold_id, hold.credits, coalesce(sum(part.amount), 0) AS amount
          FROM holds AS hold
          LEFT JOIN hold_credits AS part ON part.user_id = hold.user_id AND part.hold_id = hold.hold_id
         WHERE hold.credits > 0
         GROUP BY hold.user_id, hold.hold_id, hold.credits
    ),
    subscribed AS (
        SELECT account.user_id, coalesce(kept.changes, 0) AS kept, count(change.user_id) AS counted
          FROM accounts AS account
          LEFT JOIN subscriptions AS kept ON kept.user_id = account.user_id
          LEFT JOIN subscription_changes AS change ON change.user_id = account.user_id
         GROUP BY account.user_id, kept.changes
    ),
    progressed AS (
        SELECT DISTINCT ON (user_id, specialization) user_id, specialization, to_level
          FROM license_changes
         ORDER BY user_id, specialization, sequence DESC
    )
    SELECT found.what, found.user_id, found.about,
           found.kept::bigint AS kept, found.counted::bigint AS counted
      FROM (
          SELECT 'tests held' AS what, user_id, day::text AS about, kept_held AS kept, held AS counted
            FROM usage
           WHERE kept_held <> held
           UNION ALL
          SELECT 'tests used', user_id, day::text, kept_used, used
            FROM usage
           WHERE kept_used <> used
           UNION ALL
          SELECT 'credit balance', user_id, 'ledger', kept_balance, balance
            FROM wallet
           WHERE kept_balance <> balance
           UNION ALL
          SELECT 'credits held', user_id, 'open holds', kept_held, held
            FROM wallet
           WHERE kept_held <> held
           UNION ALL
          SELECT 'credit balance', user_id, 'grants and holds', kept_balance, remaining + held
            FROM wallet
           WHERE kept_balance <> remaining + held
           UNION ALL
          SELECT 'ledger entries', user_id, 'ledger', kept_entries, entries
            FROM wallet
           WHERE kept_entries <> entries OR last_number <> entries
           UNION ALL
          SELECT 'credits of a hold', user_id, hold_id::text, credits, amount
            FROM taken
           WHERE credits <> amount
           UNION ALL
          SELECT 'subscription changes', user_id, 'history', kept, counted
            FROM subscribed
           WHERE kept <> counted OR kept = 0
           UNION ALL
          SELECT 'license level', license.user_id, license.specialization, license.level, progressed.to_level
            FROM licenses AS license
            LEFT JOIN progressed ON progressed.user_id = license.user_id
                                AND progressed.specialization = license.specialization
           WHERE license.level IS DISTINCT FROM progressed.to_level
           UNION ALL
          SELECT 'e-mail addresses', account.user_id, account.email, 1, count(owned.user_id)
            FROM accounts AS account
            LEFT JOIN account_emails AS owned ON owned.user_id = account.user_id
                                             AND owned.email_key = lower(account.email)
           GROUP BY account.user_id, account.email
          HAVING count(owned.user_id) <> 1
      ) AS found
     ORDER BY found.user_id, found.what
     LIMIT $1
"""
