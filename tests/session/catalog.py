"""The catalog of session_service on a database of its own, without sessions and without neighbours."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
from google.protobuf.message import Message

from chassis.batch import Item, Reply
from chassis.context import Context
from chassis.errors import ServiceError
from chassis.postgres import Connection, Database
from chassis.rpc.methods import find_method
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import UnaryHandler
from protos.session.v1 import tests_pb2
from session_service.domain.tests import Edition
from session_service.operations.manage_tests import CatalogAdministration
from session_service.servicer import tests
from session_service.store.catalog import CatalogStore
from session_service.store.editions import EditionCache, EditionKey
from tests.support.databases import Databases

SECRET = "a-secret-among-processes"
DEFINITION: dict[str, Any] = {"title": "A test", "kind": tests_pb2.Test.PRACTICE, "question_count": 3}


@dataclass
class Catalog:
    """The handlers of TestService, and the truth as a superuser sees it."""

    database: Database
    truth: Connection

    def __post_init__(self) -> None:
        store = CatalogStore(database=self.database)
        self.tokens = PageTokens(secret=SECRET)
        self._handlers = {
            handler.method.name: handler
            for handler in tests.handlers(
                catalog=CatalogAdministration(tests=store), list_tests=store.list_tests, tokens=self.tokens
            )
            if isinstance(handler, UnaryHandler)
        }

    # --- calls ---------------------------------------------------------------------------------------

    def put(self, test_id: str, *, seconds: float = 10.0, **fields: Any) -> Item[Any]:
        request = tests_pb2.PutTestRequest(test_id=test_id, **(DEFINITION | fields))
        return item("PutTest", request, seconds=seconds)

    def get(self, test_id: str, *, seconds: float = 10.0) -> Item[Any]:
        return item("GetTest", tests_pb2.GetTestRequest(test_id=test_id), seconds=seconds)

    def imports(
        self, test_id: str, *questions: tests_pb2.ImportedQuestion, seconds: float = 10.0
    ) -> Item[Any]:
        request = tests_pb2.ImportQuestionsRequest(test_id=test_id, questions=questions)
        return item("ImportQuestions", request, seconds=seconds)

    def listing(self, *, page_size: int = 0, page_token: str = "", seconds: float = 10.0) -> Item[Any]:
        request = tests_pb2.ListTestsRequest(page_size=page_size, page_token=page_token)
        return item("ListTests", request, seconds=seconds)

    async def send(self, *items: Item[Any]) -> list[Any]:
        """The outcomes of a batch of one method: response messages, or ServiceErrors."""
        method = find_method(items[0].context.method)
        outcomes = await self._handlers[method.name].answer(items)
        assert len(outcomes) == len(items)
        return [
            method.response_type.FromString(outcome.payload()) if isinstance(outcome, Reply) else outcome
            for outcome in outcomes
        ]

    async def one(self, request: Item[Any]) -> Any:
        """The single answer; raises the ServiceError that came instead."""
        (outcome,) = await self.send(request)
        if isinstance(outcome, ServiceError):
            raise outcome
        return outcome

    # --- the truth -----------------------------------------------------------------------------------

    async def revision(self, test_id: str) -> int:
        """The revision that the next start uses."""
        revision = await self.truth.fetchval("SELECT revision FROM tests WHERE test_id = $1", test_id)
        assert isinstance(revision, int)
        return revision

    async def edition(self, test_id: str, revision: int, editions: EditionCache | None = None) -> Edition:
        """What a session of this revision asks; without a cache, as read by a process that has just begun."""
        key = EditionKey(test_id, revision)
        return (await self.read([key], editions or EditionCache()))[key]

    async def read(self, keys: Sequence[EditionKey], editions: EditionCache) -> dict[EditionKey, Edition]:
        async def work(connection: Connection) -> dict[EditionKey, Edition]:
            return await editions.get(connection, keys)

        return await self.database.read(work, deadline=time.monotonic() + 10)


def item(method: str, request: Message, *, seconds: float) -> Item[Any]:
    context = Context(
        method=f"{tests.SERVICE}/{method}",
        user_id="admin",
        roles=frozenset({"admin"}),
        idempotency_key="",
        request_id="",
        deadline=time.monotonic() + seconds,
        traceparent="",
    )
    return Item(context, request)


def question(name: str, prompt: str = "?", **fields: Any) -> tests_pb2.ImportedQuestion:
    return tests_pb2.ImportedQuestion(question_id=name, prompt=prompt, **({"accepted": ["yes"]} | fields))


@asynccontextmanager
async def new_catalog(databases: Databases) -> AsyncIterator[Catalog]:
    async with databases.fresh("session") as made:
        database = await Database.connect(made.service, maximum=8)
        truth = await asyncpg.connect(made.superuser)
        try:
            yield Catalog(database, truth)
        finally:
            await truth.close()
            await database.close()
