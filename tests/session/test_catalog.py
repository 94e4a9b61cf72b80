"""Tests are defined and shown, questions imported; every change holds at once, and none twice."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from chassis.errors import Reason, ServiceError
from chassis.postgres import Database
from chassis.rpc.validation import validate
from protos.session.v1 import tests_pb2
from session_service.operations import manage_tests
from tests.session.catalog import Catalog, new_catalog, question
from tests.support.databases import Databases
from tests.support.postgres_proxy import Loss, PostgresProxy
from tests.support.waiting import eventually

FULL: dict[str, Any] = {
    "title": "Everything",
    "kind": tests_pb2.Test.COMPLIANCE,
    "difficulty": "HARD",
    "question_count": 7,
    "time_limit_seconds": 60,
    "max_attempts": 2,
    "credit_cost": 3,
    "counts_toward_daily_limit": True,
    "pass_score": 0.8,
    "specialization": "physics",
    "xp": 50,
    "min_engaged_seconds": 10,
    "identity_checks": 1,
}
BARE: dict[str, Any] = {"title": "Bare", "kind": tests_pb2.Test.QUIZ, "question_count": 0}

numbers = itertools.count(1)


@pytest.fixture(scope="module")
async def catalog(databases: Databases) -> AsyncIterator[Catalog]:
    async with new_catalog(databases) as made:
        yield made


@pytest.fixture
async def fresh_catalog(databases: Databases) -> AsyncIterator[Catalog]:
    async with new_catalog(databases) as made:
        yield made


def unique(prefix: str = "test") -> str:
    return f"{prefix}-{next(numbers)}"


def reasons(outcomes: list[Any]) -> list[Reason | None]:
    return [outcome.reason if isinstance(outcome, ServiceError) else None for outcome in outcomes]


def fields(refusal: ServiceError) -> list[str]:
    return [violation.field for violation in refusal.violations]


async def revisions(catalog: Catalog, test_id: str) -> list[list[str]]:
    rows = await catalog.truth.fetch(
        "SELECT question_ids FROM test_revisions WHERE test_id = $1 ORDER BY revision", test_id
    )
    return [row["question_ids"] for row in rows]


# --- definitions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("definition", [FULL, BARE])
async def test_what_is_put_can_be_got(catalog: Catalog, definition: dict[str, Any]) -> None:
    name = unique()
    answered = (await catalog.one(catalog.put(name, **definition))).test
    assert answered == tests_pb2.Test(test_id=name, **definition)
    assert (await catalog.one(catalog.get(name))).test == answered


async def test_putting_the_same_again_changes_nothing(catalog: Catalog) -> None:
    name = unique()
    for _ in range(3):
        await catalog.one(catalog.put(name, **FULL))
    assert len(await revisions(catalog, name)) == 1
    await catalog.one(catalog.put(name, **{**FULL, "title": "Other"}))
    assert len(await revisions(catalog, name)) == 2


async def test_many_who_put_one_new_test_at_once_all_succeed(catalog: Catalog) -> None:
    name = unique()
    found = await asyncio.gather(*(catalog.send(catalog.put(name, title=f"T{n}")) for n in range(8)))
    assert [reason for batch in found for reason in reasons(batch)] == [None] * 8
    assert len(await revisions(catalog, name)) == 8


async def test_a_session_keeps_the_definition_that_it_began_with(catalog: Catalog) -> None:
    name = unique()
    await catalog.one(catalog.put(name, **FULL))
    await catalog.one(catalog.put(name, **{**FULL, "pass_score": 0.1, "time_limit_seconds": 5}))
    first, second = await catalog.edition(name, 1), await catalog.edition(name, 2)
    assert (first.definition.pass_score, first.definition.time_limit_seconds) == (0.8, 60)
    assert (second.definition.pass_score, second.definition.time_limit_seconds) == (0.1, 5)


# --- what one request has wrong is its own ---------------------------------------------------------------


async def test_a_test_that_is_not_there_is_not_found_alone(catalog: Catalog) -> None:
    name = unique()
    await catalog.one(catalog.put(name))
    outcomes = await catalog.send(catalog.get(unique("none")), catalog.get("\0"), catalog.get(name))
    assert reasons(outcomes) == [Reason.NOT_FOUND, Reason.NOT_FOUND, None]
    missing = unique("none")
    outcomes = await catalog.send(
        catalog.imports(missing, question("q")),
        catalog.imports("\0", question("q")),
        catalog.imports(name, question("q")),
    )
    assert reasons(outcomes) == [Reason.NOT_FOUND, Reason.NOT_FOUND, None]
    assert not await catalog.truth.fetchval("SELECT count(*) FROM tests WHERE test_id = $1", missing)


async def test_a_question_named_twice_is_refused_by_name_and_nothing_is_imported(catalog: Catalog) -> None:
    name, other = unique(), unique()
    await catalog.send(catalog.put(name), catalog.put(other))
    refusal, imported = await catalog.send(
        catalog.imports(name, question("a"), question("b"), question("a")),
        catalog.imports(other, question("a")),
    )
    assert refusal.reason is Reason.INVALID_ARGUMENT
    assert fields(refusal) == ["questions[2].questionId"]
    assert imported.created == 1
    assert not await catalog.truth.fetchval("SELECT count(*) FROM questions WHERE test_id = $1", name)


@pytest.mark.parametrize(
    "odd",
    [
        question("a\0"),
        question("a", "x\0y"),
        question("a", choices=["b", "\0"]),
        question("a", accepted=["\0"]),
        question("a", subject="\0"),
    ],
)
async def test_a_nul_is_refused_alone(catalog: Catalog, odd: tests_pb2.ImportedQuestion) -> None:
    name = unique()
    await catalog.one(catalog.put(name))
    refusal, imported = await catalog.send(
        catalog.imports(name, question("b"), odd), catalog.imports(name, question("c"))
    )
    assert refusal.reason is Reason.INVALID_ARGUMENT
    assert fields(refusal) == ["questions[1]"]
    assert (imported.created, imported.total) == (1, 1)


async def test_a_value_that_only_the_database_refuses_is_refused_alone(catalog: Catalog) -> None:
    name, polite = unique(), unique()
    outcomes = await catalog.send(
        catalog.put(name, max_attempts=2_000_000_000),
        catalog.put("\0"),
        catalog.put("x" * 129),
        catalog.put(polite),
    )
    assert reasons(outcomes) == [Reason.INVALID_ARGUMENT] * 3 + [None]
    assert (await catalog.one(catalog.get(polite))).test.title == "A test"


async def test_a_call_that_is_out_of_time_fails_alone(catalog: Catalog) -> None:
    name = unique()
    puts = await catalog.send(catalog.put(unique(), seconds=-1), catalog.put(name))
    imports = await catalog.send(
        catalog.imports(name, question("a"), seconds=-1), catalog.imports(name, question("b"))
    )
    lists = await catalog.send(catalog.listing(seconds=-1), catalog.listing())
    late = Reason.DEADLINE_EXCEEDED
    assert [reasons(outcomes) for outcomes in (puts, imports, lists)] == [[late, None]] * 3
    assert reasons(await catalog.send(catalog.get(name, seconds=-1), catalog.get(name)))[1] is None
    assert imports[1].total == 1


async def test_a_test_that_someone_else_is_changing_is_busy_alone(catalog: Catalog) -> None:
    name = unique()
    await catalog.one(catalog.put(name))
    locking = catalog.truth.transaction()
    await locking.start()
    await catalog.truth.execute("SELECT 1 FROM tests WHERE test_id = $1 FOR UPDATE", name)
    try:
        stuck = [catalog.put(name, title=f"T{n}") for n in range(20)]
        outcomes = await catalog.send(catalog.put(unique()), *stuck, catalog.put(unique()))
    finally:
        await locking.rollback()
    assert reasons(outcomes) == [None, *([Reason.UNAVAILABLE] * 20), None]


async def test_changes_of_one_test_that_arrive_together_are_made_in_their_order(catalog: Catalog) -> None:
    name, other = unique(), unique()
    titles = [f"T{n}" for n in range(5)]
    outcomes = await catalog.send(
        *(catalog.put(test, title=title) for title in titles for test in (name, other))
    )
    assert reasons(outcomes) == [None] * 10
    kept = await catalog.truth.fetch(
        "SELECT title FROM test_revisions WHERE test_id = $1 ORDER BY revision", name
    )
    assert [row["title"] for row in kept] == titles


async def test_a_fault_of_ours_with_one_import_leaves_the_others_counts_right(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [unique() for _ in range(4)]
    await catalog.send(*(catalog.put(name) for name in names))
    plan_import = manage_tests.plan_import

    def faulty(questions: Any, *known: Any) -> Any:
        if questions[0].question_id == "guilty":
            raise ZeroDivisionError
        return plan_import(questions, *known)

    monkeypatch.setattr(manage_tests, "plan_import", faulty)
    outcomes = await catalog.send(
        *(catalog.imports(name, question("a")) for name in names[:3]),
        catalog.imports(names[3], question("guilty")),
        catalog.imports(names[3], question("b")),
    )
    assert reasons(outcomes) == [None, None, None, Reason.INTERNAL, None]
    assert [outcome.created for outcome in outcomes if outcome is not outcomes[3]] == [1, 1, 1, 1]


# --- imports ---------------------------------------------------------------------------------------------


async def test_an_import_adds_replaces_and_counts(catalog: Catalog) -> None:
    name = unique()
    await catalog.one(catalog.put(name))

    async def send(*questions: tests_pb2.ImportedQuestion) -> tuple[int, int, int, int]:
        counts = await catalog.one(catalog.imports(name, *questions))
        return counts.created, counts.updated, counts.unchanged, counts.total

    assert await send(question("b"), question("a", choices=["yes", "no"])) == (2, 0, 0, 2)
    assert await send(question("b"), question("c"), question("a", "mended")) == (1, 1, 1, 3)
    assert await send(question("d")) == (1, 0, 0, 4)
    assert await send(question("d"), question("a", "mended", choices=["yes"])) == (0, 1, 1, 4)
    # Each change is a revision, which asks the first three in the order of import.
    assert await revisions(catalog, name) == [
        [],
        ["b", "a"],
        ["b", "a", "c"],
        ["b", "a", "c"],
        ["b", "a", "c"],
    ]


async def test_all_of_a_question_survives_the_way_to_the_database(catalog: Catalog) -> None:
    name = unique()
    await catalog.one(catalog.put(name))
    odd = tests_pb2.ImportedQuestion(
        question_id='q "1" {,}\\',
        prompt="Zwölf Boxkämpfer\njagen 'Viktor'; 20 °C → NULL?\x01\x7f",
        choices=["", "{a,b}", '"quoted"', "NULL", "ß \\ \t"],
        accepted=["NULL", "{}", 'say "yes"'],
        difficulty="HARD",
        subject="",
    )
    await catalog.one(catalog.imports(name, odd))
    again = await catalog.one(catalog.imports(name, odd))
    assert (again.created, again.updated, again.unchanged) == (0, 0, 1)
    edition = await catalog.edition(name, await catalog.revision(name))
    (kept,) = edition.questions
    assert (kept.question_id, kept.prompt) == (odd.question_id, odd.prompt)
    assert (list(kept.choices), list(kept.accepted)) == (list(odd.choices), list(odd.accepted))
    assert (kept.difficulty, kept.subject) == ("HARD", "")
    assert edition.accepts(odd.question_id, 'say "yes"')


async def test_a_test_has_no_more_questions_than_a_test_may_have(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("session_service.domain.tests.QUESTIONS_PER_TEST_MAX", 3)
    name = unique()
    await catalog.one(catalog.put(name))
    await catalog.one(catalog.imports(name, question("a"), question("b")))
    (refusal,) = await catalog.send(catalog.imports(name, question("c"), question("d"), question("a", "new")))
    assert (refusal.reason, fields(refusal)) == (Reason.INVALID_ARGUMENT, ["questions"])
    assert (await catalog.one(catalog.imports(name, question("a"), question("c")))).total == 3


@pytest.mark.parametrize("loss", [Loss.REQUEST, Loss.ANSWER])
async def test_a_change_whose_commit_was_not_answered_happens_once(databases: Databases, loss: Loss) -> None:
    async with databases.fresh("session") as made, PostgresProxy(made.service).running() as proxy:
        database = await Database.connect(proxy.dsn, maximum=2)
        truth = await asyncpg.connect(made.superuser)
        catalog = Catalog(database, truth)
        try:
            proxy.lose(b"COMMIT", loss)
            assert (await catalog.one(catalog.put("t"))).test.title == "A test"
            proxy.lose(b"COMMIT", loss)
            counts = await catalog.one(catalog.imports("t", question("a"), question("b")))
            # The attempt that follows a lost answer finds its questions there.
            assert (counts.created + counts.unchanged, counts.total) == (2, 2)
            assert proxy.lost == 2
            assert await revisions(catalog, "t") == [[], ["a", "b"]]
        finally:
            await truth.close()
            await database.close()


async def test_a_caller_that_leaves_during_an_import_leaves_it_whole(catalog: Catalog) -> None:
    name = unique()
    await catalog.one(catalog.put(name))
    locking = catalog.truth.transaction()
    await locking.start()
    await catalog.truth.execute("SELECT 1 FROM tests WHERE test_id = $1 FOR UPDATE", name)
    importing = asyncio.create_task(catalog.send(catalog.imports(name, question("a"), question("b"))))
    await eventually(lambda: waiting_for_a_lock(catalog))
    importing.cancel()
    await locking.rollback()
    with pytest.raises(asyncio.CancelledError):
        await importing
    counts = await catalog.one(catalog.imports(name, question("a"), question("b"), question("c")))
    assert counts.total == 3
    assert (await revisions(catalog, name))[-1] == ["a", "b", "c"]


async def waiting_for_a_lock(catalog: Catalog) -> bool:
    return bool(
        await catalog.truth.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    )


# --- lists -----------------------------------------------------------------------------------------------


async def test_tests_are_listed_in_pages(fresh_catalog: Catalog) -> None:
    catalog = fresh_catalog
    names = sorted(unique() for _ in range(5))
    await catalog.send(*(catalog.put(name) for name in names))
    seen: list[list[str]] = []
    token = ""
    for _ in range(4):
        page = await catalog.one(catalog.listing(page_size=2, page_token=token))
        seen.append([test.test_id for test in page.tests])
        token = page.next_page_token
        if not token:
            break
    assert seen == [names[:2], names[2:4], names[4:]]
    assert len((await catalog.one(catalog.listing())).tests) == 5


@pytest.mark.parametrize("token", ["\0", "test-1", "WyJcMCJd", "[99999999999]", "ä", "A" * 1000])
async def test_a_forged_page_token_is_refused_alone(catalog: Catalog, token: str) -> None:
    outcomes = await catalog.send(catalog.listing(page_token=token), catalog.listing())
    assert reasons(outcomes) == [Reason.INVALID_ARGUMENT, None]
    assert fields(outcomes[0]) == ["pageToken"]


async def test_the_token_of_another_list_is_refused(catalog: Catalog) -> None:
    token = catalog.tokens.write("/homeroom.session.v1.SessionService/ListSessions", ("a",))
    (refusal,) = await catalog.send(catalog.listing(page_token=token))
    assert refusal.reason is Reason.INVALID_ARGUMENT


# --- bounds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "most"),
    [
        ("question_count", 1000),
        ("time_limit_seconds", 2_592_000),
        ("max_attempts", 100_000),
        ("credit_cost", 1_000_000),
        ("xp", 1_000_000),
        ("min_engaged_seconds", 2_592_000),
        ("identity_checks", 20),
    ],
)
async def test_the_contract_and_the_database_have_the_same_bounds(
    catalog: Catalog, field: str, most: int
) -> None:
    name = unique()
    assert validate(catalog.put(name, **{field: most}).request) is None
    await catalog.one(catalog.put(name, **{field: most}))
    for wrong in (most + 1, 2**31 - 1, -1):
        assert validate(catalog.put(name, **{field: wrong}).request) is not None
        statement = f"UPDATE test_revisions SET {field} = {wrong} WHERE test_id = $1"  # noqa: S608 - our own
        with pytest.raises(asyncpg.CheckViolationError):
            await catalog.truth.execute(statement, name)


@pytest.mark.parametrize(
    "assignment",
    [
        "prompt = ''",
        "prompt = repeat('x', 10001)",
        "choices = array_fill('x'::text, ARRAY[51])",
        "choices = ARRAY[repeat('x', 100001)]",
        "accepted = '{}'",
        "accepted = array_fill('x'::text, ARRAY[501])",
        "accepted = ARRAY[repeat('x', 1000001)]",
        "difficulty = repeat('x', 51)",
        "subject = repeat('x', 101)",
        "question_id = repeat('x', 129)",
        "position = 20000",
        "since_revision = 0",
        "until_revision = since_revision",
    ],
)
async def test_the_database_bounds_a_question(catalog: Catalog, assignment: str) -> None:
    name = unique()
    await catalog.one(catalog.put(name))
    await catalog.one(catalog.imports(name, question("a")))
    statement = f"UPDATE questions SET {assignment} WHERE test_id = $1"  # noqa: S608 - our own
    with pytest.raises(asyncpg.CheckViolationError):
        await catalog.truth.execute(statement, name)
