"""TestService."""

from __future__ import annotations

from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler, paged, plain
from session_service.operations.manage_tests import CatalogAdministration
from session_service.servicer.catalog_messages import (
    get_response,
    import_request,
    import_response,
    named_test,
    put_response,
    test_id_of,
    test_message,
)

NAME = "homeroom.session.v1.TestService"


def handlers(*, catalog: CatalogAdministration, tokens: PageTokens) -> list[Handler]:
    """Serves tests and their questions."""
    return [
        plain(f"/{NAME}/PutTest", named_test, catalog.put_tests, put_response),
        plain(f"/{NAME}/GetTest", test_id_of, catalog.get_tests, get_response),
        plain(f"/{NAME}/ImportQuestions", import_request, catalog.import_questions, import_response),
        paged(
            f"/{NAME}/ListTests",
            lambda _: None,
            catalog.list_tests,
            test_message,
            position=lambda test: (test.test_id,),
            tokens=tokens,
        ),
    ]
