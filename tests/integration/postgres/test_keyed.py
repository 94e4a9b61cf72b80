"""A keyed change has one effect and one answer, even if many requests with its key arrive at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from chassis.batch import Item, Outcome, Reply
from chassis.context import Context
from chassis.errors import Reason, ServiceError
from chassis.postgres import Connection, Database, OutcomeUnknown
from chassis.postgres.isolation import Locked, run_isolated
from chassis.postgres.keyed import write_keyed
from chassis.postgres.migrations import FOLDER, migrate
from homeroom.embedded.provisioning import ServiceDatabase
from tests.support.notes import soon

TABLE = """
    CREATE TABLE accounts (
        user_id text CONSTRAINT accounts_pkey PRIMARY KEY,
        balance integer NOT NULL CONSTRAINT accounts_not_overdrawn CHECK (balance <= 1000)
    );
    GRANT ALL ON accounts TO PUBLIC;
    INSERT INTO accounts VALUES ('ann', 10), ('bob', 10), ('cy', 10)
"""
LOCK_OR_WAIT = """
    SELECT user_id, balance FROM accounts WHERE user_id = ANY ($1::text[]) ORDER BY user_id FOR UPDATE
"""
LOCK_OR_SKIP = LOCK_OR_WAIT + " SKIP LOCKED"


@dataclass(frozen=True, slots=True)
class Adjust:
    amount: int


def adjust(user_id: str, amount: int, key: str = "k", *, fingerprint: bytes = b"") -> Item[Adjust]:
    context = Context("/Adjust", user_id, frozenset(), key, "", soon(), "")
    return Item(context, Adjust(amount), fingerprint or str(amount).encode())


class Accounts:
    """What a store of a service does with `write_keyed`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def adjust(self, items: Sequence[Item[Adjust]]) -> list[Outcome]:
        return await run_isolated(items, self._attempt, owner_of=lambda item: item.user_id)

    async def _attempt(self, items: Sequence[Item[Adjust]], wait: bool) -> list[Outcome | Locked]:
        async def lock(connection: Connection, items: Sequence[Item[Adjust]]) -> dict[str, int]:
            rows = await connection.fetch(
                LOCK_OR_WAIT if wait else LOCK_OR_SKIP, [item.user_id for item in items]
            )
            return {row["user_id"]: row["balance"] for row in rows}

        return await write_keyed(
            self.database, items, lock=lock, change=self._change, render=_render, name="adjust"
        )

    async def _change(
        self, connection: Connection, balances: dict[str, int], items: Sequence[Item[Adjust]]
    ) -> list[int | ServiceError | Locked]:
        results: list[int | ServiceError | Locked] = []
        for item in items:
            if item.user_id not in balances:
                results.append(Locked.HELD_BY_ANOTHER)
                continue
            if balances[item.user_id] + item.request.amount < 0:
                results.append(ServiceError(Reason.INSUFFICIENT_CREDITS))
                continue
            balances[item.user_id] += item.request.amount
            await connection.execute(
                "UPDATE accounts SET balance = $2 WHERE user_id = $1", item.user_id, balances[item.user_id]
            )
            results.append(balances[item.user_id])
        return results


def _render(balance: int) -> bytes:
    return f"balance {balance}".encode()


def told(outcome: Outcome) -> Any:
    if isinstance(outcome, ServiceError):
        return outcome.reason
    return outcome.payload().decode(), outcome.replayed


@pytest.fixture
async def admin(empty_database: ServiceDatabase) -> AsyncIterator[Connection]:
    await migrate(empty_database.owner, {"chassis": FOLDER})
    connection = await asyncpg.connect(empty_database.superuser)
    await connection.execute(TABLE)
    yield connection
    await connection.close()


@pytest.fixture
async def accounts(database: Database) -> Accounts:
    return Accounts(database)


async def balance(admin: Connection, user_id: str = "ann") -> Any:
    return await admin.fetchval("SELECT balance FROM accounts WHERE user_id = $1", user_id)


async def test_the_same_key_twice_at_once_is_one_effect_and_one_replay(
    database: Database, admin: Connection, accounts: Accounts
) -> None:
    for round_number in range(20):
        await admin.execute("UPDATE accounts SET balance = 10")
        key = f"k-{round_number}"
        outcomes = await asyncio.gather(
            accounts.adjust([adjust("ann", -10, key)]), accounts.adjust([adjust("ann", -10, key)])
        )
        assert sorted(told(outcome) for (outcome,) in outcomes) == [("balance 0", False), ("balance 0", True)]
        assert await balance(admin) == 0


async def test_many_at_once_with_few_keys_have_one_effect_each(
    database: Database, admin: Connection, accounts: Accounts
) -> None:
    batches = [[adjust(user, 5, f"k-{n % 3}") for user in ("ann", "bob")] for n in range(12)]
    outcomes = await asyncio.gather(*(accounts.adjust(batch) for batch in batches))
    replays = [told(outcome)[1] for answered in outcomes for outcome in answered]
    assert (replays.count(False), replays.count(True)) == (6, 18)
    assert [await balance(admin, user) for user in ("ann", "bob")] == [25, 25]


