"""Define tests, import their questions, and show them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from chassis.batch import Item, latest_deadline
from chassis.errors import Reason, ServiceError
from chassis.postgres.isolation import run_isolated
from chassis.rpc.paging import Page
from session_service.domain.tests import ImportCounts, NamedTest, Question, plan_import, require_distinct
from session_service.store.catalog import CatalogChange, CatalogStore, CurrentTest

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """Questions to add to a test, or to replace there, in the order in which they are to be asked."""

    test_id: str
    questions: Sequence[Question]


class CatalogAdministration:
    """What administrators do to tests, and what everyone may see of them."""

    def __init__(self, *, tests: CatalogStore) -> None:
        self._tests = tests

    async def put_tests(self, items: Sequence[Item[NamedTest]]) -> list[NamedTest | ServiceError]:
        """Makes each definition the one that the next start of its test uses."""
        return await _one_by_one(items, self._put)

    async def import_questions(
        self, items: Sequence[Item[ImportRequest]]
    ) -> list[ImportCounts | ServiceError]:
        """Adds or replaces questions; sessions under way keep the content that they began with."""
        return await _one_by_one(items, self._import)

    async def get_tests(self, items: Sequence[Item[str]]) -> list[NamedTest | ServiceError]:
        """Each test as it stands now."""
        found = await self._tests.get_tests([item.request for item in items], deadline=latest_deadline(items))
        return [found.get(item.request) or _not_found(item.request) for item in items]

    async def list_tests(self, item: Item[None], page: Page) -> list[NamedTest]:
        """The tests of one page, in the order of their ids."""
        after = "" if page.after is None else str(page.after[0])
        return await self._tests.list_tests(after=after, limit=page.limit, deadline=item.deadline)

    async def _put(self, item: Item[NamedTest]) -> NamedTest:
        wanted = item.request
        change = CatalogChange(field_at_fault="questionCount", definition=wanted.definition)
        await self._tests.change_test(
            wanted.test_id, (), lambda _current, _known: (None, change), create=True, deadline=item.deadline
        )
        return wanted

    async def _import(self, item: Item[ImportRequest]) -> ImportCounts:
        test_id, questions = item.request.test_id, item.request.questions
        require_distinct(questions)

        def decide(current: CurrentTest, known: Mapping[str, Question]) -> tuple[ImportCounts, CatalogChange]:
            plan = plan_import(questions, known, current.question_total)
            change = CatalogChange(field_at_fault="questions", created=plan.created, updated=plan.updated)
            return plan.counts, change

        question_ids = [question.question_id for question in questions]
        counts = await self._tests.change_test(
            test_id, question_ids, decide, create=False, deadline=item.deadline
        )
        if counts is None:
            raise _not_found(test_id)
        return counts


async def _one_by_one(
    items: Sequence[Item[R]], change: Callable[[Item[R]], Awaitable[T]]
) -> list[T | ServiceError]:
    """Changes one test after the other, each in a transaction and by a deadline of its own."""

    async def attempt(alone: Sequence[Item[R]], _wait: bool) -> list[T]:
        return [await change(item) for item in alone]

    outcomes: list[T | ServiceError] = []
    for item in items:
        outcomes += await run_isolated([item], attempt, owner_of=lambda item: item.user_id)
    return outcomes


def _not_found(test_id: str) -> ServiceError:
    return ServiceError(Reason.NOT_FOUND, "There is no such test", metadata={"testId": test_id})
