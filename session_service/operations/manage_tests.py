"""Define tests, import their questions, and show them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from chassis.batch import Item, latest_deadline
from chassis.errors import ServiceError
from chassis.postgres.errors import LockTimeout
from chassis.postgres.isolation import Locked, run_isolated
from session_service.domain.missing import no_such_test
from session_service.domain.tests import ImportCounts, NamedTest, Question, plan_import, require_distinct
from session_service.store.catalog import CatalogChange, CatalogStore, CurrentTest

C = TypeVar("C", "ImportRequest", NamedTest)
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
        return [found.get(item.request) or no_such_test(item.request) for item in items]

    async def _put(self, item: Item[NamedTest], wait: bool) -> NamedTest:
        wanted = item.request
        change = CatalogChange(field_at_fault="questionCount", definition=wanted.definition)
        await self._tests.change_test(
            wanted.test_id,
            (),
            lambda _current, _known: (None, change),
            create=True,
            wait=wait,
            deadline=item.deadline,
        )
        return wanted

    async def _import(self, item: Item[ImportRequest], wait: bool) -> ImportCounts:
        test_id, questions = item.request.test_id, item.request.questions
        require_distinct(questions)

        def decide(current: CurrentTest, known: Mapping[str, Question]) -> tuple[ImportCounts, CatalogChange]:
            plan = plan_import(questions, known, current.question_total)
            change = CatalogChange(field_at_fault="questions", created=plan.created, updated=plan.updated)
            return plan.counts, change

        question_ids = [question.question_id for question in questions]
        counts = await self._tests.change_test(
            test_id, question_ids, decide, create=False, wait=wait, deadline=item.deadline
        )
        if counts is None:
            raise no_such_test(test_id)
        return counts


async def _one_by_one(
    items: Sequence[Item[C]], change: Callable[[Item[C], bool], Awaitable[T]]
) -> list[T | ServiceError]:
    """Makes one change after the other, each in a transaction and by a deadline of its own.

    Only the changes of a locked test wait for its lock. The changes of one test are made in their order.
    """
    done: dict[int, T | ServiceError] = {}

    async def attempt(places: Sequence[int], wait: bool) -> list[T | ServiceError | Locked]:
        outcomes: list[T | ServiceError | Locked] = []
        locked: set[str] = set()
        for place in places:
            test_id = items[place].request.test_id
            if test_id not in locked and place not in done:
                try:
                    done[place] = await change(items[place], wait)
                except ServiceError as refusal:
                    done[place] = refusal
                except LockTimeout:
                    locked.add(test_id)
            outcomes.append(done.get(place, Locked.HELD_BY_ANOTHER))
        return outcomes

    return await run_isolated(range(len(items)), attempt, owner_of=lambda place: items[place].request.test_id)
