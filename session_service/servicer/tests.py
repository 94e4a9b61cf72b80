"""TestService."""

from __future__ import annotations

from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler, PagedOperation, paged, plain
from protos.session.v1 import tests_pb2 as pb
from session_service.domain.tests import NamedTest
from session_service.operations.manage_tests import CatalogAdministration
from session_service.servicer.catalog_messages import (
    import_request,
    import_response,
    named_test,
    test_id_of,
    test_message,
)

SERVICE = "/homeroom.session.v1.TestService"


def handlers(
    *,
    catalog: CatalogAdministration,
    list_tests: PagedOperation[None, NamedTest],
    tokens: PageTokens,
) -> list[Handler]:
    """Tests and their questions."""
    return [
        plain(
            f"{SERVICE}/PutTest",
            named_test,
            catalog.put_tests,
            lambda test: pb.PutTestResponse(test=test_message(test)),
        ),
        plain(
            f"{SERVICE}/GetTest",
            test_id_of,
            catalog.get_tests,
            lambda test: pb.GetTestResponse(test=test_message(test)),
        ),
        plain(f"{SERVICE}/ImportQuestions", import_request, catalog.import_questions, import_response),
        paged(
            f"{SERVICE}/ListTests",
            lambda _: None,
            list_tests,
            test_message,
            position=lambda test: (test.test_id,),
            tokens=tokens,
        ),
    ]
