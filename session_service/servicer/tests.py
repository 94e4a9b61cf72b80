"""TestService."""

from __future__ import annotations

from chassis.batch import Item
from chassis.rpc.paging import PageTokens, Position
from chassis.rpc.servicing import Handler, paged, plain
from protos.session.v1 import tests_pb2
from session_service.domain.tests import ImportCounts, NamedTest
from session_service.operations.manage_tests import CatalogAdministration, ImportRequest
from session_service.servicer.messages import test_message
from session_service.servicer.requests import import_request, named_test, test_id_of

_SERVICE = "/homeroom.session.v1.TestService"


def handlers(*, catalog: CatalogAdministration, tokens: PageTokens) -> list[Handler]:
    """Tests and their questions."""
    return [
        plain(f"{_SERVICE}/PutTest", _named_test, catalog.put_tests, _put),
        plain(f"{_SERVICE}/GetTest", test_id_of, catalog.get_tests, _got),
        paged(
            f"{_SERVICE}/ListTests",
            _nothing,
            catalog.list_tests,
            test_message,
            position=_position,
            tokens=tokens,
        ),
        plain(
            f"{_SERVICE}/ImportQuestions",
            _import_request,
            catalog.import_questions,
            _imported,
        ),
    ]


def _named_test(item: Item[tests_pb2.PutTestRequest]) -> NamedTest:
    return named_test(item.request)


def _import_request(item: Item[tests_pb2.ImportQuestionsRequest]) -> ImportRequest:
    return import_request(item.request)


def _nothing(_item: Item[tests_pb2.ListTestsRequest]) -> None:
    return None


def _position(test: NamedTest) -> Position:
    return (test.test_id,)


def _put(test: NamedTest) -> tests_pb2.PutTestResponse:
    return tests_pb2.PutTestResponse(test=test_message(test))


def _got(test: NamedTest) -> tests_pb2.GetTestResponse:
    return tests_pb2.GetTestResponse(test=test_message(test))


def _imported(counts: ImportCounts) -> tests_pb2.ImportQuestionsResponse:
    return tests_pb2.ImportQuestionsResponse(
        created=counts.created, updated=counts.updated, unchanged=counts.unchanged, total=counts.total
    )
