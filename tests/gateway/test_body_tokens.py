"""The token in the body: for what a page sends while it is being closed, and for nothing else."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from protos.session.v1 import presence_pb2
from tests.gateway.backend import Backend
from tests.gateway.running import Answer, Gateway

PATH = "/v1/sessions/s-1:close"
BEACON = {"Content-Type": "text/plain;charset=UTF-8"}


async def leave(gateway: Gateway, body: Any, *, token: str | None = None, **options: Any) -> Answer:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return await gateway.request(
        "POST", PATH, data=data, token=token, key=None, **({"headers": BEACON} | options)
    )


@pytest.mark.parametrize("content_type", ["text/plain;charset=UTF-8", "text/plain", "application/json"])
async def test_a_beacon_s_token_is_in_its_body_and_goes_no_further(
    gateway: Gateway, backend: Backend, content_type: str
) -> None:
    token = gateway.identity.token("bea")
    answer = await leave(gateway, {"token": token}, headers={"Content-Type": content_type})
    assert answer.status == 200
    assert backend.only_item.user_id == "bea"
    assert backend.only_item.request == presence_pb2.LeaveSessionRequest(session_id="s-1")


async def test_the_header_wins_and_the_body_s_token_is_still_taken_out(
    gateway: Gateway, backend: Backend
) -> None:
    answer = await leave(gateway, {"token": gateway.identity.token("eve")}, token="")
    assert answer.status == 200
    assert (backend.only_item.user_id, backend.only_item.request.token) == ("ada", "")
    refused = await leave(gateway, {"token": gateway.identity.token("eve")}, token="no token")
    assert refused.reason == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"token": ""}', b'{"token": "no token"}', b'{"token": "\xc3\xa9"}']
)
async def test_without_a_good_token_nobody_is_let_in(gateway: Gateway, backend: Backend, body: bytes) -> None:
    answer = await leave(gateway, body)
    assert (answer.status, answer.reason) == (401, "UNAUTHENTICATED")
    assert not backend.items


async def test_roles_still_count(gateway: Gateway, backend: Backend) -> None:
    answer = await leave(gateway, {"token": gateway.identity.token("root", ("admin",))})
    assert answer.reason == "PERMISSION_DENIED"
    assert not backend.items


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"token": "secret" * 2000}, 413),
        ({"token": "secret" * 1200}, 400),
        ({"token": 5, "secret": "secret"}, 400),
        ({"token": ["secret"]}, 400),
        (b'{"token": "secret', 400),
    ],
)
async def test_a_refusal_does_not_repeat_the_body(
    gateway: Gateway, capfd: pytest.CaptureFixture[str], body: Any, status: int
) -> None:
    answer = await leave(gateway, body)
    assert answer.status == status
    output = capfd.readouterr()
    assert b"secretsecret" not in answer.body
    assert "secretsecret" not in output.out + output.err


async def test_a_token_is_nowhere_in_the_logs(gateway: Gateway, capfd: pytest.CaptureFixture[str]) -> None:
    token = gateway.identity.token("bea")
    await leave(gateway, {"token": token})
    await leave(gateway, {"token": token[:-8]})
    output = capfd.readouterr()
    assert token[:-8] not in output.out + output.err


async def test_other_methods_take_neither_text_nor_a_token_in_their_body(
    gateway: Gateway, backend: Backend
) -> None:
    token = gateway.identity.token("bea")
    data = orjson.dumps({"token": token, "seq": 1})
    beat = "/v1/sessions/s-1:heartbeat"
    nobody = await gateway.request("POST", beat, data=data, token=None, headers=BEACON)
    assert nobody.reason == "UNAUTHENTICATED"
    as_text = await gateway.request("POST", beat, data=b'{"seq": 1}', headers=BEACON)
    assert as_text.reason == "UNSUPPORTED_MEDIA_TYPE"
    with_token = await gateway.request("POST", beat, data=data)
    assert with_token.fields == {"token": "is not a known field"}
    assert not backend.items
