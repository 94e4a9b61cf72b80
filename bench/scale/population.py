"""Learners with a past, in any number, put into the tables with COPY."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

from chassis.postgres import Connection

HOLDS_PER_ACCOUNT = 10
METHOD = "/homeroom.session.v1.SessionService/CreateSession"
COPY_ROWS = 20_000
NAMESPACE = uuid.UUID("0b5e6f0a-7b1d-4b7e-9a63-2f1f5f6f7a10")


def learner(number: int) -> str:
    return f"learner-{number:08d}"


async def grow(connection: Connection, first: int, end: int) -> None:
    """Add the learners of these numbers, each with ten days of one committed hold, and with credits."""
    now: datetime = await connection.fetchval("SELECT now()")
    days = [now.astimezone(UTC) - timedelta(days=age) for age in range(HOLDS_PER_ACCOUNT)]
    learners = range(first, end)
    await copy(
        connection,
        "accounts (user_id, email, display_name, email_verified, status)",
        (f"{learner(n)}\t{learner(n)}@example.com\tLearner {n}\tt\tactive\n" for n in learners),
    )
    await copy(
        connection,
        "account_emails (email_key, user_id)",
        (f"{learner(n)}@example.com\t{learner(n)}\n" for n in learners),
    )
    await copy(
        connection,
        "subscriptions (user_id, plan_id, status, changes)",
        (f"{learner(n)}\tunlimited\tactive\t1\n" for n in learners),
    )
    await copy(
        connection,
        "credit_entries (user_id, entry_number, operation_id, kind, amount, reason, created_at,"
        " balance_after)",
        (f"{learner(n)}\t1\twelcome\tgrant\t100\twelcome\t{now.isoformat()}\t100\n" for n in learners),
    )
    await copy(
        connection,
        "credit_grants (user_id, entry_number, remaining)",
        (f"{learner(n)}\t1\t100\n" for n in learners),
    )
    month = now.astimezone(UTC).date().replace(day=1)
    await copy(
        connection,
        "credit_balances (user_id, balance, held, entries, month, month_granted)",
        (f"{learner(n)}\t100\t0\t1\t{month}\t0\n" for n in learners),
    )
    # Day by day, as it comes about: the rows of one day lie together.
    for age, day in reversed(list(enumerate(days))):
        await copy(
            connection,
            "daily_usage (user_id, day, held, used)",
            (f"{learner(n)}\t{day.date()}\t0\t1\n" for n in learners),
        )
        await copy(
            connection,
            "holds (user_id, hold_id, state, tests, credits, subject, method, idempotency_key, day,"
            " placed_at, resolved_at)",
            (committed_hold(n, age, day) for n in learners),
        )


def committed_hold(number: int, age: int, day: datetime) -> str:
    moment = day.isoformat()
    hold_id = uuid.uuid5(NAMESPACE, f"{number}/{age}")
    return (
        f"{learner(number)}\t{hold_id}\tcommitted\t1\t0\ttest-{age:04d}#1\t{METHOD}\tkey-{number}-{age}\t"
        f"{day.date()}\t{moment}\t{moment}\n"
    )


async def warm_up(connection: Connection) -> None:
    """Bring into memory what a busy system has there; indexes are there since the rows were added."""
    for table in ("accounts", "subscriptions", "credit_balances", "credit_grants", "daily_usage"):
        await connection.execute(f"SELECT count(*) FROM {table} WHERE length(user_id) > 0")  # noqa: S608 — named above


async def copy(connection: Connection, target: str, rows: Iterator[str]) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        chunk: list[str] = []
        for row in rows:
            chunk.append(row)
            if len(chunk) == COPY_ROWS:
                yield "".join(chunk).encode()
                chunk.clear()
        yield "".join(chunk).encode()

    table, _, columns = target.partition(" ")
    await connection.copy_to_table(
        table, source=chunks(), columns=[name.strip() for name in columns.strip("()").split(",")]
    )
