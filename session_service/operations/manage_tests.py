"""Define tests, import their questions, and show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from chassis.batch import Item, latest_deadline
from chassis.errors import FieldViolation, Reason, ServiceError
from chassis.postgres import DataRefused, LockTimeout, OutcomeUnknown
from chassis.postgres.refusals import busy, refusal_of
from chassis.rpc.paging import Page
from session_service.domain.tests import ImportCounts, NamedTest, Question
from session_service.store.catalog import CatalogChange, CatalogStore, CurrentTest, Decide

QUESTIONS_PER_TEST_MAX = 20_000

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
        """Make each definition the one that the next start of its test uses."""
        return [await self._put(item) for item in items]

    async def import_questions(
        self, items: Sequence[Item[ImportRequest]]
    ) -> list[ImportCounts | ServiceError]:
        """Add or replace questions; sessions under way keep the set that they began with."""
        return [await self._import(item) for item in items]

    async def get_tests(self, items: Sequence[Item[str]]) -> list[NamedTest | ServiceError]:
        """Each test as it stands now."""
        found = await self._tests.get_tests([item.request for item in items], deadline=latest_deadline(items))
        return [found.get(item.request) or _not_found(item.request) for item in items]

    async def list_tests(self, item: Item[None], page: Page) -> list[NamedTest]:
        """Tests in the order of their ids."""
        after = "" if page.after is None else str(page.after[0])
        return await self._tests.list_tests(after=after, limit=page.limit, deadline=item.deadline)

    async def _put(self, item: Item[NamedTest]) -> NamedTest | ServiceError:
        wanted = item.request

        def decide(_current: CurrentTest, _known: Mapping[str, Question]) -> tuple[NamedTest, CatalogChange]:
            return wanted, CatalogChange(definition=wanted.definition)

        return await self._change(item, wanted.test_id, (), decide, create=True)

    async def _import(self, item: Item[ImportRequest]) -> ImportCounts | ServiceError:
        questions = item.request.questions
        twice = _named_twice(questions)
        if twice is not None:
            return twice

        def decide(current: CurrentTest, known: Mapping[str, Question]) -> tuple[ImportCounts, CatalogChange]:
            created = [question for question in questions if question.question_id not in known]
            updated = [
                question
                for question in questions
                if question.question_id in known and known[question.question_id] != question
            ]
            total = current.question_total + len(created)
            if total > QUESTIONS_PER_TEST_MAX:
                raise ServiceError(
                    Reason.INVALID_ARGUMENT,
                    f"A test may have {QUESTIONS_PER_TEST_MAX} questions",
                    violations=[FieldViolation("questions", f"would make {total} questions")],
                )
            unchanged = len(questions) - len(created) - len(updated)
            return (
                ImportCounts(len(created), len(updated), unchanged, total),
                CatalogChange(created=created, updated=updated),
            )

        return await self._change(
            item,
            item.request.test_id,
            [question.question_id for question in questions],
            decide,
            create=False,
        )

    async def _change(
        self,
        item: Item[R],
        test_id: str,
        question_ids: Sequence[str],
        decide: Decide[T],
        *,
        create: bool,
    ) -> T | ServiceError:
        """One test in one transaction; whatever goes wrong is this item's own."""
        try:
            result = await self._tests.change_test(
                test_id, question_ids, decide, create=create, deadline=item.deadline
            )
        except LockTimeout:
            return busy("The test is being changed by another request")
        except DataRefused as trouble:
            return refusal_of(trouble)
        except OutcomeUnknown:
            return busy()
        except ServiceError as refusal:
            return refusal
        return _not_found(test_id) if result is None else result


def _named_twice(questions: Sequence[Question]) -> ServiceError | None:
    seen: set[str] = set()
    for place, question in enumerate(questions):
        if question.question_id in seen:
            field = f"questions[{place}].questionId"
            description = f"{question.question_id!r} comes twice"
            return ServiceError(
                Reason.INVALID_ARGUMENT,
                f"{field}: {description}",
                violations=[FieldViolation(field, description)],
            )
        seen.add(question.question_id)
    return None


def _not_found(test_id: str) -> ServiceError:
    return ServiceError(Reason.NOT_FOUND, "There is no such test", metadata={"testId": test_id})
