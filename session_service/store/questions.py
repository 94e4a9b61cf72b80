"""Reads of a test's questions, with their accepted answers."""

from __future__ import annotations

from dataclasses import dataclass

from chassis.batch import Item
from chassis.postgres import Connection, Database
from chassis.rpc.paging import Page
from session_service.domain.missing import no_such_test
from session_service.domain.tests import Question
from session_service.store.catalog_rows import QUESTION_COLUMNS, question_from

BEFORE_THE_FIRST = -1


@dataclass(frozen=True, slots=True)
class PlacedQuestion:
    """A question, and its place among the questions of its test."""

    position: int
    question: Question


class QuestionStore:
    """Lists the questions that a test has now."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def list_questions(self, item: Item[str], page: Page) -> list[PlacedQuestion]:
        """The questions of a test in their order; raises ServiceError with NOT_FOUND if it does not exist."""
        (after,) = page.after or (BEFORE_THE_FIRST,)

        async def work(connection: Connection) -> list[PlacedQuestion]:
            rows = await connection.fetch(_LIST_QUESTIONS, item.request, after, page.limit)
            if not rows and not await connection.fetchval(_FIND_TEST, item.request):
                raise no_such_test(item.request)
            return [PlacedQuestion(row["position"], question_from(row)) for row in rows]

        return await self._database.read(work, deadline=item.deadline, name="list_questions")


_LIST_QUESTIONS = f"""
    SELECT position, {QUESTION_COLUMNS}
      FROM questions
     WHERE test_id = $1 AND until_revision IS NULL AND position > $2
     ORDER BY position
     LIMIT $3
"""
_FIND_TEST = "SELECT true FROM tests WHERE test_id = $1"