async def test_a_request_behind_the_lock_of_its_twin_is_answered_with_its_effect(
    database: Database, admin: Connection, accounts: Accounts
) -> None:
    """The order that a lookup before the lock would get wrong, made certain."""
    transaction = admin.transaction()
    await transaction.start()
    await admin.execute("UPDATE accounts SET balance = 0 WHERE user_id = 'ann'")
    waiting = asyncio.create_task(accounts.adjust([adjust("ann", -10)]))
    while not await admin.fetchval(  # until it waits for the row
        "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
    ):
        await asyncio.sleep(0.001)
    await admin.execute(
        "INSERT INTO idempotency_keys (user_id, method, key, state, fingerprint, response) "
        "VALUES ('ann', '/Adjust', 'k', 'completed', '-10', 'balance 0')"
    )
    await transaction.commit()
    assert [told(outcome) for outcome in await waiting] == [("balance 0", True)]


async def test_the_same_key_twice_in_one_batch_is_one_effect(admin: Connection, accounts: Accounts) -> None:
    outcomes = await accounts.adjust([adjust("ann", 5), adjust("ann", 5), adjust("bob", 5)])
    assert [told(outcome) for outcome in outcomes] == [
        ("balance 15", False),
        ("balance 15", True),
        ("balance 15", False),
    ]
    assert await balance(admin) == 15


async def test_the_same_key_for_another_request_is_refused_in_a_batch_and_later(
    admin: Connection, accounts: Accounts
) -> None:
    outcomes = await accounts.adjust([adjust("ann", 5), adjust("ann", 6)])
    assert [told(outcome) for outcome in outcomes] == [
        ("balance 15", False),
        Reason.IDEMPOTENCY_KEY_REUSED,
    ]
    (later,) = await accounts.adjust([adjust("ann", 7)])
    assert told(later) is Reason.IDEMPOTENCY_KEY_REUSED


async def test_a_refusal_is_not_stored(admin: Connection, accounts: Accounts) -> None:
    (refused,) = await accounts.adjust([adjust("ann", -20)])
    assert told(refused) is Reason.INSUFFICIENT_CREDITS
    await admin.execute("UPDATE accounts SET balance = 30")
    (accepted,) = await accounts.adjust([adjust("ann", -20)])
    assert told(accepted) == ("balance 10", False)


async def test_a_bad_request_costs_its_neighbours_nothing(admin: Connection, accounts: Accounts) -> None:
    outcomes = await accounts.adjust(
        [adjust("ann", 1), adjust("bob", 5000), adjust("cy", 1), adjust("ann", -1, "k2")]
    )
    assert [told(outcome) for outcome in outcomes] == [
        ("balance 11", False),
        Reason.INVALID_ARGUMENT,
        ("balance 11", False),
        ("balance 10", False),
    ]
    assert await balance(admin, "bob") == 10


async def test_an_answer_that_cannot_be_rendered_costs_its_neighbours_nothing(
    admin: Connection, accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = _render

    def render(balance: int) -> bytes:
        if balance == 17:
            raise TypeError("seventeen")
        return original(balance)

    monkeypatch.setitem(globals(), "_render", render)
    outcomes = await accounts.adjust([adjust("ann", 1), adjust("bob", 7), adjust("cy", 1)])
    assert [told(outcome) for outcome in outcomes] == [
        ("balance 11", False),
        Reason.INTERNAL,
        ("balance 11", False),
    ]
    assert await balance(admin, "bob") == 10, "an effect without an answer was not kept"


async def test_a_commit_whose_answer_was_lost_is_found_and_not_repeated(
    admin: Connection, accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, lost = Database.write, []

    async def lose_the_first_answer(database: Database, *arguments: Any, **options: Any) -> Any:
        result = await write(database, *arguments, **options)
        if not lost:
            lost.append(result)
            raise OutcomeUnknown
        return result

    monkeypatch.setattr(Database, "write", lose_the_first_answer)
    (outcome,) = await accounts.adjust([adjust("ann", 5)])
    assert isinstance(outcome, Reply)
    assert outcome.payload() == b"balance 15"
    assert await balance(admin) == 15


async def test_a_key_that_was_aborted_has_no_effect(admin: Connection, accounts: Accounts) -> None:
    await admin.execute(
        "INSERT INTO idempotency_keys (user_id, method, key, state) VALUES ('ann', '/Adjust', 'k', 'aborted')"
    )
    (outcome,) = await accounts.adjust([adjust("ann", 5)])
    assert told(outcome) is Reason.REQUEST_ABORTED
    assert await balance(admin) == 10


async def test_an_owner_who_is_locked_by_another_waits_for_it_alone(
    admin: Connection, accounts: Accounts
) -> None:
    transaction = admin.transaction()
    await transaction.start()
    await admin.execute("SELECT FROM accounts WHERE user_id = 'ann' FOR UPDATE")
    outcomes = await accounts.adjust([adjust("ann", 1), adjust("bob", 1)])
    assert [told(outcome) for outcome in outcomes] == [Reason.UNAVAILABLE, ("balance 11", False)]
    await transaction.rollback()
    (outcome,) = await accounts.adjust([adjust("ann", 1)])
    assert told(outcome) == ("balance 11", False)
