"""Learners with past holds, in any number, written with COPY."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime, timedelta

from chassis.postgres import Connection

METHOD = "/homeroom.session.v1.SessionService/CreateSession"
DAYS_MAX = 3650
COPY_ROWS = 20_000
NAMESPACE = uuid.UUID("0b5e6f0a-7b1d-4b7e-9a63-2f1f5f6f7a10")


def learner(number: int) -> str:
    return f"learner-{number:08d}"


async def add_accounts(connection: Connection, count: int) -> None:
    """Add learners with the unlimited plan and a hundred credits each."""
    now: datetime = await connection.fetchval("SELECT now()")
    month = now.astimezone(UTC).date().replace(day=1)
    users = [learner(number) for number in range(count)]
    await copy(
        connection,
        "accounts (user_id, email, display_name, email_verified, status)",
        (f"{user}\t{user}@example.com\tLearner\tt\tactive\n" for user in users),
    )
    await copy(
        connection,
        "account_emails (email_key, user_id)",
        (f"{user}@example.com\t{user}\n" for user in users),
    )
    await copy(
        connection,
        "subscriptions (user_id, plan_id, status, changes)",
        (f"{user}\tunlimited\tactive\t1\n" for user in users),
    )
    await copy(
        connection,
        "subscription_changes (user_id, change_number, to_plan_id, to_status, changed_by, changed_at)",
        (f"{user}\t1\tunlimited\tactive\tbench\t{now.isoformat()}\n" for user in users),
    )
    await copy(
        connection,
        "credit_entries (user_id, entry_number, operation_id, kind, amount, reason, created_at,"
        " balance_after)",
        (f"{user}\t1\twelcome\tgrant\t100\twelcome\t{now.isoformat()}\t100\n" for user in users),
    )
    await copy(
        connection,
        "credit_grants (user_id, entry_number, remaining)",
        (f"{user}\t1\t100\n" for user in users),
    )
    await copy(
        connection,
        "credit_balances (user_id, balance, held, entries, month, month_granted)",
        (f"{user}\t100\t0\t1\t{month}\t0\n" for user in users),
    )


async def add_holds(connection: Connection, numbers: range, accounts: int) -> None:
    """Add committed holds of these numbers, and the day's row of each: one per learner and past day.

    They come day by day, as in life: the rows of one day lie together, those of one learner far apart.
    """
    now: datetime = await connection.fetchval("SELECT now()")
    eldest = now.astimezone(UTC) - timedelta(days=DAYS_MAX)

    def past() -> Iterator[tuple[str, int, datetime]]:
        for number in numbers:
            day, place = divmod(number, accounts)
            yield learner(place), number, eldest + timedelta(days=day)

    await copy(
        connection,
        "daily_usage (user_id, day, held, used)",
        (f"{user}\t{moment.date()}\t0\t1\n" for user, _, moment in past()),
    )
    await copy(
        connection,
        "holds (user_id, hold_id, state, tests, credits, subject, method, idempotency_key, day,"
        " placed_at, resolved_at)",
        (
            f"{user}\t{uuid.uuid5(NAMESPACE, str(number))}\tcommitted\t1\t0\ttest-{number}#1\t{METHOD}\t"
            f"key-{number}\t{moment.date()}\t{moment.isoformat()}\t{moment.isoformat()}\n"
            for user, number, moment in past()
        ),
    )


async def warm_up(connection: Connection) -> None:
    """Read the tables that a busy system has in memory; their indexes are there since the rows were added."""
    for table in ("accounts", "subscriptions", "credit_balances", "credit_grants"):
        await connection.execute(f"SELECT count(*) FROM {table} WHERE length(user_id) > 0")  # noqa: S608 — named above


async def copy(connection: Connection, target: str, rows: Iterable[str]) -> None:
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
