"""What must be true of a stack's databases once things have settled, asked in SQL."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from homeroom.supervisor import Stack


@dataclass(frozen=True, slots=True)
class Books:
    """Sessions and holds side by side."""

    sessions_without_hold: list[str]
    holds_without_session: list[str]
    wrong_counters: list[str]
    open_outbox: int

    @property
    def settled(self) -> bool:
        return not (self.sessions_without_hold or self.holds_without_session or self.open_outbox)


async def read_books(stack: Stack) -> Books:
    """Compares both databases, learner by learner, hold by hold."""
    sessions = await asyncpg.connect(stack.dsn("session"))
    subscriptions = await asyncpg.connect(stack.dsn("subscription"))
    try:
        live = {
            (row["user_id"], str(row["hold_id"]))
            for row in await sessions.fetch(
                "SELECT user_id, hold_id FROM sessions WHERE state IN ('active', 'paused')"
            )
        }
        everything = {
            (row["user_id"], str(row["hold_id"]))
            for row in await sessions.fetch("SELECT user_id, hold_id FROM sessions")
        }
        outbox = await sessions.fetchval("SELECT count(*) FROM outbox")
        holds = {
            (row["user_id"], str(row["hold_id"])): row["state"]
            for row in await subscriptions.fetch("SELECT user_id, hold_id, state FROM holds")
        }
        counters = await subscriptions.fetch(
            """
            SELECT user_id, day, held, used, open_units, committed_units
            FROM daily_usage
            FULL JOIN (
                SELECT user_id, day,
                       coalesce(sum(tests) FILTER (WHERE state = 'open'), 0) AS open_units,
                       coalesce(sum(tests) FILTER (WHERE state = 'committed'), 0) AS committed_units
                FROM holds
                GROUP BY user_id, day
            ) AS counted USING (user_id, day)
            WHERE coalesce(held, 0) <> coalesce(open_units, 0)
               OR coalesce(used, 0) <> coalesce(committed_units, 0)
            """
        )
    finally:
        await sessions.close()
        await subscriptions.close()
    return Books(
        sessions_without_hold=[f"{user} {hold}" for user, hold in live if holds.get((user, hold)) != "open"]
        + [f"{user} {hold} (closed)" for user, hold in everything - live if (user, hold) not in holds],
        holds_without_session=[
            f"{user} {hold}"
            for (user, hold), state in holds.items()
            if state == "open" and (user, hold) not in live
        ],
        wrong_counters=[str(dict(row)) for row in counters],
        open_outbox=outbox,
    )
