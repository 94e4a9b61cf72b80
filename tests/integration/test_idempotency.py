"""A key has one effect and one answer, and once aborted it never has any."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from datetime import timedelta
from functools import partial

import asyncpg
import pytest

from chassis.context import Claim
from chassis.errors import Reason, ServiceError
from chassis.postgres import Connection, ConstraintViolation, Database, idempotency
from chassis.postgres.idempotency import CompletedCall, KeyState, StoredResponse
from chassis.process import background as background_module
from chassis.process.background import Background
from chassis.telemetry.metrics import Metrics
from tests.support.waiting import eventually

METHOD = "/homeroom.session.v1.SessionService/CreateSession"


def soon() -> float:
    return time.monotonic() + 5


def named(user_id: str, key: str) -> Claim:
    return Claim(user_id, METHOD, key)


def completed(user_id: str, key: str, response: bytes = b"created") -> CompletedCall:
    return CompletedCall(*named(user_id, key), b"print", response, "00-trace-span-01")


async def claim(database: Database, calls: Iterable[CompletedCall]) -> None:
    await database.write(lambda connection: idempotency.claim(connection, calls), deadline=soon())


async def find(database: Database, *claims: Claim) -> dict[Claim, StoredResponse]:
    return await database.read(lambda connection: idempotency.find(connection, claims), deadline=soon())


async def abort(database: Database, *claims: Claim) -> set[Claim]:
    return await database.write(lambda connection: idempotency.abort(connection, claims), deadline=soon())


async def test_what_was_claimed_is_found_with_its_response(database: Database) -> None:
    await claim(database, [completed("bob", "k2", b"second"), completed("ann", "k1", b"")])
    found = await find(database, named("ann", "k1"), named("bob", "k2"), named("bob", "k1"))
    assert found == {
        named("ann", "k1"): StoredResponse(b"print", KeyState.COMPLETED, b"", "00-trace-span-01"),
        named("bob", "k2"): StoredResponse(b"print", KeyState.COMPLETED, b"second", "00-trace-span-01"),
    }


async def test_a_lookup_without_keys_finds_nothing(database: Database) -> None:
    assert await find(database) == {}
    assert await abort(database) == set()
    await claim(database, [])


async def test_the_same_key_of_another_user_or_method_is_another_key(database: Database) -> None:
    await claim(database, [completed("ann", "k")])
    await claim(database, [completed("bob", "k")])
    other = Claim("ann", "/other/Method", "k")
    await claim(database, [CompletedCall(*other, b"print", b"created")])
    assert len(await find(database, named("ann", "k"), named("bob", "k"), other)) == 3


async def test_a_second_claim_fails_by_the_constraint_and_takes_its_whole_transaction_along(
    database: Database,
) -> None:
    await claim(database, [completed("ann", "k", b"first")])
    with pytest.raises(ConstraintViolation) as caught:
        await claim(database, [completed("ann", "k", b"second"), completed("bob", "k")])
    assert caught.value.constraint == idempotency.CONSTRAINT
    found = await find(database, named("ann", "k"), named("bob", "k"))
    assert {key: stored.response for key, stored in found.items()} == {named("ann", "k"): b"first"}


async def test_of_many_claims_of_one_key_at_once_exactly_one_wins(database: Database) -> None:
    outcomes = await asyncio.gather(
        *(claim(database, [completed("ann", "k", str(n).encode())]) for n in range(20)),
        return_exceptions=True,
    )
    winners = [n for n, outcome in enumerate(outcomes) if outcome is None]
    assert len(winners) == 1
    assert all(
        isinstance(outcome, ConstraintViolation) for n, outcome in enumerate(outcomes) if n not in winners
    )
    stored = (await find(database, named("ann", "k")))[named("ann", "k")]
    assert stored.response == str(winners[0]).encode()


async def test_keys_are_written_in_one_order_so_that_batches_cannot_deadlock(
    database: Database, admin: Connection
) -> None:
    shuffled = [("bob", "2"), ("ann", "3"), ("bob", "1"), ("ann", "1"), ("cid", "0")]
    await claim(database, [completed(user_id, key) for user_id, key in shuffled])
    await abort(database, *(named("dan", key) for key in "312"))
    rows = await admin.fetch("SELECT user_id, key FROM idempotency_keys ORDER BY ctid")
    written = [(row["user_id"], row["key"]) for row in rows]
    assert written == sorted([*shuffled, ("dan", "1"), ("dan", "2"), ("dan", "3")])


async def test_an_aborted_key_can_never_be_claimed(database: Database) -> None:
    assert await abort(database, named("ann", "k")) == {named("ann", "k")}
    with pytest.raises(ConstraintViolation):
        await claim(database, [completed("ann", "k")])
    stored = (await find(database, named("ann", "k")))[named("ann", "k")]
    assert stored == StoredResponse(b"", KeyState.ABORTED, b"", "")


async def test_a_completed_key_cannot_be_aborted(database: Database) -> None:
    await claim(database, [completed("ann", "done")])
    assert await abort(database, named("ann", "done"), named("ann", "open")) == {named("ann", "open")}
    assert (await find(database, named("ann", "done")))[named("ann", "done")].state is KeyState.COMPLETED


async def test_aborting_again_returns_the_key_again(database: Database) -> None:
    await abort(database, named("ann", "k"))
    assert await abort(database, named("ann", "k"), named("ann", "k")) == {named("ann", "k")}


async def test_an_abort_waits_for_a_concurrent_claim_and_does_not_abort_it(
    database: Database, admin: Connection
) -> None:
    await _race(database, admin, commit=True, aborted=set())


async def test_a_claim_that_rolls_back_leaves_the_key_to_the_abort(
    database: Database, admin: Connection
) -> None:
    await _race(database, admin, commit=False, aborted={named("ann", "k")})


async def _race(database: Database, admin: Connection, *, commit: bool, aborted: set[Claim]) -> None:
    transaction = admin.transaction()
    await transaction.start()
    await idempotency.claim(admin, [completed("ann", "k")])
    aborting = asyncio.create_task(
        database.write(
            lambda connection: idempotency.abort(connection, [named("ann", "k")]),
            deadline=soon(),
            lock_timeout_ms=5000,
        )
    )

    async def blocked() -> bool:
        return bool(
            await admin.fetchval(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'transactionid')"
            )
        )

    await eventually(blocked)
    await (transaction.commit() if commit else transaction.rollback())
    assert await aborting == aborted


async def test_a_row_is_either_completed_with_its_answer_or_aborted_without(admin: Connection) -> None:
    for state, fingerprint, response in (
        ("completed", None, b""),
        ("completed", b"", None),
        ("aborted", b"", b""),
        ("pending", None, None),
    ):
        with pytest.raises(asyncpg.CheckViolationError):
            await admin.execute(
                "INSERT INTO idempotency_keys (user_id, method, key, state, fingerprint, response) "
                "VALUES ('ann', 'm', 'k', $1, $2, $3)",
                state,
                fingerprint,
                response,
            )


@pytest.mark.parametrize(
    "call",
    [
        CompletedCall("u" * 256, METHOD, "k", b"", b""),
        CompletedCall("ann", METHOD, "k" * 256, b"", b""),
        CompletedCall("ann", METHOD, "", b"", b""),
        CompletedCall("ann", "m" * 256, "k", b"", b""),
        CompletedCall("ann", METHOD, "k", b"f" * 65, b""),
        CompletedCall("ann", METHOD, "k", b"", b"", content="c" * 1025),
        CompletedCall("ann", METHOD, "k", b"", bytes(4 * 1024 * 1024 + 1)),
    ],
    ids=["user", "key", "no key", "method", "fingerprint", "content", "response"],
)
async def test_every_value_has_a_limit(database: Database, call: CompletedCall) -> None:
    with pytest.raises(ConstraintViolation) as caught:
        await claim(database, [call])
    assert caught.value.constraint.endswith("_bounded")


@pytest.mark.timeout(120)
async def test_purging_goes_on_until_a_page_comes_back_short(database: Database, admin: Connection) -> None:
    await admin.execute(
        "INSERT INTO idempotency_keys (user_id, method, key, state, created_at) "
        "SELECT 'ann', 'm', n::text, 'aborted', now() - interval '8 days' FROM generate_series(1, 2500) AS n"
    )
    await claim(database, [completed("ann", "young")])
    background = Background(metrics=Metrics(service="test"))
    job = background.add(
        "purge_keys",
        partial(idempotency.purge_keys, database, older_than=timedelta(days=7)),
        interval_seconds=3600,
    )
    background.start()

    async def only_the_young() -> bool:
        return bool(await admin.fetchval("SELECT count(*) = 1 FROM idempotency_keys"))

    await eventually(only_the_young, seconds=30)
    await background.stop()
    assert job.last_success_at


async def test_purging_survives_a_database_that_is_away(
    database: Database, admin: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_module, "BACKOFF_SECONDS", 0.001)
    await admin.execute("ALTER TABLE idempotency_keys RENAME TO away")
    background = Background(metrics=Metrics(service="test"))
    job = background.add(
        "purge_keys",
        partial(idempotency.purge_keys, database, older_than=timedelta(days=7)),
        interval_seconds=3600,
    )
    background.start()
    await eventually(lambda: job.failures_in_a_row >= 2)
    await admin.execute("ALTER TABLE away RENAME TO idempotency_keys")
    await eventually(lambda: job.last_success_at)
    await background.stop()


async def test_only_old_keys_are_forgotten_the_oldest_first_and_in_bounded_steps(
    database: Database, admin: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await claim(database, [completed("ann", str(n)) for n in range(10)])
    await admin.execute(
        "UPDATE idempotency_keys SET created_at = now() - make_interval(days => key::int) WHERE key::int >= 5"
    )

    async def purge(page: int) -> float | None:
        monkeypatch.setattr(idempotency, "KEYS_PER_PURGE", page)
        return await idempotency.purge_keys(database, older_than=timedelta(days=4))

    assert await purge(2) == 0.0, "a full page: there may be more"
    left = await admin.fetch("SELECT key FROM idempotency_keys ORDER BY key")
    assert [row["key"] for row in left] == ["0", "1", "2", "3", "4", "5", "6", "7"]
    assert await purge(100) is None
    assert await admin.fetchval("SELECT count(*) FROM idempotency_keys") == 5


def test_a_replay_of_the_same_request_is_the_stored_response() -> None:
    reply = idempotency.check(StoredResponse(b"print", KeyState.COMPLETED, b"created", ""), b"print")
    assert not isinstance(reply, ServiceError)
    assert (reply.payload(), reply.replayed) == (b"created", True)


def test_another_request_under_the_same_key_is_refused() -> None:
    error = idempotency.check(StoredResponse(b"print", KeyState.COMPLETED, b"created", ""), b"other")
    assert isinstance(error, ServiceError)
    assert error.reason is Reason.IDEMPOTENCY_KEY_REUSED


def test_a_request_with_an_aborted_key_is_refused_as_aborted() -> None:
    error = idempotency.check(StoredResponse(b"", KeyState.ABORTED, b"", ""), b"print")
    assert isinstance(error, ServiceError)
    assert error.reason is Reason.REQUEST_ABORTED
