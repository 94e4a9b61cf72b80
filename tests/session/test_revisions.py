"""A session is graded by what it showed: the content of a revision never changes, and its size is bounded."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import orjson
import pytest

from chassis.errors import Reason
from chassis.postgres import Database
from chassis.postgres.migrations import migrate
from gateway.transcoding.message_to_json import MessageWriter
from homeroom.embedded.provisioning import ServiceDatabase
from homeroom.schema import migration_folders
from protos.session.v1 import sessions_pb2, tests_pb2
from session_service.domain.tests import ACCEPTED_BYTES_MAX, SHOWN_BYTES_MAX, Edition
from session_service.store.editions import EditionCache, EditionKey
from tests.session.catalog import Catalog, new_catalog, question
from tests.support.databases import Databases

BEFORE_VERSIONS = ("001_create_tests.sql", "002_create_sessions.sql", "003_create_answers.sql")

numbers = itertools.count(1)


@pytest.fixture(scope="module")
async def catalog(databases: Databases) -> AsyncIterator[Catalog]:
    async with new_catalog(databases) as made:
        yield made


def prompts(edition: Edition) -> list[str]:
    return [asked.prompt for asked in edition.questions]


async def new_test(catalog: Catalog, *questions: tests_pb2.ImportedQuestion, question_count: int = 3) -> str:
    name = f"test-{next(numbers)}"
    await catalog.one(catalog.put(name, question_count=question_count))
    if questions:
        await catalog.one(catalog.imports(name, *questions))
    return name


# --- frozen content --------------------------------------------------------------------------------------


async def test_a_mended_question_is_a_new_revision_and_the_old_one_keeps_its_content(
    catalog: Catalog,
) -> None:
    name = await new_test(
        catalog,
        question("a", "2 + 2?", choices=["4", "5"], accepted=["5"]),
        question("b", "3 + 3?", accepted=["6"]),
    )
    running = EditionCache()
    began_with = await catalog.revision(name)
    before = await catalog.edition(name, began_with, running)

    counts = await catalog.one(
        catalog.imports(name, question("a", "2 plus 2?", choices=["4", "6"], accepted=["4"]))
    )
    assert (counts.updated, counts.total) == (1, 2)
    assert await catalog.revision(name) == began_with + 1

    restarted = EditionCache()
    for cache in (running, restarted):
        old = await catalog.edition(name, began_with, cache)
        assert prompts(old) == prompts(before) == ["2 + 2?", "3 + 3?"]
        assert old.questions[0].choices == ("4", "5")
        assert (old.accepts("a", "5"), old.accepts("a", "4")) == (True, False)
        new = await catalog.edition(name, began_with + 1, cache)
        assert prompts(new) == ["2 plus 2?", "3 + 3?"]
        assert new.questions[0].choices == ("4", "6")
        assert (new.accepts("a", "5"), new.accepts("a", "4")) == (False, True)


async def test_each_of_many_revisions_keeps_its_own_content(catalog: Catalog) -> None:
    name = await new_test(catalog, question("a", "a 0"), question("b", "b 0"))
    first = await catalog.revision(name)
    expected = [["a 0", "b 0"]]
    for step in range(1, 6):
        changed = "ab"[step % 2]
        await catalog.one(catalog.imports(name, question(changed, f"{changed} {step}")))
        latest = list(expected[-1])
        latest["ab".index(changed)] = f"{changed} {step}"
        expected.append(latest)
    keys = [EditionKey(name, first + step) for step in range(6)]
    read = await catalog.read(keys, EditionCache())
    assert [prompts(read[key]) for key in keys] == expected


async def test_a_question_that_comes_later_is_asked_by_later_revisions_only(catalog: Catalog) -> None:
    name = await new_test(catalog, question("a"))
    began_with = await catalog.revision(name)
    await catalog.one(catalog.imports(name, question("b")))
    assert [q.question_id for q in (await catalog.edition(name, began_with)).questions] == ["a"]
    assert [q.question_id for q in (await catalog.edition(name, began_with + 1)).questions] == ["a", "b"]


async def test_an_import_that_changes_nothing_changes_nothing(catalog: Catalog) -> None:
    name = await new_test(catalog, question("a"), question("b", choices=["x", "y"]))

    async def state() -> list[asyncpg.Record]:
        return [
            *await catalog.truth.fetch("SELECT * FROM tests WHERE test_id = $1", name),
            *await catalog.truth.fetch("SELECT * FROM questions WHERE test_id = $1 ORDER BY position", name),
            *await catalog.truth.fetch("SELECT * FROM test_revisions WHERE test_id = $1", name),
        ]

    before = await state()
    counts = await catalog.one(catalog.imports(name, question("b", choices=["x", "y"]), question("a")))
    assert (counts.created, counts.updated, counts.unchanged) == (0, 0, 2)
    assert await state() == before


async def test_a_question_that_becomes_what_it_was_is_a_revision_too(catalog: Catalog) -> None:
    name = await new_test(catalog, question("a", "first"))
    began_with = await catalog.revision(name)
    for prompt in ("second", "first"):
        await catalog.one(catalog.imports(name, question("a", prompt)))
    found = [prompts(await catalog.edition(name, began_with + step)) for step in range(3)]
    assert found == [["first"], ["second"], ["first"]]


async def test_imports_of_one_test_at_once_all_hold(catalog: Catalog) -> None:
    name = await new_test(catalog, question("shared", "import 0"), question_count=100)
    first = await catalog.revision(name)
    found = await asyncio.gather(
        *(
            catalog.send(catalog.imports(name, question("shared", f"import {n}"), question(f"own {n}")))
            for n in range(1, 9)
        )
    )
    assert sorted(outcome.total for (outcome,) in found) == list(range(2, 10))
    assert await catalog.revision(name) == first + 8
    latest = await catalog.edition(name, first + 8)
    assert {q.question_id for q in latest.questions} == {"shared", *(f"own {n}" for n in range(1, 9))}
    # Each revision shows the shared question as the import has it that has made the revision.
    for step in range(1, 9):
        *_, added = (edition := await catalog.edition(name, first + step)).questions
        assert edition.questions[0].prompt == added.question_id.replace("own", "import")


async def test_what_a_start_reads_beside_imports_is_always_one_whole_revision(catalog: Catalog) -> None:
    def content(n: int) -> list[tests_pb2.ImportedQuestion]:
        return [question(name, f"content {n}", accepted=[f"right {n}"]) for name in "abc"]

    name = await new_test(catalog, *content(0))
    seen: dict[int, set[str]] = {}
    imported = asyncio.Event()

    async def start() -> None:
        while not imported.is_set():
            revision = await catalog.database.read(
                lambda connection: connection.fetchval("SELECT revision FROM tests WHERE test_id = $1", name),
                deadline=time.monotonic() + 10,
            )
            edition = await catalog.edition(name, revision)
            assert len(edition.questions) == 3
            seen.setdefault(revision, set()).update(prompts(edition))

    async def change() -> None:
        for n in range(1, 21):
            await catalog.one(catalog.imports(name, *content(n)))
        imported.set()

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(start())
        group.create_task(change())
    first = await catalog.revision(name) - 20
    assert seen == {revision: {f"content {revision - first}"} for revision in seen}


async def test_a_cache_that_is_full_still_gives_every_edition(catalog: Catalog) -> None:
    names = [await new_test(catalog, question("a", f"of {n}")) for n in range(4)]
    keys = [EditionKey(name, await catalog.revision(name)) for name in names]
    editions = EditionCache(characters_max=1)
    for _ in range(2):
        read = await catalog.read(keys, editions)
        assert [prompts(read[key]) for key in keys] == [[f"of {n}"] for n in range(4)]
    for key in keys:
        assert (await catalog.read([key], editions))[key].test_id == key.test_id


async def test_an_edition_that_does_not_exist_is_absent(catalog: Catalog) -> None:
    name = await new_test(catalog)
    known = EditionKey(name, 1)
    assert list(await catalog.read([known, EditionKey(name, 99)], EditionCache())) == [known]


# --- sizes -----------------------------------------------------------------------------------------------


def large(name: str, characters: int = 10_000, character: str = "x") -> tests_pb2.ImportedQuestion:
    return question(name, character * characters)


async def test_questions_that_are_too_large_together_are_refused_alone(catalog: Catalog) -> None:
    few = SHOWN_BYTES_MAX // 10_100
    name, polite = await new_test(catalog, question_count=1000), await new_test(catalog)
    await catalog.one(catalog.imports(name, *(large(f"q{n}") for n in range(few))))
    before = await catalog.revision(name)
    refusal, imported = await catalog.send(
        catalog.imports(name, *(large(f"more {n}") for n in range(20)), question("q0", "mended")),
        catalog.imports(polite, question("a")),
    )
    assert refusal.reason is Reason.INVALID_ARGUMENT
    assert [violation.field for violation in refusal.violations] == ["questions"]
    assert imported.created == 1
    assert await catalog.revision(name) == before
    assert (await catalog.edition(name, before)).questions[0].prompt == "x" * 10_000
    assert (await catalog.truth.fetchval("SELECT count(*) FROM questions WHERE test_id = $1", name)) == few


async def test_a_definition_that_asks_too_much_is_refused_alone(catalog: Catalog) -> None:
    name = await new_test(catalog, question_count=10)
    await catalog.one(catalog.imports(name, *(large(f"q{n}") for n in range(400))))
    refusal, put = await catalog.send(
        catalog.put(name, question_count=400), catalog.put(name, question_count=300)
    )
    assert refusal.reason is Reason.INVALID_ARGUMENT
    assert [violation.field for violation in refusal.violations] == ["questionCount"]
    assert put.test.question_count == 300
    assert (await catalog.edition(name, await catalog.revision(name))).total == 300


async def test_a_text_counts_as_large_as_its_json(catalog: Catalog) -> None:
    # A control character takes one byte in protobuf, and six in JSON.
    name = await new_test(catalog, question_count=1000)
    (refusal,) = await catalog.send(
        catalog.imports(name, *(large(f"q{n}", character="\x01") for n in range(70)))
    )
    assert refusal.reason is Reason.INVALID_ARGUMENT


async def test_the_largest_answer_is_as_large_as_it_was_measured(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = [
        question("q", '\x01"\\/\n\t\x7f ä → 😀 \u2028 <&>', choices=["", "a\x1f", '"']),
        question('"2"', "free text"),
    ]
    write = MessageWriter(sessions_pb2.Session.Question.DESCRIPTOR)
    shown_bytes = sum(
        len(
            orjson.dumps(
                write(
                    sessions_pb2.Session.Question(
                        question_id=each.question_id, prompt=each.prompt, choices=each.choices
                    )
                )
            )
        )
        + len(",")
        for each in odd
    )
    name = await new_test(catalog)
    monkeypatch.setattr("session_service.domain.tests.SHOWN_BYTES_MAX", shown_bytes - 1)
    (refusal,) = await catalog.send(catalog.imports(name, *odd))
    assert refusal.reason is Reason.INVALID_ARGUMENT
    monkeypatch.setattr("session_service.domain.tests.SHOWN_BYTES_MAX", shown_bytes)
    assert (await catalog.one(catalog.imports(name, *odd))).created == 2


async def test_the_accepted_answers_are_bounded_too(catalog: Catalog) -> None:
    name = await new_test(catalog)
    long = ["x" * 2000] * 500
    assert ACCEPTED_BYTES_MAX < 5 * 1_000_000
    await catalog.one(catalog.put(name, question_count=5))
    (refusal,) = await catalog.send(
        catalog.imports(name, *(question(f"q{n}", accepted=long) for n in range(5)))
    )
    assert refusal.reason is Reason.INVALID_ARGUMENT
    assert [violation.field for violation in refusal.violations] == ["questions"]


# --- the migration ---------------------------------------------------------------------------------------


async def test_tests_from_before_the_versions_can_be_asked_and_mended(
    databases: Databases, empty_database: ServiceDatabase, tmp_path: Path
) -> None:
    folders = dict(migration_folders("session_service"))
    component = next(name for name, folder in folders.items() if folder.parent.name == "session_service")
    for name in BEFORE_VERSIONS:
        shutil.copy(folders[component] / name, tmp_path)
    await migrate(empty_database.owner, folders | {component: tmp_path})
    truth = await asyncpg.connect(empty_database.superuser)
    await truth.execute(
        """
        INSERT INTO tests (test_id, revision, content_version, question_total) VALUES ('old', 2, 5, 2);
        INSERT INTO questions (test_id, question_id, position, prompt, choices, accepted)
        VALUES ('old', 'a', 0, 'A?', '{}', '{yes}'), ('old', 'b', 1, 'B?', '{yes,no}', '{yes}');
        INSERT INTO test_revisions (
            test_id, revision, title, kind, difficulty, question_count, credit_cost,
            counts_toward_daily_limit, question_ids, max_attempts, min_engaged_seconds
        )
        VALUES ('old', 1, 'Old', 'quiz', '', 2, 0, true, '{a}', NULL, 2147483647),
               ('old', 2, 'Old', 'quiz', '', 2, 0, true, '{a,b}', 2147483647, NULL)
        """
    )
    await migrate(empty_database.owner, folders)
    database = await Database.connect(empty_database.service, maximum=2)
    try:
        catalog = Catalog(database, truth)
        assert prompts(await catalog.edition("old", 1)) == ["A?"]
        assert (await catalog.edition("old", 1)).definition.min_engaged_seconds == 2_592_000
        await catalog.one(catalog.imports("old", question("a", "mended"), question("c")))
        assert prompts(await catalog.edition("old", 2)) == ["A?", "B?"]
        assert prompts(await catalog.edition("old", 3)) == ["mended", "B?"]
        assert (await catalog.one(catalog.get("old"))).test.max_attempts == 100_000
        # A process of the previous version still adds questions: it names no revision.
        await truth.execute(
            "INSERT INTO questions (test_id, question_id, position, prompt, choices, accepted)"
            " VALUES ('old', 'd', 3, 'D?', '{}', '{yes}')"
        )
        await truth.execute("UPDATE tests SET question_total = 4 WHERE test_id = 'old'")
        await catalog.one(catalog.put("old", question_count=4))
        assert prompts(await catalog.edition("old", 4)) == ["mended", "B?", "?", "D?"]
    finally:
        await truth.close()
        await database.close()
