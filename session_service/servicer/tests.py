"""TestService."""

from __future__ import annotations

from chassis.batch import Item
from protos.session.v1 import tests_pb2
from session_service.domain.tests import ImportCounts, NamedTest
from session_service.operations.manage_tests import CatalogAdministration, CatalogPage
from session_service.servicer.batches import Outcome, plain
from session_service.servicer.messages import test_message
from session_service.servicer.requests import import_request, named_test, test_id_of, tests_wanted

NAME = "homeroom.session.v1.TestService"


class CatalogServicer:
    """Tests and their questions."""

    def __init__(self, *, catalog: CatalogAdministration) -> None:
        self._catalog = catalog

    async def PutTest(self, batch: list[Item[tests_pb2.PutTestRequest]]) -> list[Outcome]:
        return await plain(batch, named_test, self._catalog.put_tests, _put)

    async def GetTest(self, batch: list[Item[tests_pb2.GetTestRequest]]) -> list[Outcome]:
        return await plain(batch, test_id_of, self._catalog.get_tests, _got)

    async def ListTests(self, batch: list[Item[tests_pb2.ListTestsRequest]]) -> list[Outcome]:
        return await plain(batch, tests_wanted, self._catalog.list_tests, _listed)

    async def ImportQuestions(self, batch: list[Item[tests_pb2.ImportQuestionsRequest]]) -> list[Outcome]:
        return await plain(batch, import_request, self._catalog.import_questions, _imported)


def _put(test: NamedTest) -> tests_pb2.PutTestResponse:
    return tests_pb2.PutTestResponse(test=test_message(test))


def _got(test: NamedTest) -> tests_pb2.GetTestResponse:
    return tests_pb2.GetTestResponse(test=test_message(test))


def _listed(page: CatalogPage) -> tests_pb2.ListTestsResponse:
    return tests_pb2.ListTestsResponse(
        tests=[test_message(test) for test in page.tests], next_page_token=page.next_after
    )


def _imported(counts: ImportCounts) -> tests_pb2.ImportQuestionsResponse:
    return tests_pb2.ImportQuestionsResponse(
        created=counts.created, updated=counts.updated, unchanged=counts.unchanged, total=counts.total
    )
