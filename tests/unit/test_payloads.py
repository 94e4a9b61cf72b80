"""A context travels as metadata, whatever text its user id is."""

from __future__ import annotations

from urllib.parse import unquote

import pytest

from chassis.context import service_context
from chassis.rpc.payloads import metadata_of
from chassis.rpc.wire import METADATA_USER


@pytest.mark.parametrize(
    "user_id", ["ada", "a b", "ü", "\u202e", "a\nb", "100%", "a/b:c@d", "\U0001f600" * 8]
)
def test_a_user_id_travels_as_printable_ascii_and_arrives_as_it_was(user_id: str) -> None:
    context = service_context("/test", timeout_seconds=1)._replace(user_id=user_id)
    sent = dict(metadata_of(context))[METADATA_USER]
    assert sent.isascii()
    assert sent.isprintable()
    assert " " not in sent
    assert unquote(sent) == user_id
