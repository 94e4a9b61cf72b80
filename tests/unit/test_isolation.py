"""A bad or a locked request does not affect the others, and the requests of one owner keep their order."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import pytest

from chassis.batch import Item
from chassis.context import service_context
from chassis.errors import Reason, ServiceError
from chassis.postgres import isolation
from chassis.postgres.errors import (
    ConstraintViolation,
    LockTimeout,
    OutcomeUnknown,
    ViolationKind,
)
from chassis.postgres.isolation import Locked, run_isolated
from chassis.postgres.refusals import BUSY_RETRY_AFTER_SECONDS
from chassis.telemetry import logs


class Request(NamedTuple):
    owner: str
    what: str


def requests(words: str) -> list[Request]:
    """`ann:1 bob:2`: what is asked for, and for whom."""
    return [Request(*word.split(":")) for word in words.split()]


class Table:
    """What a database would do: whole transactions, which fail for poison, and pass over locked owners."""

    def __init__(self) -> None:
        self.locked: set[str] = set()
        self.poison: set[str] = set()
        self.lost = 0  # so many of the next commits happen, and nobody is told
        self.attempts: list[tuple[str, bool]] = []
        self.done: list[Request] = []
        self.before: Callable[[bool], Awaitable[None]] | None = None

    async def attempt(self, some: Sequence[Request], wait: bool) -> list[str | ServiceError | Locked]:
        self.attempts.append((" ".join(request.what for request in some), wait))
        if self.before is not None:
            await self.before(wait)
        if any(request.what in self.poison for request in some):
            raise ConstraintViolation("not_poisoned", ViolationKind.CHECK)
        if wait and any(request.owner in self.locked for request in some):
            raise LockTimeout
        free = [request for request in some if request.owner not in self.locked]
        self.done += [request for request in free if request not in self.done]
        if self.lost:
            self.lost -= 1
            raise OutcomeUnknown
        return [request.what if request in free else Locked.HELD_BY_ANOTHER for request in some]

    async def run(self, words: str) -> list[str]:
        """What each request is told: what it asked for, or the reason why not."""
        outcomes = await run_isolated(
            requests(words), self.attempt, owner_of=lambda request: request.owner, meanings=MEANINGS
        )
        return [told(each) for each in outcomes]


def told(outcome: str | ServiceError) -> str:
    return str(outcome.reason) if isinstance(outcome, ServiceError) else outcome


MEANINGS = {"not_poisoned": lambda: ServiceError(Reason.INVALID_ARGUMENT, "It is poison")}


BAD = str(Reason.INVALID_ARGUMENT)
BUSY = str(Reason.UNAVAILABLE)
BUG = str(Reason.INTERNAL)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Table:
    # A busy machine may stall for the second that owners may wait.
    monkeypatch.setattr(isolation, "WAITING_SECONDS_MAX", 60.0)
    return Table()


async def test_a_batch_without_trouble_is_one_attempt(table):
    assert await table.run("ann:1 bob:2 ann:3") == ["1", "2", "3"]
    assert table.attempts == [("1 2 3", False)]


async def test_an_empty_batch_makes_no_attempt(table):
    assert await table.run("") == []
    assert table.attempts == []


async def test_a_refused_batch_is_bisected_until_the_bad_request_is_alone(table):
    table.poison = {"6"}
    assert await table.run("a:1 b:2 c:3 d:4 e:5 f:6 g:7 h:8") == ["1", "2", "3", "4", "5", BAD, "7", "8"]
    assert [what for what, _ in table.attempts] == [
        "1 2 3 4 5 6 7 8",
        "1 2 3 4",
        "5 6 7 8",
        "5 6",
        "5",
        "6",
        "7 8",
    ]


async def test_each_bad_request_gets_a_refusal_of_its_own(table):
    table.poison = {"1", "3"}
    outcomes = await run_isolated(
        requests("ann:1 ann:2 bob:3"), table.attempt, owner_of=lambda r: r.owner, meanings=MEANINGS
    )
    assert [each.detail if isinstance(each, ServiceError) else each for each in outcomes] == [
        "It is poison",
        "2",
        "It is poison",
    ]


async def test_the_requests_of_an_owner_run_in_order_even_when_the_batch_is_bisected(table):
    table.poison = {"4"}
    await table.run("ann:1 bob:2 ann:3 ann:4 bob:5 ann:6 ann:7")
    assert [request.what for request in table.done if request.owner == "ann"] == ["1", "3", "6", "7"]


async def test_a_locked_owner_is_skipped_and_then_gets_a_transaction_of_its_own(table):
    table.locked = {"bob"}

    async def unlock(wait: bool) -> None:
        if wait:
            table.locked.clear()

    table.before = unlock
    assert await table.run("ann:1 bob:2 cy:3 bob:4") == ["1", "2", "3", "4"]
    assert table.attempts == [("1 2 3 4", False), ("2 4", True)]


async def test_an_owner_who_stays_locked_is_refused_as_unavailable(table):
    table.locked = {"bob"}
    (error, ann) = await run_isolated(
        requests("bob:1 ann:2"), table.attempt, owner_of=lambda r: r.owner, meanings=MEANINGS
    )
    assert (error.reason, error.retry_after_seconds) == (
        Reason.UNAVAILABLE,
        BUSY_RETRY_AFTER_SECONDS,
    )
    assert ann == "2"
    assert table.attempts == [("1 2", False), ("1", True)]


async def test_later_requests_of_a_skipped_owner_do_not_overtake_even_if_the_lock_is_released(table):
    table.locked = {"ann"}
    table.poison = {"bad"}

    async def unlock_after_the_first_half(_wait: bool) -> None:
        if len(table.attempts) == 3:
            table.locked.clear()

    table.before = unlock_after_the_first_half
    assert await table.run("ann:1 bob:2 cy:bad ann:3") == ["1", "2", BAD, "3"]
    assert table.attempts == [("1 2 bad 3", False), ("1 2", False), ("bad", False), ("1 3", True)]


async def test_a_bad_request_of_a_locked_owner_is_also_found(table):
    table.locked = {"ann"}

    async def unlock_and_poison(wait: bool) -> None:
        if wait:
            table.locked.clear()
            table.poison = {"bad"}

    table.before = unlock_and_poison
    assert await table.run("ann:1 ann:bad ann:2 bob:3") == ["1", BAD, "2", "3"]


async def test_an_owner_whose_lock_is_taken_again_does_not_wait_for_each_request(table):
    table.locked = {"ann"}

    async def poison_the_first(wait: bool) -> None:
        table.poison = {"1"} if wait and len(table.attempts) == 2 else set()

    table.before = poison_the_first
    assert await table.run("ann:1 ann:2 ann:3 ann:4") == [BUSY] * 4
    assert table.attempts == [("1 2 3 4", False), ("1 2 3 4", True), ("1 2", True)]


async def test_after_a_lock_timeout_without_a_known_holder_each_owner_is_tried_alone(table):
    async def lock_out_the_batch(wait: bool) -> None:
        if not wait:
            raise LockTimeout

    table.before = lock_out_the_batch
    assert await table.run("ann:1 bob:2 ann:3") == ["1", "2", "3"]
    assert table.attempts == [("1 2 3", False), ("1 3", True), ("2", True)]


async def test_only_a_few_owners_wait_for_locks_at_once(table):
    table.locked = {f"u{number}" for number in range(10)}
    waiting, most = 0, 0

    async def count(wait: bool) -> None:
        nonlocal waiting, most
        if wait:
            waiting += 1
            most = max(most, waiting)
            await asyncio.sleep(0.001)
            waiting -= 1

    table.before = count
    assert await table.run(" ".join(f"u{number}:{number}" for number in range(10))) == [BUSY] * 10
    assert most == isolation.WAITING_OWNERS_MAX


async def test_no_owner_begins_to_wait_after_the_limit(table, monkeypatch):
    now = 1000.0
    monkeypatch.setattr("chassis.postgres.isolation.time.monotonic", lambda: now)
    table.locked = {f"u{number}" for number in range(10)}

    async def take_half_of_the_time(wait: bool) -> None:
        nonlocal now
        if wait:
            now += isolation.WAITING_SECONDS_MAX / 2

    table.before = take_half_of_the_time
    words = " ".join(f"u{number}:{number}" for number in range(10))
    assert await table.run(f"{words} free:10") == [BUSY] * 10 + ["10"]
    assert [wait for _, wait in table.attempts] == [False, True, True]


async def test_an_unknown_outcome_is_found_by_a_second_attempt(table):
    table.lost = 1
    assert await table.run("ann:1 bob:2") == ["1", "2"]
    assert table.attempts == [("1 2", False)] * 2
    assert len(table.done) == 2


@pytest.mark.parametrize(
    "second", [OutcomeUnknown(), ServiceError(Reason.UNAVAILABLE, "nothing was written")]
)
async def test_an_outcome_that_stays_unknown_is_refused_as_unavailable(table, second):
    async def lose(_wait: bool) -> None:
        if len(table.attempts) == 2:
            raise second

    table.lost, table.before = 1, lose
    (outcome,) = await run_isolated(
        requests("ann:1"), table.attempt, owner_of=lambda r: r.owner, meanings=MEANINGS
    )
    assert outcome.reason is Reason.UNAVAILABLE
    assert outcome.detail == "The outcome is not known; send the request again"
    assert outcome.retry_after_seconds == BUSY_RETRY_AFTER_SECONDS
    assert len(table.attempts) == 2


async def test_a_refusal_about_the_whole_batch_goes_to_each_request_without_bisecting(table):
    async def away(_wait: bool) -> None:
        raise ServiceError(Reason.DEADLINE_EXCEEDED)

    table.before = away
    assert await table.run("ann:1 bob:2") == [str(Reason.DEADLINE_EXCEEDED)] * 2
    assert len(table.attempts) == 1


@pytest.mark.parametrize("seed", range(50))
async def test_in_any_mix_of_faults_each_owner_is_served_in_order(table, seed):
    print("seed", seed)
    chance = random.Random(seed)
    owners = ["ann", "bob", "cy", "dan"]
    batch = [f"{chance.choice(owners)}:{number}" for number in range(chance.randint(1, 24))]
    table.poison = {word.split(":")[1] for word in batch if chance.random() < 0.15}

    async def lock_and_unlock(_wait: bool) -> None:
        table.locked = {owner for owner in owners if chance.random() < 0.3}
        table.lost = chance.random() < 0.1

    table.before = lock_and_unlock
    outcomes = await table.run(" ".join(batch))
    done = [request.what for request in table.done]
    for word, outcome in zip(batch, outcomes, strict=True):
        what = word.split(":")[1]
        assert (what in table.poison) == (outcome == BAD) or outcome == BUSY
        assert outcome in {what, BAD, BUSY}
        assert outcome != what or what in done
    for owner in owners:
        theirs = [int(request.what) for request in table.done if request.owner == owner]
        assert theirs == sorted(theirs)


@pytest.mark.parametrize("bug", [RuntimeError("a bug"), TypeError("naive"), KeyError("row"), TimeoutError()])
async def test_any_exception_of_one_request_fails_only_that_request(table, bug):
    async def fail_for_six(_wait: bool) -> None:
        if "6" in table.attempts[-1][0]:
            raise bug

    table.before = fail_for_six
    assert await table.run("a:1 b:2 c:3 d:4 e:5 f:6 g:7 h:8") == ["1", "2", "3", "4", "5", BUG, "7", "8"]


async def test_a_bug_during_the_wait_for_an_owner_does_not_change_committed_outcomes(table):
    table.locked = {"bob", "dan"}

    async def fail_for_bob(wait: bool) -> None:
        table.locked.clear() if wait else None
        if wait and "2" in table.attempts[-1][0].split():
            raise RuntimeError("a bug")

    table.before = fail_for_bob
    assert await table.run("ann:1 bob:2 cy:3 dan:4 bob:5") == ["1", BUG, "3", "4", "5"]


async def test_a_request_without_an_owner_fails_alone(table):
    def owner_of(request: Request) -> str:
        if request.what == "2":
            raise AttributeError("no owner")
        return request.owner

    outcomes = await run_isolated(requests("ann:1 bob:2 cy:3"), table.attempt, owner_of=owner_of)
    assert [told(each) for each in outcomes] == ["1", BUG, "3"]


async def test_a_refusal_of_one_request_does_not_reach_the_other_requests(table):
    async def refuse_two(_wait: bool) -> None:
        if "2" in table.attempts[-1][0]:
            raise ServiceError(Reason.INVALID_ARGUMENT, "two")

    table.before = refuse_two
    assert await table.run("ann:1 bob:2 cy:3") == ["1", BAD, "3"]


async def test_an_attempt_with_too_few_outcomes_fails_only_the_forgotten_requests(table):
    async def forgetful(some: Sequence[Request], _wait: bool) -> list[str]:
        return [request.what for request in some if request.what != "2"]

    outcomes = await run_isolated(requests("ann:1 bob:2 cy:3"), forgetful, owner_of=lambda r: r.owner)
    assert [told(each) for each in outcomes] == ["1", BUG, "3"]


async def test_a_log_line_about_one_request_has_its_ids(capsys):
    logs.configure(service="test", version="1")
    context = service_context("/m", timeout_seconds=1, request_id="r-2")
    good = context._replace(request_id="r-1")

    async def fail(some: Sequence[Item[str]], _wait: bool) -> list[str]:
        if any(item.request == "bad" for item in some):
            raise RuntimeError("a bug")
        return [item.request for item in some]

    await run_isolated([Item(good, "good"), Item(context, "bad")], fail, owner_of=lambda item: item.request)
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (line["event"], line["request_id"]) == ("request_failed", "r-2")
